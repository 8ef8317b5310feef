"""Airflow on one machine: one day in one process, and a real scheduler that leaves nothing behind."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from tests.dags.test_steps import Webhook, alive, wait_for

STEPS = [
    "land", "clean", "check_clean", "features", "check_features", "train",
    "encode", "segment", "publish", "check_marts", "report",
]  # fmt: skip


@contextmanager
def start(project, *arguments: str, jvm: bool = False, **variables: str):
    """A process of `python -m dags.local ...`, which is ended where the test fails meanwhile."""
    with subprocess.Popen(
        [sys.executable, "-m", "dags.local", *arguments],
        env=project.environment(jvm, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def local(project, *arguments: str, **variables: str) -> tuple[int, list[str], str]:
    """The exit code, the lines on stdout and the text on stderr of `python -m dags.local ...`."""
    with start(project, *arguments, **variables) as process:
        out, err = process.communicate(timeout=600)
    return process.returncode, out.splitlines(), err


def open_runs(project) -> int:
    """How many runs a scheduler would go on with."""
    with sqlite3.connect(project.var / "airflow" / "airflow.db") as db:
        return db.execute("select count(*) from dag_run where state in ('running', 'queued')").fetchone()[0]


def task_states(project) -> list[str]:
    """How the tasks of the first run ended, as the page shows them now."""
    query = "select state from task_instance where run_id = (select run_id from dag_run order by id limit 1) order by state"
    with sqlite3.connect(project.var / "airflow" / "airflow.db") as database:
        return [state for (state,) in database.execute(query)]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def api(port: int, path: str, body: dict | None = None, method: str | None = None) -> dict:
    """What the API server answers."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v2/{path}",
        json.dumps(body).encode() if body is not None else None,
        {"Content-Type": "application/json"},
        method=method,
    )
    for left in range(5, -1, -1):
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503 or not left:  # SQLite was locked for a moment; Postgres is not
                raise
            time.sleep(2)
    raise AssertionError


def report_page(port: int, run: str) -> str:
    """What the tab Report of a run's page shows."""
    views = [view for plugin in api(port, "plugins")["plugins"] for view in plugin["external_views"]]
    (view,) = (view for view in views if view["name"] == "Report" and view["destination"] == "dag_run")
    named = view["href"].format(DAG_ID="daily_refresh", RUN_ID=urllib.parse.quote(run, safe=""))  # as the page does it
    return f"http://127.0.0.1:{port}{named}"


@pytest.fixture
def webhook():
    with Webhook() as made:
        yield made


def test_airflows_own_commands_work_on_the_same_home(project):
    code, lines, _ = local(project, "airflow", "pools", "list", "--output", "plain")
    assert code == 0
    assert {"spark", "gpu"} <= {line.split()[0] for line in lines}


def test_a_day_runs_from_end_to_end_in_one_process_a_line_per_step(project):
    project.plan(train=99)
    code, lines, err = local(project, "run", "--day", "2026-11-20")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"refresh 2026-11-20, log .*/refresh-2026-11-20-\w+\.log", lines[0])
    assert [tuple(line.split()[:2]) for line in lines[1:-1]] == [
        (step, "skipped" if step == "train" else "done") for step in STEPS
    ]
    assert [entry[0] for entry in project.journal()] == STEPS
    assert {entry[entry.index("--day") + 1] for entry in project.journal()} == {"2026-11-20"}

    # The second time the database is there; the parameter reaches the training, an error stops the day.
    project.plan(segment=2)
    before = os.times()
    code, lines, err = local(project, "run", "--day", "2026-11-21", "--retrain")
    after = os.times()
    assert (code, err) == (1, "error: segment: stand-in ends with 2\n")
    assert lines[-2].split()[:2] == ["segment", "failed"]
    assert "not run: publish, check_marts, report; see /" in lines[-1]
    second = project.journal()[len(STEPS) :]
    assert [entry[0] for entry in second] == STEPS[:8]
    assert second[5] == ["train", "train", "--day", "2026-11-21", "--retrain"]
    assert task_states(project) == ["skipped"] + ["success"] * 10  # the run before stays as it ended
    assert open_runs(project) == 0
    # Airflow's own work, in seconds of a processor: what a busy machine can't blur. 11 measured, half of it imports.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 25


@pytest.mark.parametrize(
    ("number", "step", "parts"),
    [(signal.SIGINT, "train", {"driver"}), (signal.SIGTERM, "clean", {"driver", "jvm", "worker", "daemon"})],
)
def test_a_stopped_run_leaves_no_process_and_no_open_run(project, other_project, number, step, parts):
    project.plan(**{step: "sleep"})
    with start(project, "run", "--day", "2026-11-20", jvm=step == "clean") as process:
        wait_for(lambda: parts <= set(project.pids()) and all(project.pids().values()))
        pids = [pid for name, pid in project.pids().items() if name in parts]
        assert all(map(alive, pids))
        # Nothing else begins on the same lake, from this project or from another, and the run goes on.
        refused = [local(project, "run", "--day", "2026-11-19"), local(project, "up", "--port", str(free_port()))]
        refused += [local(other_project, "run", "--day", "2026-11-19", SHOAL_LAKE=f"{project.var}/lake")]
        assert open_runs(project) == 1
        process.send_signal(number)
        out, err = process.communicate(timeout=600)
    assert refused == [refused[0]] * 3
    assert refused[0][:2] == (1, [])
    assert re.fullmatch(
        rf"error: lake: {project.var}/lake is in use by make refresh of 2026-11-20 "
        rf"\(process {process.pid} on \S+, since \S+\); wait for it or stop it\n",
        refused[0][2],
    )
    assert other_project.journal() == []
    assert (process.returncode, err) == (130, "stopped\n")
    assert "not run: " in out
    assert not any(map(alive, pids))
    assert project.journal()[-1][0] == step
    assert open_runs(project) == 0


def test_a_day_that_is_none_is_refused(project):
    code, _, err = local(project, "run", "--day", "2026-02-30")
    assert code == 2
    assert "'2026-02-30' is not a day; write it as YYYY-MM-DD" in err


def test_up_refuses_a_port_in_use_and_down_without_up_says_so(project):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, _, err = local(project, "up", "--port", port)
    refusal = f"error: port {port} cannot be used (Address already in use); choose another: PORT=8081 make up\n"
    assert (code, err) == (1, refusal)
    assert local(project, "down") == (0, ["nothing is up"], "")


def test_two_lakes_are_refreshed_at_the_same_time_from_one_project(project):
    project.plan(land="sleep")
    with start(project, "run", "--day", "2026-11-20") as first:
        wait_for(lambda: project.pids().get("driver"))
        project.plan()
        code, lines, err = local(project, "run", "--day", "2026-11-21", SHOAL_LAKE=f"{project.var}/of_another_shop")
        assert (code, err) == (0, "")
        assert [line.split()[1] for line in lines[1:-1]] == ["done"] * len(STEPS)
        assert open_runs(project) == 1
        refused = local(project, "up", "--port", str(free_port()), SHOAL_LAKE=f"{project.var}/of_another_shop")
        os.kill(project.pids()["driver"], signal.SIGKILL)  # its step fails, and then the run
        out, err = first.communicate(timeout=600)
    assert refused[2].startswith("error: a refresh of another lake or `make down` runs in this project")
    assert first.returncode == 1
    assert out.splitlines()[1].split()[:2] == ["land", "failed"]
    assert "not run: clean, " in out.splitlines()[-1]
    assert err.startswith("error: land ended with exit code ")
    assert open_runs(project) == 0


def test_a_real_scheduler_runs_the_right_day_and_down_leaves_nothing(project, webhook):
    """One start for all that only a scheduler shows: schedule, form, backfill, a run marked failed, the end."""
    port = free_port()

    def landed() -> list[str]:
        """The days that `land` was asked for, in order."""
        return [entry[3] for entry in project.journal() if entry[0] == "land"]

    def trigger(**body) -> str:
        return api(port, "dags/daily_refresh/dagRuns", {"logical_date": None, **body})["dag_run_id"]

    def late() -> list[str]:
        """What was told of days that are not published in time."""
        return [line for line in webhook.lines if "is not published" in line]

    project.plan(land=2)  # where only the day matters, a run need not go on
    told = {"AIRFLOW__SHOAL__ALERT_URL": webhook.url, "AIRFLOW__SHOAL__PUBLISHED_BY": "02:00"}  # before any run can be done
    code, lines, err = local(project, "up", "--port", str(port), **told)
    try:
        assert (code, err) == (0, "")
        assert lines[1] == f"up: http://localhost:{port}/dags/daily_refresh"
        assert local(project, "run", "--day", "2026-11-20")[2].startswith("error: the scheduler is up")
        assert local(project, "up")[1] == [f"already up: http://localhost:{port}/dags/daily_refresh"]

        wait_for(landed)
        scheduled = api(port, "dags/daily_refresh/dagRuns")["dag_runs"][0]
        assert scheduled["run_type"] == "scheduled"
        wait_for(lambda: api(port, f"dags/daily_refresh/dagRuns/{scheduled['dag_run_id']}")["state"] == "failed")
        assert len(landed()) == 1  # exit code 2 is not tried again
        end = datetime.fromisoformat(scheduled["data_interval_end"])
        assert end == datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0) or datetime.now(UTC).hour < 2
        assert landed() == [f"{end - timedelta(days=1):%Y-%m-%d}"]
        wait_for(late)
        assert late()[0].startswith(f"shoal: {landed()[0]} is not published by 02:00 UTC (publish: ")
        assert late()[0].endswith(f") -- http://localhost:{port}/dags/daily_refresh/runs/{scheduled['dag_run_id']}")

        trigger(logical_date="2011-12-10T12:00:00Z")
        wait_for(lambda: landed()[1:] == ["2011-12-09"])

        backfill = {"dag_id": "daily_refresh", "from_date": "2026-11-01T00:00:00Z", "to_date": "2026-11-03T00:00:00Z"}
        api(port, "backfills", backfill | {"max_active_runs": 1, "run_backwards": False, "dag_run_conf": {}})
        wait_for(lambda: landed()[2:] == ["2026-11-01", "2026-11-02"])

        project.plan(train=99)
        run = trigger(conf={"day": "2021-01-31"})
        wait_for(lambda: api(port, f"dags/daily_refresh/dagRuns/{run}")["state"] == "success")
        assert [entry[0] for entry in project.journal()[-11:]] == STEPS
        assert {entry[entry.index("--day") + 1] for entry in project.journal()[-11:]} == {"2021-01-31"}

        page = report_page(port, run)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(page, timeout=600)  # noqa: S310
        written = project.var / "reports" / "2021-01-31" / "index.html"
        written.parent.mkdir(parents=True)
        written.write_text("the report of that day")
        with urllib.request.urlopen(page, timeout=600) as answer:  # noqa: S310
            assert answer.read() == b"the report of that day"

        project.plan(land="sleep")
        run = trigger(conf={"day": "2021-02-01"})
        wait_for(lambda: project.pids().get("driver"))
        driver = project.pids()["driver"]
        assert alive(driver)
        api(port, f"dags/daily_refresh/dagRuns/{run}", {"state": "failed"}, "PATCH")
        wait_for(lambda: not alive(driver))

        (project.var / "pid-driver").unlink()
        trigger(conf={"day": "2021-02-02"})
        wait_for(lambda: project.pids().get("driver"))
        driver = project.pids()["driver"]
        session = json.loads((project.var / "airflow" / "session.json").read_text())["leader"]
        assert len(late()) == 1  # neither those by hand nor the backfill, which are about other days
    finally:
        ended = local(project, "down")
    assert ended == (0, ["down"], "")
    assert not alive(driver)
    assert not [p.pid for p in psutil.process_iter() if os.getsid(p.pid) == session and alive(p.pid)]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port))
