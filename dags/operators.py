"""The only bridge from the DAG to the jobs: `spark(step)`, `gpu(step)` and `plain(step)` make one task of one command.

Airflow never imports the jobs: a task is one process of another environment, found on the machine that runs it
(SHOAL_HOME, SHOAL_SPARK_HOME, SHOAL_SPARK_PYTHON, SHOAL_TRAIN_PYTHON, each with a default inside the project). It
inherits Airflow's environment, the job's own SHOAL_* settings with it, and answers by its exit code:

    0 done      2 the user's to mend (no retry)      99 nothing due (skipped)      else a crash (retried)

The lake in use by another command is exit code 75: tried again after five minutes, when that command may have ended.

However a task ends, nothing of it stays: its process leads a session of its own, which ends with the task.
"""

import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path

import psutil
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import AsyncCallback, BaseHook, BaseOperator, DeadlineAlert, DeadlineReference, conf
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from asgiref.sync import sync_to_async

USER_ERROR, NOT_DUE = 2, 99
ANSWER_SECONDS = 60.0  # for a Spark Connect server to answer; one takes 5 s to start on two idle cores
GRACE_SECONDS = 3.0  # from SIGTERM to SIGKILL; Airflow itself kills a task 5 s after asking it to end
DAY = "{{ day(params, dag_run) }}"

log = logging.getLogger("airflow.task")


def day(params, dag_run) -> str:
    """The day a run is about, as YYYY-MM-DD: the parameter `day`, else the day on which the run's data interval began.

    A run by hand may come without an interval; then it is the last one that ended at or before the run, as the schedule
    would have it: two hours (the schedule's 02:00) and a day before.
    """
    if params["day"]:
        return params["day"]
    start = dag_run.data_interval_start or dag_run.run_after - timedelta(days=1, hours=2)
    return f"{start:%Y-%m-%d}"


def spark(command: str, *arguments: str, **kwargs) -> BaseOperator:
    """A task that runs `shoal <command> --day D` on the Spark of the connection `spark_default`.

    Submitted to a connection of type `spark`; one of type `spark_connect` names a Spark Connect server to be a client of.
    """
    return SparkStep(**_task(command, arguments, kwargs, pool="spark"))


def gpu(command: str, *arguments: str, **kwargs) -> BaseOperator:
    """A task that runs `shoal <command> --day D` in the train environment, on queue `gpu` where a worker serves it."""
    edge = "EdgeExecutor" if "EdgeExecutor" in conf.get("core", "executor") else None
    return ProcessStep(environment="train", **_task(command, arguments, kwargs, pool="gpu", queue="gpu", executor=edge))


def plain(command: str, *arguments: str, **kwargs) -> BaseOperator:
    """A task that runs `shoal <command> --day D` in the Spark environment's Python, without a JVM."""
    return ProcessStep(environment="spark", **_task(command, arguments, kwargs))


def alert(context) -> None:
    """Tell that a task has failed."""
    ti = context["ti"]
    # The scheduler fails a task without an exception: it sat in the queue for too long, or its worker fell silent.
    why = context.get("exception") or f"no worker of queue {ti.task.queue} took it in time, or its worker is gone"
    about = day(context["params"], context["dag_run"])
    _tell(f"shoal: {ti.task_id} of {about} failed (try {ti.try_number}): {why} -- {ti.log_url}")


def published_by() -> DeadlineAlert | None:
    """Tell when a scheduled run has not published its day by AIRFLOW__SHOAL__PUBLISHED_BY of the next; never where it is empty.

    Raises ValueError for what is not a time.
    """
    if not (text := conf.get("shoal", "published_by", fallback="06:00")):
        return None
    by = datetime.strptime(text, "%H:%M")  # noqa: DTZ007
    # a scheduled run's logical date is 02:00 of the day that it is about: 22 hours before the next begins
    after = timedelta(hours=22 + by.hour, minutes=by.minute)
    return DeadlineAlert(DeadlineReference.DAGRUN_LOGICAL_DATE, after, AsyncCallback(late, {"by": text}))


async def late(context, by: str) -> None:
    """Tell that a scheduled run's day is not published yet; the triggerer calls this when a run is not done in time."""
    run = context["dag_run"]
    if run["run_type"] != "scheduled":  # one by hand or of a backfill may be about any day
        return
    told = {"dag_id": run["dag_id"], "run_ids": [run["dag_run_id"]], "task_ids": ["publish"]}
    states = await sync_to_async(RuntimeTaskInstance.get_task_states)(**told)
    state = states.get(run["dag_run_id"], {}).get("publish")
    if state != "success":
        page = f"{conf.get('api', 'base_url', fallback='')}/dags/{run['dag_id']}/runs/{run['dag_run_id']}"
        about = str(run["data_interval_start"])[:10]
        await sync_to_async(_tell)(f"shoal: {about} is not published by {by} UTC (publish: {state or 'not begun'}) -- {page}")


def _tell(line: str) -> None:
    """Log a line; post it as {"text": line} to AIRFLOW__SHOAL__ALERT_URL, if set."""
    log.error(line)
    if url := conf.get("shoal", "alert_url", fallback=""):
        request = urllib.request.Request(url, json.dumps({"text": line}).encode(), {"Content-Type": "application/json"})  # noqa: S310
        try:
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310
        except (OSError, ValueError) as error:  # what it is about has happened; a dead webhook must not hide it
            log.error("shoal: the alert could not be posted to [shoal] alert_url: %s", error)


class _Step:
    """What both kinds of task share: where the project is, how an exit code is read, how a process ends."""

    def _environment(self) -> dict[str, str]:
        # SHOAL_PARENT asks the job to die with the process that started it: the kernel hands that on to no child.
        return {"PYTHONPATH": str(home()), "PYTHONUNBUFFERED": "1", "SHOAL_PARENT": "watch"}

    _process: subprocess.Popen | None = None

    def _run_python(self, environment: str, command: list[str], variables: dict[str, str] | None = None) -> None:
        """`python -m jobs <command>` in the environment "spark" or "train", its output in the task's log."""
        argv = [_python(environment), "-m", "jobs", *(part for part in command if part)]
        self.log.info("Command: %s", " ".join(argv))
        lines = []
        try:
            self._process = subprocess.Popen(
                argv,
                cwd=home(),
                env={**os.environ, **self._environment(), **(variables or {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="backslashreplace",
                start_new_session=True,
                preexec_fn=lambda: _die_with_parent(signal.SIGKILL),
            )
            for line in self._process.stdout:
                self.log.info("%s", line.rstrip())
                lines = [*lines[-19:], line.rstrip()]
            if code := self._process.wait():
                raise self._failure(code, lines)
        finally:
            self._end_process()

    def _end_process(self) -> None:
        if self._process:
            end_session(self._process.pid)

    def _failure(self, code: int, lines) -> Exception:
        """The exception for an exit code: the job's own `error:` line where it printed one, else its last line."""
        said = next((line for line in reversed(lines) if line.startswith("error:")), None)
        if code == NOT_DUE:
            return AirflowSkipException(f"{self.task_id}: not due")
        if code == USER_ERROR:
            return AirflowFailException(said or f"error: {self.task_id} ended with exit code 2: {_last(lines)}")
        return AirflowException(f"error: {self.task_id} ended with exit code {code}: {said or _last(lines)}")


class SparkStep(_Step, SparkSubmitOperator):
    """SparkSubmitOperator on this project's Spark, which leaves neither a JVM nor a Python driver behind.

    The provider's on_kill ends spark-submit alone; in client mode the Python driver would live on.
    """

    def __init__(self, *, command: list[str], **kwargs) -> None:
        super().__init__(application_args=command, name=f"shoal {kwargs['task_id']} {DAY}", **kwargs)

    def execute(self, context) -> None:
        _die_with_parent(signal.SIGTERM)
        try:
            connection = BaseHook.get_connection(self._conn_id)  # the hook would fall back to YARN and say so at level info only
        except AirflowNotFoundException:
            raise AirflowFailException(
                f"error: connection {self._conn_id} does not exist; define it with the Spark master"
                f" (AIRFLOW_CONN_{self._conn_id.upper()})"
            ) from None
        if connection.conn_type == "spark_connect":  # a server that stays warm: the job is a thin client of it
            _until_it_answers(connection.host, connection.port)
            self._run_python("spark", self.application_args, {"SHOAL_REMOTE": f"sc://{connection.host}:{connection.port}"})
            return
        spark_home = _spark_home()
        python = _python("spark")
        self.application = str(home() / "jobs" / "__main__.py")
        self._spark_binary = str(spark_home / "bin" / "spark-submit")
        self.env_vars = {
            **self._environment(),
            "SPARK_HOME": str(spark_home),
            "PYSPARK_PYTHON": python,
            "PYSPARK_DRIVER_PYTHON": python,
        }
        self._hook = hook = self._get_hook()
        submit = hook.submit
        hook.submit = lambda application: submit(
            application, start_new_session=True, preexec_fn=lambda: _die_with_parent(signal.SIGKILL)
        )
        try:
            super().execute(context)
        except AirflowException:
            if not (hook._submit_sp and hook._submit_sp.returncode):
                raise  # not the job's end: a cluster's answer, a wrong setting
            raise self._failure(hook._submit_sp.returncode, hook._last_submit_log_lines) from None
        finally:
            self._end()

    def on_kill(self) -> None:
        self._end_process()
        self._end()
        super().on_kill()  # a driver on a cluster

    def _end(self) -> None:
        if self._hook and self._hook._submit_sp:
            end_session(self._hook._submit_sp.pid)


class ProcessStep(_Step, BaseOperator):
    """`python -m jobs <command>` in the environment "spark" or "train"."""

    template_fields = ("command",)

    def __init__(self, *, command: list[str], environment: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.command = command
        self.environment = environment

    def execute(self, context) -> None:
        _die_with_parent(signal.SIGTERM)
        self._run_python(self.environment, self.command)

    def on_kill(self) -> None:
        self._end_process()


def home() -> Path:
    """The project's folder on this machine."""
    return Path(os.environ.get("SHOAL_HOME") or Path(__file__).resolve().parent.parent)


def end_session(leader: int) -> None:
    """End every process of the session that `leader` leads: SIGTERM, then SIGKILL for what is left after GRACE_SECONDS.

    By session and not by process group: Spark's Python workers make a group of their own.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in _members(leader):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue  # it ended in between
        end = time.monotonic() + GRACE_SECONDS
        while _members(leader) and time.monotonic() < end:
            time.sleep(0.05)


def _members(leader: int) -> list[int]:
    members = []
    for process in psutil.process_iter():
        try:
            # Never reaped here: the exit status is for the Popen that waits for it.
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return members


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent dies, even by SIGKILL. Linux only."""
    if _libc:
        _libc.prctl(1, int(number))  # PR_SET_PDEATHSIG


def _task(command: str, arguments: tuple[str, ...], kwargs: dict, **defaults) -> dict:
    parts = command.split()
    return {"task_id": "_".join(parts), "command": [*parts, "--day", DAY, *arguments], **defaults, **kwargs}


def spark_server(port: int, log) -> subprocess.Popen:
    """Start a Spark Connect server of this project's Spark on localhost; it dies with this process. `log` is a file."""
    spark_home = _spark_home()
    (jar,) = (spark_home / "jars").glob("spark-connect_*.jar")
    command = [
        str(spark_home / "bin" / "spark-submit"), "--master", "local[2]", "--name", "shoal",
        "--class", "org.apache.spark.sql.connect.service.SparkConnectServer",
        "--conf", f"spark.connect.grpc.binding.port={port}", "--conf", "spark.connect.grpc.binding.address=127.0.0.1",
        str(jar),
    ]  # fmt: skip
    variables = {"SPARK_HOME": str(spark_home), "PYSPARK_PYTHON": _python("spark"), "PYTHONPATH": str(home())}
    return subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: _die_with_parent(signal.SIGKILL),
    )


def _until_it_answers(host: str, port: int) -> None:
    """Wait for the Spark Connect server, which may just be starting; its own client would say nothing for minutes."""
    end = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            return socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
        except OSError as error:
            if time.monotonic() > end:
                raise AirflowException(
                    f"error: no Spark Connect server answers at {host}:{port} ({error}); start it, or change the connection"
                ) from None
        time.sleep(0.1)


def _spark_home() -> Path:
    if given := os.environ.get("SHOAL_SPARK_HOME"):
        return _existing(Path(given), "SHOAL_SPARK_HOME")
    found = sorted((home() / ".venv" / "spark" / "lib").glob("python3*/site-packages/pyspark"))
    return found[0] if found else _existing(home() / ".venv" / "spark", "SHOAL_SPARK_HOME")


def _python(environment: str) -> str:
    variable = f"SHOAL_{environment.upper()}_PYTHON"
    return str(_existing(Path(os.environ.get(variable) or home() / ".venv" / environment / "bin" / "python"), variable))


def _existing(path: Path, variable: str) -> Path:
    if not path.exists():
        raise AirflowFailException(f"error: {path} does not exist; set the project up (make) or set {variable}")
    return path


def _last(lines) -> str:
    return next((line for line in reversed(lines) if line.strip()), "it printed nothing")
