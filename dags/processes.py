"""Processes of the project: where their programs are, how they start, and how they end.

Paths are looked up on the machine that runs a process. SHOAL_HOME, SHOAL_SPARK_HOME, SHOAL_SPARK_PYTHON and
SHOAL_TRAIN_PYTHON set them; each has a default inside the project.
"""

import ctypes
import os
import signal
import socket
import sys
import time
import tomllib
from pathlib import Path
from zoneinfo import ZoneInfo

import psutil

ANSWER_SECONDS = 60.0  # for a Spark Connect server to accept connections; it takes 5 s on two idle cores
GRACE_SECONDS = 3.0  # between SIGTERM and SIGKILL; Airflow kills a task 5 s after it asked the task to end
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def project_home() -> Path:
    """Return the project's folder on this machine."""
    return Path(os.environ.get("SHOAL_HOME") or Path(__file__).resolve().parent.parent)


def spark_home() -> Path:
    """Return the Spark installation; raises AirflowFailException where there is none."""
    if path := os.environ.get("SHOAL_SPARK_HOME"):
        return _require(Path(path), "SHOAL_SPARK_HOME")
    environment = project_home() / ".venv" / "spark"
    installations = sorted((environment / "lib").glob("python3*/site-packages/pyspark"))
    return installations[0] if installations else _require(environment, "SHOAL_SPARK_HOME")


def python_path(environment: str) -> str:
    """Return the interpreter of the environment "spark" or "train"; raises AirflowFailException where there is none."""
    variable = f"SHOAL_{environment.upper()}_PYTHON"
    default = project_home() / ".venv" / environment / "bin" / "python"
    return str(_require(Path(os.environ.get(variable) or default), variable))


def chosen_engine() -> str:
    """Return the setting `engine`: SHOAL_ENGINE, else `engine` in conf/<SHOAL_ENV>.toml, else "auto"."""
    return _read_setting("engine", "auto")


def business_time_zone() -> ZoneInfo:
    """Return the setting `business_time_zone`, by which days begin and the schedule runs; UTC where it is not set.

    UTC stands for a zone that does not exist too: the first step reads the same setting and says what is wrong with it.
    """
    try:
        return ZoneInfo(_read_setting("business_time_zone", "UTC"))
    except (KeyError, OSError, TypeError, ValueError):
        return ZoneInfo("UTC")


def _read_setting(name: str, default: str) -> str:
    """Return SHOAL_<NAME>, else `name` in conf/<SHOAL_ENV>.toml, else the default."""
    if value := os.environ.get(f"SHOAL_{name.upper()}"):
        return value
    settings = project_home() / "conf" / f"{os.environ.get('SHOAL_ENV', 'local')}.toml"
    try:
        return tomllib.loads(settings.read_text()).get(name, default)
    except (OSError, tomllib.TOMLDecodeError):
        return default  # the step reads the same file and says what is wrong with it


def wait_for_spark_server(host: str, port: int) -> None:
    """Wait until the Spark Connect server accepts connections; raises AirflowException after ANSWER_SECONDS.

    The server may still be starting, and its own client would wait for minutes without a message.
    """
    end = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            return socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
        except OSError as error:
            if time.monotonic() > end:
                from airflow.sdk.exceptions import AirflowException

                raise AirflowException(
                    f"error: no Spark Connect server answers at {host}:{port} ({error}); start it, or change the connection"
                ) from None
        time.sleep(0.1)


def end_session(leader: int) -> None:
    """End every process of the session that the process `leader` leads: SIGTERM, then SIGKILL after GRACE_SECONDS.

    The session and not the process group, because Spark's Python workers make a group of their own.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in session_members(leader):
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue  # it has ended meanwhile
        end = time.monotonic() + GRACE_SECONDS
        while session_members(leader) and time.monotonic() < end:
            time.sleep(0.05)


def session_members(leader: int) -> list[psutil.Process]:
    """Return the living processes of the session that the process `leader` leads, or led before it ended."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and is_alive(process):
                members.append(process)
        except ProcessLookupError:
            continue
    return members


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs. A zombie does not, and is never reaped here: its Popen waits for the exit status."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def die_with_parent(number: int) -> None:
    """Have the kernel send this process the signal `number` when its parent ends, even by SIGKILL. Linux only."""
    if _libc:
        _libc.prctl(PR_SET_PDEATHSIG, int(number))


def _require(path: Path, variable: str) -> Path:
    if not path.exists():
        from airflow.sdk.exceptions import AirflowFailException

        raise AirflowFailException(f"error: {path} does not exist; set the project up (make) or set {variable}")
    return path
