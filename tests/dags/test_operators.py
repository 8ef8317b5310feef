"""What a task makes of its job's end, and that nothing of a job outlives its task."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import psutil
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from dags import steps

DAY = ["--day", "2026-11-20"]


def task(kind: str, *command: str):
    """A task with its command rendered, as Airflow hands it to execute()."""
    made = {"spark": steps.spark, "gpu": steps.gpu, "plain": steps.plain}[kind](" ".join(command))
    if kind == "spark":
        made.application_args, made.name = [*command, *DAY], made.task_id
    else:
        made.command = [*command, *DAY, ""]
    return made


@pytest.mark.parametrize("kind", ["spark", "gpu", "plain"])
def test_a_task_runs_its_command_for_its_day(shared, kind):
    task(kind, "check", "clean").execute({})
    assert shared.journal() == [["check_clean", "check", "clean", *DAY]]


@pytest.mark.parametrize("kind", ["spark", "gpu", "plain"])
@pytest.mark.parametrize(
    ("code", "outcome", "says"),
    [
        (99, AirflowSkipException, "train: not due"),
        (2, AirflowFailException, "error: train: stand-in ends with 2"),
        (75, AirflowException, "error: train ended with exit code 75: error: train: stand-in ends with 75"),
        (1, AirflowException, "error: train ended with exit code 1: error: train: stand-in ends with 1"),
        (137, AirflowException, "error: train ended with exit code 137: error: train: stand-in ends with 137"),
    ],
)
def test_an_exit_code_decides_between_skipped_failed_and_tried_again(shared, kind, code, outcome, says):
    shared.plan(train=code)
    with pytest.raises(AirflowException) as caught:
        task(kind, "train").execute({})
    assert (type(caught.value), str(caught.value)) == (outcome, says)


def test_a_missing_connection_fails_at_once_instead_of_submitting_to_yarn(shared, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_SPARK_DEFAULT")
    with pytest.raises(AirflowFailException, match="error: connection spark_default does not exist; define it"):
        task("spark", "land").execute({})
    assert shared.journal() == []


def test_a_step_waits_for_a_spark_connect_server_that_is_still_starting():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        threading.Timer(0.5, server.listen).start()
        steps._until_it_answers(*server.getsockname())


def test_a_spark_connect_server_that_never_answers_is_named(monkeypatch):
    monkeypatch.setattr(steps, "ANSWER_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with pytest.raises(AirflowException, match=f"error: no Spark Connect server answers at 127.0.0.1:{port} "):
            steps._until_it_answers("127.0.0.1", port)


@pytest.mark.parametrize(
    ("kind", "variable"),
    [("spark", "SHOAL_SPARK_HOME"), ("spark", "SHOAL_SPARK_PYTHON"), ("gpu", "SHOAL_TRAIN_PYTHON")],
)
def test_a_project_that_is_not_set_up_fails_at_once_and_names_the_variable(shared, monkeypatch, kind, variable):
    monkeypatch.setenv(variable, "/nowhere/at/all")
    with pytest.raises(AirflowFailException, match=f"error: /nowhere/at/all does not exist; .* set {variable}"):
        task(kind, "train").execute({})


# A task's process as Airflow's supervisor runs it: SIGTERM calls on_kill.
TASK = """
import signal, sys
from tests.dags.test_steps import task
t = task(sys.argv[1], sys.argv[2])
signal.signal(signal.SIGTERM, lambda number, frame: t.on_kill())
t.execute({})
"""


@pytest.mark.parametrize(("how", "does"), [(signal.SIGTERM, "sleep"), (signal.SIGKILL, "sleep, die with parent")])
@pytest.mark.parametrize(
    ("kind", "step", "parts"), [("spark", "clean", {"driver", "jvm", "worker", "daemon"}), ("gpu", "train", {"driver"})]
)
def test_a_killed_task_leaves_no_process_behind(project, kind, step, parts, how, does):
    """SIGTERM is a task ended by hand or by its time; SIGKILL is a machine out of memory, or a worker that was shot."""
    project.plan(**{step: does})
    env = project.environment(
        jvm=True,
        AIRFLOW_HOME=str(project.var),
        AIRFLOW_CONN_SPARK_DEFAULT='{"conn_type": "spark", "host": "local[1]", "extra": {"deploy-mode": "client"}}',
    )
    command, log = [sys.executable, "-c", TASK, kind, step], project.var / "log"
    with log.open("w") as out, subprocess.Popen(command, env=env, stdout=out, stderr=out) as process:
        wait_for(lambda: parts <= set(project.pids()) and all(project.pids().values()))
        pids = [pid for name, pid in project.pids().items() if name in parts]
        assert all(map(alive, pids))  # or the test below would prove nothing
        process.send_signal(how)
        wait_for(lambda: not any(map(alive, pids)))
        assert process.wait(600) != 0


def test_a_process_that_ignores_sigterm_is_killed(tmp_path):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        steps.end_session(process.pid)
        assert process.wait(1) == -signal.SIGKILL


def test_an_alert_is_one_line_in_the_log_and_one_post(caplog, monkeypatch):
    context = {
        "ti": SimpleNamespace(task_id="land", try_number=1, log_url="http://shoal/log"),
        "params": {"day": "2026-11-20"},
        "dag_run": None,
        "exception": AirflowFailException("error: orders.csv, line 7: 3 columns, not 8"),
    }
    line = "shoal: land of 2026-11-20 failed (try 1): error: orders.csv, line 7: 3 columns, not 8 -- http://shoal/log"
    with Webhook() as webhook:
        monkeypatch.setenv("AIRFLOW__SHOAL__ALERT_URL", webhook.url)
        steps.alert(context)
    assert webhook.lines == [line]

    steps.alert(context)  # nobody listens any more
    assert [r.getMessage() for r in caplog.records if "shoal: land" in r.getMessage()] == [line, line]
    assert "the alert could not be posted" in caplog.text


@pytest.mark.parametrize(
    ("kind", "state", "says"),
    [
        ("scheduled", "success", []),  # the checks after it are still at work
        ("scheduled", "running", ["publish: running"]),
        ("scheduled", None, ["publish: not begun"]),
        ("backfill", None, []),
        ("manual", None, []),
    ],
)
def test_a_day_that_is_not_published_in_time_is_an_alert_for_scheduled_runs_only(caplog, monkeypatch, kind, state, says):
    monkeypatch.delenv("AIRFLOW__SHOAL__ALERT_URL", raising=False)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://shoal")
    states = {"r": {"publish": state}} if state else {}
    monkeypatch.setattr(steps.RuntimeTaskInstance, "get_task_states", lambda **asked: states)
    run = {"dag_id": "d", "dag_run_id": "r", "run_type": kind, "data_interval_start": "2026-11-20T02:00:00Z"}
    asyncio.run(steps.late({"dag_run": run}, by="06:00"))
    assert [r.getMessage() for r in caplog.records] == [
        f"shoal: 2026-11-20 is not published by 06:00 UTC ({why}) -- http://shoal/dags/d/runs/r" for why in says
    ]


@pytest.mark.parametrize(("by", "after"), [("06:00", timedelta(hours=28)), ("23:59", timedelta(hours=45, minutes=59))])
def test_a_day_is_due_at_that_time_of_the_next(monkeypatch, by, after):
    monkeypatch.setenv("AIRFLOW__SHOAL__PUBLISHED_BY", by)
    assert steps.published_by().interval == after
    monkeypatch.setenv("AIRFLOW__SHOAL__PUBLISHED_BY", "")
    assert steps.published_by() is None


class Webhook(HTTPServer):
    """What is posted to it while it is open."""

    def __init__(self) -> None:
        self.lines = []
        super().__init__(("127.0.0.1", 0), Posted)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *error) -> None:
        self.shutdown()
        super().__exit__(*error)


class Posted(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.lines.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        """Quiet."""


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has reaped does not."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_for(condition, seconds: float = 600) -> None:
    """Until it is so; the limit only ends a test that hangs, on a machine however busy."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.1)
