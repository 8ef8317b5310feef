"""One day in this process: `make refresh`."""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from dags.local.airflow_home import log_path, redirect_output
from dags.local.database import close_unfinished_runs, create_database, share_database
from dags.local.errors import UserError
from dags.local.lake_lock import hold_lake, lake_root
from dags.local.progress import Progress, stop
from dags.local.session import SESSION_FILE, read_session
from dags.processes import end_session, start_spark_server


def run_day(day: str, retrain: bool = False, starts_spark: bool = True) -> None:
    """Run the DAG for one day in this process, each step in a process of its own; raises UserError if the day failed.

    With `starts_spark` the steps share one Spark Connect server, which takes half the time of one JVM per step.
    Steps are not retried: the person who started the run sees the error. Ctrl-C and SIGTERM leave no process running.
    Several lakes may be refreshed at the same time, each lake once at a time.
    """
    with share_database():
        if read_session(SESSION_FILE):
            raise UserError("the scheduler is up and would take part in this run; trigger the day there, or `make down` first")
        lake = lake_root()
        with hold_lake(lake, day):
            _run_day(day, retrain, starts_spark, lake)


def _run_day(day: str, retrain: bool, starts_spark: bool, lake: str) -> None:
    log = log_path(f"refresh-{day}")
    print(f"refresh {day}, log {log}", flush=True)
    signal.signal(signal.SIGTERM, stop)
    # Spark starts while Airflow is imported; the first step waits for Spark.
    with redirect_output(log) as terminal, _spark_server(log) if starts_spark else contextlib.nullcontext():
        create_database()
        from dags.daily_refresh import refresh as dag

        progress = Progress(terminal)
        dag.deadline = None  # for scheduled runs only; `dag.test` cannot create one
        for task in dag.tasks:
            progress.watch(task)
            task.retries = 0
        try:
            # `dag.test` clears all tasks of runs with the same logical date; with None it clears those of every run.
            logical_date = datetime.now(UTC)
            run_conf = {"day": day, "retrain": retrain, "lake": lake}
            state = dag.test(logical_date=logical_date, run_conf=run_conf).state
        finally:
            close_unfinished_runs(lake)
    print(progress.summary(dag, log), flush=True)
    if progress.is_stopped:
        raise KeyboardInterrupt
    if state != "success":
        raise UserError(progress.error or f"the run ended as {state}; see {log}")


@contextlib.contextmanager
def _spark_server(log: Path) -> Iterator[None]:
    """Run a Spark Connect server during the body, with the connection `spark_default` set to it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    output = log.with_suffix(".spark.log")
    with output.open("w") as file:
        server = start_spark_server(port, file)
    try:
        os.environ["AIRFLOW_CONN_SPARK_DEFAULT"] = json.dumps({"conn_type": "spark_connect", "host": "127.0.0.1", "port": port})
        yield
        if server.poll() is not None:
            raise UserError(f"Spark ended with exit code {server.returncode}; see {output}")
    finally:
        end_session(server.pid)
        server.wait()
