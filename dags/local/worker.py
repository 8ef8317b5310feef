"""A worker for the queue `gpu`: `make worker`."""

import os
import socket

from dags.local.airflow_home import AIRFLOW, AIRFLOW_HOME
from dags.local.errors import UserError


def run_worker(api: str) -> None:
    """Replace this process by a worker that takes one training at a time from the queue `gpu`.

    On Ctrl-C the worker first finishes its training. On SIGTERM it ends the training, which the next worker resumes.
    """
    if "AIRFLOW__API_AUTH__JWT_SECRET" not in os.environ and not (AIRFLOW_HOME / "initialised").exists():
        raise UserError("a worker signs with the API server's secret; set AIRFLOW__API_AUTH__JWT_SECRET to one long text on both")
    os.environ.setdefault("AIRFLOW__EDGE__API_URL", f"{api.rstrip('/')}/edge_worker/v1/rpcapi")
    # A new name for each start: the API server refuses the name of a killed worker until it counts that worker as gone.
    name = f"{socket.gethostname()[:50]}-{os.getpid()}"
    command = ["airflow", "edge", "worker", "--queues", "gpu", "--concurrency", "1", "--edge-hostname", name]
    os.execv(AIRFLOW, command)  # noqa: S606
