"""Where Airflow stores its files on this machine, and the settings it runs with."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from dags.processes import project_home

DAGS = Path(__file__).resolve().parents[1]
AIRFLOW_HOME = project_home() / "var" / "airflow"
AIRFLOW = Path(sys.executable).parent / "airflow"
DAG_ID = "daily_refresh"

SETTINGS = {
    "AIRFLOW_HOME": str(AIRFLOW_HOME),
    "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]", "extra": {"deploy-mode": "client"}}),
    "AIRFLOW__API__HOST": "127.0.0.1",
    "AIRFLOW__API__INSTANCE_NAME": "Shoal",
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(DAGS / "plugins"),
    "AIRFLOW__CORE__PARALLELISM": "4",  # LocalExecutor starts as many workers
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(AIRFLOW_HOME / "passwords.json"),
    # Wait for SQLite's lock instead of failing: scheduler, API server and DAG processor all write to the database.
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW_HOME / 'airflow.db'}?timeout=60",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(AIRFLOW_HOME / "logs"),
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # the default of 5 s is short for a server that has just started
}

# For an Airflow that leaves training to a worker. In seconds; docs/adr/gpu-worker.md has the measurements.
EDGE_SETTINGS = {
    "AIRFLOW__EDGE__API_ENABLED": "True",
    "AIRFLOW__EDGE__HEARTBEAT_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "0",  # a training that no worker takes fails, with an alert
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",  # a training without a heartbeat for so long is retried
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "600",  # a training that no worker takes within this time fails
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "30",
}

# For the worker. It has no database. It sends its logs to the API server, so the two must not write the same files.
WORKER_SETTINGS = {
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor,airflow.providers.edge3.executors.EdgeExecutor",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(AIRFLOW_HOME / "worker"),
}


def configure(overrides: dict[str, str] | None = None) -> None:
    """Set Airflow's settings for this machine, before Airflow is imported; a variable that is already set wins."""
    (AIRFLOW_HOME / "logs").mkdir(parents=True, exist_ok=True)
    settings = SETTINGS | (overrides or {})
    if "EdgeExecutor" in os.environ.get("AIRFLOW__CORE__EXECUTOR", settings["AIRFLOW__CORE__EXECUTOR"]):
        settings |= EDGE_SETTINGS
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    # Airflow's processes import `dags.operators` and its neighbours.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(DAGS.parent), os.environ.get("PYTHONPATH")]))


def log_path(name: str) -> Path:
    """Return the path of a new log of this process."""
    return AIRFLOW_HOME / "logs" / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}_{os.getpid()}.log"


@contextlib.contextmanager
def redirect_output(log: Path) -> Iterator[TextIO]:
    """Send what this process and its children print to `log`; yields the terminal, for the few lines a person reads."""
    sys.stdout.flush()
    sys.stderr.flush()
    copies = os.dup(1), os.dup(2)
    with log.open("a") as file, os.fdopen(copies[0], "w", closefd=False) as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in enumerate(copies, start=1):
                os.dup2(copy, number)
    for copy in copies:
        os.close(copy)
