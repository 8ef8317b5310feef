"""Airflow's metadata database on this machine: who may use it at the same time, how it starts, what a stopped run leaves."""

import contextlib
import fcntl
from collections.abc import Iterator
from importlib.metadata import version

from dags.local.airflow_home import AIRFLOW_HOME, DAG_ID, log_path, redirect_output
from dags.local.errors import UserError

POOLS = {"spark": "One Spark application at a time", "gpu": "One training at a time"}


def create_database() -> None:
    """Create or upgrade the database and the pools, unless this Airflow version has done so before."""
    marker = AIRFLOW_HOME / "initialised"
    with (AIRFLOW_HOME / "init.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second process waits until the first has created it
        if marker.exists() and marker.read_text() == version("apache-airflow-core"):
            return
        from airflow.models.pool import Pool
        from airflow.utils.db import initdb

        with redirect_output(log_path("init")):
            initdb()
            for name, description in POOLS.items():
                Pool.create_or_update_pool(name, slots=1, description=description, include_deferred=False)
        marker.write_text(version("apache-airflow-core"))


@contextlib.contextmanager
def share_database() -> Iterator[None]:
    """Keep `up` from starting a scheduler, which would take part in this process's run; waits while one is starting."""
    with (AIRFLOW_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def reserve_database() -> Iterator[None]:
    """Keep runs from starting while the scheduler is starting; raises UserError while a run uses the database."""
    with (AIRFLOW_HOME / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "a refresh of another lake or `make down` runs in this project, and shares the database; wait for it or stop it"
            ) from None
        yield


def close_unfinished_runs(lake: str | None = None) -> None:
    """Mark runs that a stopped `run` left open as failed, because a scheduler would continue them.

    With `lake` only the runs of that lake: those of other lakes may be going on in other processes.
    """
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType

    with create_session() as session:
        open_runs = session.query(DagRun).filter(
            DagRun.dag_id == DAG_ID,
            DagRun.triggered_by == DagRunTriggeredByType.TEST,
            DagRun.state.in_([DagRunState.RUNNING, DagRunState.QUEUED]),
        )
        for dag_run in open_runs:
            if lake and (dag_run.conf or {}).get("lake") != lake:
                continue
            dag_run.state = DagRunState.FAILED
            for ti in dag_run.get_task_instances(session=session):
                if ti.state not in (TaskInstanceState.SUCCESS, TaskInstanceState.SKIPPED):
                    ti.state = TaskInstanceState.FAILED
