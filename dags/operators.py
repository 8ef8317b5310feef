"""The tasks of the DAG. Each runs one `shoal` command in a process of another Python environment.

Airflow never imports the jobs. The process inherits Airflow's environment, the SHOAL_* settings included. Its exit code
decides what becomes of the task:

    0   success
    2   failed without a retry: a person must fix something
    75  retried: another command is writing the lake
    99  skipped: nothing is due
    other codes: retried, because the process has crashed

The process leads a session of its own, which ends with the task, however the task ends.
"""

import os
import signal
import subprocess

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import BaseHook, BaseOperator, conf
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
)

from dags.processes import (
    chosen_engine,
    die_with_parent,
    end_session,
    project_home,
    python_path,
    spark_home,
    wait_for_spark_server,
)
from dags.runbook import TASK_DOCS

USER_ERROR, NOT_DUE = 2, 99
LOG_LINES = 20  # the last lines of a process, in which its error message is looked for
ON_THIS_MACHINE = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.authenticate": "true"}
DAY = "{{ day(params, dag_run) }}"


def lake_task(command: str, *arguments: str, **kwargs) -> BaseOperator:
    """Return a task that runs `shoal <command> --day D` on the engine of the setting `engine`.

    With `auto` that is this machine, unless the connection `spark_default` names a cluster. A connection of type `spark` gets
    the command with spark-submit. One of type `spark_connect` names a Spark Connect server, of which the command is a client.
    """
    return LakeStep(**_task_arguments(command, arguments, kwargs, pool="spark"))


def gpu_task(command: str, *arguments: str, **kwargs) -> BaseOperator:
    """Return a task that runs `shoal <command> --day D` in the train environment, on queue `gpu` where a worker serves it."""
    edge = "EdgeExecutor" if "EdgeExecutor" in conf.get("core", "executor") else None
    return ProcessStep(environment="train", **_task_arguments(command, arguments, kwargs, pool="gpu", queue="gpu", executor=edge))


def plain_task(command: str, *arguments: str, **kwargs) -> BaseOperator:
    """Return a task that runs `shoal <command> --day D` with the Spark environment's Python, without a JVM."""
    return ProcessStep(environment="spark", **_task_arguments(command, arguments, kwargs))


class _Step:
    """The parts that both kinds of task share: start a process, read its exit code, end it."""

    _process: subprocess.Popen | None = None

    def _variables(self) -> dict[str, str]:
        # SHOAL_PARENT makes the job ask to end with its parent. Only the job can: a child does not inherit PR_SET_PDEATHSIG.
        return {"PYTHONPATH": str(project_home()), "PYTHONUNBUFFERED": "1", "SHOAL_PARENT": "watch"}

    def _run_python(self, environment: str, command: list[str], variables: dict[str, str] | None = None) -> None:
        """Run `python -m jobs <command>` in the environment "spark" or "train", with its output in the task's log."""
        argv = [python_path(environment), "-m", "jobs", *(part for part in command if part)]
        self.log.info("Command: %s", " ".join(argv))
        lines = []
        try:
            self._process = subprocess.Popen(
                argv,
                cwd=project_home(),
                env={**os.environ, **self._variables(), **(variables or {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="backslashreplace",
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(signal.SIGKILL),
            )
            for line in self._process.stdout:
                self.log.info("%s", line.rstrip())
                lines = [*lines[-LOG_LINES + 1 :], line.rstrip()]
            if code := self._process.wait():
                raise self._exit_error(code, lines)
        finally:
            self._end_process()

    def _end_process(self) -> None:
        if self._process:
            end_session(self._process.pid)

    def _exit_error(self, code: int, lines) -> Exception:
        """Return the exception for an exit code, with the job's own `error:` line where it printed one, else its last line."""
        error_line = next((line for line in reversed(lines) if line.startswith("error:")), None)
        last_line = next((line for line in reversed(lines) if line.strip()), "it printed nothing")
        if code == NOT_DUE:
            return AirflowSkipException(f"{self.task_id}: not due")
        if code == USER_ERROR:
            return AirflowFailException(error_line or f"error: {self.task_id} ended with exit code 2: {last_line}")
        return AirflowException(f"error: {self.task_id} ended with exit code {code}: {error_line or last_line}")


class LakeStep(_Step, SparkSubmitOperator):
    """A process of this machine, or SparkSubmitOperator on this project's Spark, which leaves no JVM and no driver running.

    The provider's on_kill ends spark-submit alone; in client mode the Python driver would go on.
    """

    def __init__(self, *, command: list[str], **kwargs) -> None:
        super().__init__(application_args=command, name=f"shoal {kwargs['task_id']} {DAY}", **kwargs)

    def execute(self, context) -> None:
        die_with_parent(signal.SIGTERM)
        engine = chosen_engine()
        connection = None if engine == "local" else self._connection()
        if connection is None or (engine == "auto" and _is_this_machine(connection)):
            self._run_python("spark", self.application_args)
            return
        if connection.conn_type == "spark_connect":
            wait_for_spark_server(connection.host, connection.port)
            self._run_python("spark", self.application_args, {"SHOAL_REMOTE": f"sc://{connection.host}:{connection.port}"})
            return
        hook = self._prepare_hook()
        try:
            super().execute(context)
        except AirflowException:
            if not (hook._submit_sp and hook._submit_sp.returncode):
                raise  # not from the job: a cluster's answer or a wrong setting
            raise self._exit_error(hook._submit_sp.returncode, hook._last_submit_log_lines) from None
        finally:
            self._end_submit()

    def on_kill(self) -> None:
        self._end_process()
        self._end_submit()
        super().on_kill()  # a driver on a cluster

    def _connection(self):
        """Return the Spark connection. The hook would fall back to YARN without one, and log that at level info only."""
        try:
            return BaseHook.get_connection(self._conn_id)
        except AirflowNotFoundException:
            raise AirflowFailException(
                f"error: connection {self._conn_id} does not exist; define it with the Spark master"
                f" (AIRFLOW_CONN_{self._conn_id.upper()})"
            ) from None

    def _prepare_hook(self):
        """Return the provider's hook, set to this project's Spark and to start spark-submit in a session of its own."""
        python = python_path("spark")
        self.application = str(project_home() / "jobs" / "__main__.py")
        self._spark_binary = str(spark_home() / "bin" / "spark-submit")
        self.env_vars = {
            **self._variables(),
            "SPARK_HOME": str(spark_home()),
            "PYSPARK_PYTHON": python,
            "PYSPARK_DRIVER_PYTHON": python,
        }
        if _is_this_machine(self._connection()):  # nobody else on the machine or the network may connect
            self.conf = {**(self.conf or {}), **ON_THIS_MACHINE}
        self._hook = hook = self._get_hook()
        submit = hook.submit
        hook.submit = lambda application: submit(
            application, start_new_session=True, preexec_fn=lambda: die_with_parent(signal.SIGKILL)
        )
        return hook

    def _end_submit(self) -> None:
        if self._hook and self._hook._submit_sp:
            end_session(self._hook._submit_sp.pid)


def _is_this_machine(connection) -> bool:
    return connection.conn_type == "spark" and (connection.host or "").startswith("local")


class ProcessStep(_Step, BaseOperator):
    """`python -m jobs <command>` in the environment "spark" or "train"."""

    template_fields = ("command",)

    def __init__(self, *, command: list[str], environment: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.command = command
        self.environment = environment

    def execute(self, context) -> None:
        die_with_parent(signal.SIGTERM)
        self._run_python(self.environment, self.command)

    def on_kill(self) -> None:
        self._end_process()


def _task_arguments(command: str, arguments: tuple[str, ...], kwargs: dict, **defaults) -> dict:
    words = command.split()
    task_id = "_".join(words)
    task = {"task_id": task_id, "command": [*words, "--day", DAY, *arguments], "doc_md": TASK_DOCS[task_id]}
    return task | defaults | kwargs
