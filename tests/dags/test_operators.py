"""What becomes of a task when its process ends, and that no process outlives its task."""

import signal
import subprocess
import sys

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from dags import operators
from tests.dags.waiting import is_running, wait_for

DAY = ["--day", "2026-11-20"]


ENGINES = {"local": "auto", "spark": "spark"}  # the setting `engine` by kind of task


@pytest.fixture
def engine(request, monkeypatch):
    """Set the engine of the kind of task that a test is about."""
    if engine := ENGINES.get(request.node.callspec.params["kind"]):
        monkeypatch.setenv("SHOAL_ENGINE", engine)


def make_task(kind: str, *command: str):
    """Return a task with its command rendered, as Airflow passes it to execute()."""
    factories = {"gpu": operators.gpu_task, "plain": operators.plain_task}
    task = factories.get(kind, operators.lake_task)(" ".join(command))
    if kind in ENGINES:
        task.application_args, task.name = [*command, *DAY], task.task_id
    else:
        task.command = [*command, *DAY, ""]
    return task


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("kind", ["local", "spark", "gpu", "plain"])
def test_a_task_runs_its_command_for_its_day(shared, kind):
    make_task(kind, "check", "clean").execute({})
    assert shared.journal() == [["check_clean", "check", "clean", *DAY]]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("kind", ["local", "spark", "gpu", "plain"])
@pytest.mark.parametrize(
    ("code", "exception", "message"),
    [
        (99, AirflowSkipException, "train: not due"),
        (2, AirflowFailException, "error: train: stand-in ends with 2"),
        (75, AirflowException, "error: train ended with exit code 75: error: train: stand-in ends with 75"),
        (1, AirflowException, "error: train ended with exit code 1: error: train: stand-in ends with 1"),
        (137, AirflowException, "error: train ended with exit code 137: error: train: stand-in ends with 137"),
    ],
)
def test_an_exit_code_decides_between_skipped_failed_and_retried(shared, kind, code, exception, message):
    shared.plan(train=code)
    with pytest.raises(AirflowException) as caught:
        make_task(kind, "train").execute({})
    assert (type(caught.value), str(caught.value)) == (exception, message)


def test_a_missing_connection_fails_at_once_instead_of_submitting_to_yarn(shared, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_SPARK_DEFAULT")
    with pytest.raises(AirflowFailException, match="error: connection spark_default does not exist; define it"):
        make_task("spark", "land").execute({})
    assert shared.journal() == []


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        ("spark", "SHOAL_SPARK_HOME"), ("spark", "SHOAL_SPARK_PYTHON"), ("local", "SHOAL_SPARK_PYTHON"),
        ("gpu", "SHOAL_TRAIN_PYTHON"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("engine")
def test_a_project_that_is_not_set_up_fails_at_once_and_names_the_variable(shared, monkeypatch, kind, variable):
    monkeypatch.setenv(variable, "/nowhere/at/all")
    with pytest.raises(AirflowFailException, match=f"error: /nowhere/at/all does not exist; .* set {variable}"):
        make_task(kind, "train").execute({})


# Runs a task as Airflow's supervisor does: SIGTERM calls on_kill.
TASK_PROCESS = """
import signal, sys
from tests.dags.test_operators import make_task
task = make_task(sys.argv[1], sys.argv[2])
signal.signal(signal.SIGTERM, lambda number, frame: task.on_kill())
task.execute({})
"""


@pytest.mark.parametrize(("number", "action"), [(signal.SIGTERM, "sleep"), (signal.SIGKILL, "sleep, die with parent")])
@pytest.mark.parametrize(
    ("kind", "step", "parts"),
    [("spark", "clean", {"driver", "jvm", "worker", "daemon"}), ("local", "clean", {"driver"}), ("gpu", "train", {"driver"})],
)
def test_a_killed_task_leaves_no_process_behind(project, kind, step, parts, number, action):
    """SIGTERM: a person or the timeout ends the task. SIGKILL: the machine is out of memory, or the worker was killed."""
    project.plan(**{step: action})
    env = project.environment(
        jvm=True,
        AIRFLOW_HOME=str(project.var),
        SHOAL_ENGINE=ENGINES.get(kind, "auto"),
        AIRFLOW_CONN_SPARK_DEFAULT='{"conn_type": "spark", "host": "local[1]", "extra": {"deploy-mode": "client"}}',
    )
    command, log = [sys.executable, "-c", TASK_PROCESS, kind, step], project.var / "log"
    with log.open("w") as out, subprocess.Popen(command, env=env, stdout=out, stderr=out) as process:
        wait_for(lambda: parts <= set(project.pids()) and all(project.pids().values()))
        pids = [pid for name, pid in project.pids().items() if name in parts]
        assert all(map(is_running, pids))  # or the test below would prove nothing
        process.send_signal(number)
        wait_for(lambda: not any(map(is_running, pids)))
        assert process.wait(600) != 0
