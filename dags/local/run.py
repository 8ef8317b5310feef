"""One day in this process: `make refresh`."""

import gc
import signal
from datetime import UTC, datetime

from dags.local.airflow_home import log_path, redirect_output
from dags.local.database import close_unfinished_runs, create_database, share_database
from dags.local.errors import UserError
from dags.local.lake_lock import hold_lake, lake_root
from dags.local.progress import Progress, stop
from dags.local.session import SESSION_FILE, read_session

# New objects between two looks for garbage. What Airflow imports stays; with 700, the default, its imports take a fifth longer.
GARBAGE_THRESHOLD = 100_000


def run_day(day: str, retrain: bool = False) -> None:
    """Run the DAG for one day in this process, each step in a process of its own; raises UserError if the day failed.

    Steps are not retried: the person who started the run sees the error. Ctrl-C and SIGTERM leave no process running.
    Several lakes may be refreshed at the same time, each lake once at a time.
    """
    with share_database():
        if read_session(SESSION_FILE):
            raise UserError("the scheduler is up and would take part in this run; trigger the day there, or `make down` first")
        lake = lake_root()
        with hold_lake(lake, day):
            _run_day(day, retrain, lake)


def _run_day(day: str, retrain: bool, lake: str) -> None:
    log = log_path(f"refresh-{day}")
    print(f"refresh {day}, log {log}", flush=True)
    signal.signal(signal.SIGTERM, stop)
    gc.set_threshold(GARBAGE_THRESHOLD)
    with redirect_output(log) as terminal:
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
