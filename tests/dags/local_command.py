"""`python -m dags.local` as a process on a stand-in project, and the Airflow that it starts."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

STEPS = [
    "land", "clean", "check_clean", "features", "check_features", "train",
    "encode", "segment", "score", "publish", "check_marts", "report", "notify",
]  # fmt: skip


@contextmanager
def start_local(project, *arguments: str, jvm: bool = False, **variables: str):
    """Start `python -m dags.local ...` and yield its process; a test that fails meanwhile ends it."""
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


def run_local(project, *arguments: str, **variables: str) -> tuple[int, list[str], str]:
    """Run `python -m dags.local ...`; returns its exit code, the lines on stdout and the text on stderr."""
    with start_local(project, *arguments, **variables) as process:
        out, err = process.communicate(timeout=600)
    return process.returncode, out.splitlines(), err


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def call_api(port: int, path: str, body: dict | None = None, method: str | None = None) -> dict:
    """Return the API server's answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v2/{path}",
        json.dumps(body).encode() if body is not None else None,
        {"Content-Type": "application/json"},
        method=method,
    )
    for retries_left in range(5, -1, -1):
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503 or not retries_left:  # SQLite is locked for moments; Postgres is not
                raise
            time.sleep(2)
    raise AssertionError
