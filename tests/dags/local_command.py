"""`python -m dags.local` as a process on a stand-in project, and the Airflow that it starts."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

STEPS = [
    "land", "clean", "check_clean", "features", "check_features", "train",
    "encode", "segment", "score", "publish", "check_marts", "report", "notify",
]  # fmt: skip


_TOKENS: dict[int, str] = {}  # of the API servers that run_local() has started, by port


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
    if "--port" in arguments and process.returncode == 0:
        log_in(int(arguments[arguments.index("--port") + 1]), project.var / "airflow" / "passwords.json")
    return process.returncode, out.splitlines(), err


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def log_in(port: int, passwords: Path) -> None:
    """Keep a token of the user for call_api()."""
    ((user, password),) = json.loads(passwords.read_text()).items()
    credentials = json.dumps({"username": user, "password": password}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/auth/token", credentials, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310
        _TOKENS[port] = json.load(answer)["access_token"]


def authorization(port: int) -> dict[str, str]:
    """Return the header of a user who is logged in."""
    return {"Authorization": f"Bearer {_TOKENS[port]}"}


def call_api(port: int, path: str, body: dict | None = None, method: str | None = None) -> dict:
    """Return the API server's answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v2/{path}",
        json.dumps(body).encode() if body is not None else None,
        {"Content-Type": "application/json"} | authorization(port),
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
