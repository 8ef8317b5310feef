"""The DAG: its tasks and edges, the day of a run, its parameters."""

import ast
import copy
import os
import runpy
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval, TimeRestriction

from dags.daily_refresh import refresh
from dags.day import day
from dags.processes import business_time_zone
from tests.dags.stand_in import ROOT

CHAIN = [
    "land", "clean", "check_clean", "features", "check_features", "train",
    "encode", "segment", "score", "publish", "check_marts", "report", "notify",
]  # fmt: skip
EDGE = "LocalExecutor,airflow.providers.edge3.executors.EdgeExecutor"
ALIAS = EDGE.replace(",", ", gpu:")

PARSE = """
import sys
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import Connection, Variable

FORBIDDEN = ("sqlite3.connect", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.fork")
lookups = []
sys.addaudithook(lambda event, args: lookups.append(event) if event in FORBIDDEN else None)
for kind in (Connection, Variable):
    kind.get = classmethod(lambda cls, key, *a, **k: lookups.append(f"{cls.__name__} {key}"))
bag = DagBag(sys.argv[1])
print(bag.import_errors, list(bag.dags), lookups)
"""


def parse(folder) -> str:
    return run_python(PARSE, str(folder))


def run_python(code: str, *arguments: str, **environment: str) -> str:
    """Run code in a process of its own and return the last line that it prints."""
    command, env = [sys.executable, "-c", code, *arguments], {**os.environ, **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.splitlines()[-1]


def test_the_folder_has_one_dag_and_parsing_it_makes_no_lookup():
    assert parse(ROOT / "dags") == "{} ['daily_refresh'] []"


def test_a_lookup_during_parsing_would_be_noticed(tmp_path):
    (tmp_path / "bad.py").write_text(
        "import sqlite3\nfrom airflow.sdk import DAG, Variable\n"
        "Variable.get('x')\nsqlite3.connect(':memory:')\ndag = DAG('bad')\n"
    )
    assert parse(tmp_path) == "{} ['bad'] ['Variable x', 'sqlite3.connect']"


def test_tasks_and_edges_are_one_chain_and_encode_knows_whether_the_day_was_skipped_before_train():
    edges = {task.task_id: sorted(task.downstream_task_ids) for task in refresh.tasks}
    assert edges == {step: [after] for step, after in pairwise(CHAIN)} | {"check_features": ["encode", "train"], "notify": []}


def test_each_task_runs_its_own_command():
    commands = {t.task_id: getattr(t, "command", None) or t.application_args for t in refresh.tasks}
    day_arguments = ["--day", "{{ day(params, dag_run) }}"]
    retrain = ["{{ '--retrain' if params.retrain else '' }}"]
    assert commands == {step: [*step.split("_"), *day_arguments] for step in CHAIN} | {
        "train": ["train", *day_arguments, *retrain],
        "publish": ["publish", *day_arguments, "--run-id", "{{ run_id }}", "--started-at", "{{ dag_run.start_date | ts }}"],
    }


def test_spark_steps_share_one_slot_and_training_has_its_own_queue():
    assert {t.task_id: t.pool for t in refresh.tasks if t.pool != "spark"} == {
        "train": "gpu",
        "report": "default_pool",
        "notify": "default_pool",
    }
    assert {t.task_id: t.queue for t in refresh.tasks if t.queue != "default"} == {"train": "gpu"}


@pytest.mark.parametrize(("executors", "expected"), [("LocalExecutor", None), (EDGE, "EdgeExecutor"), (ALIAS, "EdgeExecutor")])
def test_training_goes_to_the_edge_executor_only_where_there_is_one(executors, expected):
    code = "from dags.daily_refresh import refresh; print({t.task_id: t.executor for t in refresh.tasks})"
    executor = ast.literal_eval(run_python(code, AIRFLOW__CORE__EXECUTOR=executors))
    assert executor == dict.fromkeys(CHAIN) | {"train": expected}


def test_a_skipped_training_does_not_skip_what_follows():
    rules = {t.task_id: t.trigger_rule.value for t in refresh.tasks}
    assert rules == dict.fromkeys(CHAIN, "all_success") | {"encode": "none_failed_min_one_success"}


def test_every_task_has_a_timeout_retries_and_a_runbook():
    for task in refresh.tasks:
        assert task.execution_timeout <= timedelta(hours=6)
        assert task.retries == 2
        assert task.on_failure_callback
        assert "**Red:**" in task.doc_md


def test_training_is_retried_after_seconds():
    delays = {t.task_id: (t.retry_delay, t.retry_exponential_backoff) for t in refresh.tasks}
    assert delays == dict.fromkeys(CHAIN, (timedelta(minutes=5), True)) | {"train": (timedelta(seconds=10), False)}


def test_only_publish_has_outlets_which_are_the_published_tables():
    outlets = {t.task_id: [a.name for a in t.outlets] for t in refresh.tasks if t.outlets}
    assert outlets == {
        "publish": [
            "segments.assignments", "segments.history",
            "marts.customer_segments", "marts.segment_profiles", "marts.segment_changes", "marts.segment_moves",
            "marts.segment_demand", "marts.effects", "marts.campaign_uplift", "marts.refreshes",
        ]
    }  # fmt: skip


def test_one_run_at_a_time_no_catch_up_and_the_runbook_in_the_page():
    assert (refresh.catchup, refresh.max_active_runs) == (False, 1)
    assert refresh.doc_md.startswith("# The daily refresh")


def test_a_run_by_hand_for_a_day_years_ago_has_its_tasks():
    # Airflow omits a task from a run whose logical date is before the task's start date: the run "succeeds" without tasks.
    deserialized = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(refresh))
    assert max(t.start_date for t in deserialized.tasks) <= datetime(2000, 1, 1, tzinfo=UTC)


def test_the_scheduled_run_at_two_in_the_morning_refreshes_the_day_before():
    timetable = coerce_to_core_timetable(refresh.timetable)
    last = DataInterval(datetime(2026, 11, 18, 2, tzinfo=UTC), datetime(2026, 11, 19, 2, tzinfo=UTC))
    info = timetable.next_dagrun_info(
        last_automated_data_interval=last, restriction=TimeRestriction(earliest=None, latest=None, catchup=True)
    )
    assert f"{info.run_after}" == "2026-11-20 02:00:00+00:00"
    assert (
        day({"day": None}, SimpleNamespace(data_interval_start=info.data_interval.start, run_after=info.run_after))
        == "2026-11-19"
    )


@pytest.mark.parametrize(
    ("parameter", "interval_start", "run_after", "expected"),
    [
        ("2021-01-31", "2026-11-19T02:00", "2026-11-20T09:00", "2021-01-31"),  # the parameter wins
        (None, "2026-11-19T02:00", "2026-11-20T09:00", "2026-11-19"),
        (None, None, "2026-11-20T02:00", "2026-11-19"),  # triggered by hand, without an interval
        (None, None, "2026-11-20T01:59", "2026-11-18"),  # the 19th is not due before two
        (None, None, "2027-01-01T12:00", "2026-12-31"),
    ],
)
def test_the_day_of_a_run(parameter, interval_start, run_after, expected):
    moment = lambda text: text and datetime.fromisoformat(f"{text}:00+00:00")  # noqa: E731
    run = SimpleNamespace(data_interval_start=moment(interval_start), run_after=moment(run_after))
    assert day({"day": parameter}, run) == expected


@pytest.mark.parametrize(
    ("interval_start", "run_after", "expected"),
    [
        ("2026-11-19T10:00", "2026-11-20T10:00", "2026-11-19"),  # 02:00 in winter
        ("2026-03-08T10:00", "2026-03-09T09:00", "2026-03-08"),  # the day on which two o'clock is left out
        ("2026-11-20T05:00", "2026-11-20T09:00", "2026-11-19"),
        (None, "2026-11-20T10:00", "2026-11-19"),
        (None, "2026-11-20T09:59", "2026-11-18"),
        (None, "2026-03-09T09:00", "2026-03-08"),  # 02:00 in summer time, 23 hours after the day began
    ],
)
def test_the_day_of_a_run_is_that_of_the_shop(monkeypatch, interval_start, run_after, expected):
    monkeypatch.setenv("SHOAL_BUSINESS_TIME_ZONE", "America/Los_Angeles")
    moment = lambda text: text and datetime.fromisoformat(f"{text}:00+00:00")  # noqa: E731
    run = SimpleNamespace(data_interval_start=moment(interval_start), run_after=moment(run_after))
    assert day({"day": None}, run) == expected


@pytest.mark.parametrize(
    ("last", "runs"),
    [
        ("2026-03-06T10:00", ["2026-03-08T10:00", "2026-03-09T09:00", "2026-03-10T09:00"]),
        ("2026-10-30T09:00", ["2026-11-01T10:00", "2026-11-02T10:00", "2026-11-03T10:00"]),
    ],
)
def test_the_schedule_is_at_two_by_the_clock_of_the_shop_and_each_day_has_one_run(monkeypatch, last, runs):
    monkeypatch.setenv("SHOAL_BUSINESS_TIME_ZONE", "America/Los_Angeles")
    timetable = coerce_to_core_timetable(runpy.run_path(str(ROOT / "dags" / "daily_refresh.py"))["refresh"].timetable)
    moment = datetime.fromisoformat(f"{last}:00+00:00")
    interval, days, seen = DataInterval(moment, moment + timedelta(days=1)), [], []
    for _ in runs:
        info = timetable.next_dagrun_info(
            last_automated_data_interval=interval, restriction=TimeRestriction(earliest=None, latest=None, catchup=True)
        )
        interval = info.data_interval
        seen.append(f"{info.run_after:%Y-%m-%dT%H:%M}")
        days.append(day({"day": None}, SimpleNamespace(data_interval_start=interval.start, run_after=info.run_after)))
    assert seen == runs
    assert days == [f"{datetime.fromisoformat(run) - timedelta(days=1):%Y-%m-%d}" for run in runs]


def test_a_zone_that_does_not_exist_leaves_the_message_to_the_first_step(monkeypatch):
    for name in ("Mars/Phobos", "America", "../etc"):
        monkeypatch.setenv("SHOAL_BUSINESS_TIME_ZONE", name)
        assert business_time_zone().key == "UTC"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("day", "yesterday"),
        ("day", "2026-02-30"),
        ("day", "20.11.2026"),
        ("day", 20261120),
        ("retrain", "yes"),
        ("retrain", None),
    ],
)
def test_an_invalid_parameter_is_refused_by_the_trigger(name, value):
    params = copy.copy(refresh.params)
    with pytest.raises(ParamValidationError):
        params[name] = value


def test_parameters_are_described_and_their_defaults_are_valid():
    assert refresh.params.validate() == {"day": None, "retrain": False}
    assert all(refresh.params.get_param(name).description for name in ("day", "retrain"))
