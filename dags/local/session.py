"""The processes that `up` started: which they are, and that they are still the same ones.

`up` writes the leader's process id into a session file, with what tells that process from a later one of the same id: when
it started, and the boot of the machine.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil

FILE_VARIABLE = "SHOAL_SESSION_FILE"  # every process of the session has it, with the path of the session file
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Waits for a line before it becomes the command. Where none comes it ends: its parent was killed and nothing knows of it.
WAIT_FOR_LINE = 'read -r line && exec "$@" </dev/null'


class Session(NamedTuple):
    """What a session file holds; `leader` leads the operating system's session that all of Airflow's processes are in."""

    leader: int
    started: float
    boot: str
    port: int


def start_session(file: Path, port: int, command: list[str], output, environment: dict[str, str]) -> subprocess.Popen:
    """Start a command as the leader of a session of its own, after the session file says so.

    A kill at any moment leaves either a session file that names the process, or no process.
    """
    leader = subprocess.Popen(
        ["/bin/sh", "-c", WAIT_FOR_LINE, "sh", *command],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
        # a process that gives itself a title would otherwise write it over its environment
        env={**environment, FILE_VARIABLE: str(file), "SPT_NOENV": "1"},
    )
    with leader.stdin:
        _write(file, Session(leader.pid, _start_time(leader.pid), _boot(), port))
        leader.stdin.write(b"go\n")
    return leader


def read_session(file: Path) -> Session | None:
    """Return the session that the file names while any process of it is alive, else None; None for a damaged file too."""
    try:
        session = Session(**json.loads(file.read_text()))
        is_same = session.boot == _boot() and _is_same(session, file)
    except (OSError, ValueError, TypeError):
        return None
    return session if is_same and processes(session.leader) else None


def processes(leader: int) -> list[psutil.Process]:
    """Return the living processes of a session and all that descend from them: steps lead sessions of their own."""
    members = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == leader:
                members |= {process, *process.children(recursive=True)}
    return [process for process in members if is_alive(process)]


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_end(processes: list[psutil.Process], seconds: float) -> bool:
    """Wait until all processes have ended; False where some have not after so many seconds."""
    end = time.monotonic() + seconds
    while any(map(is_alive, processes)):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _is_same(session: Session, file: Path) -> bool:
    """Return whether the session of this id is still the one that `up` started.

    Where the leader has ended, the other processes show it by their environment: another leader may have had the id since.
    """
    started = _start_time(session.leader)
    if started is not None:
        return started == session.started
    return any(_session_file(process) == str(file) for process in processes(session.leader))


def _start_time(pid: int) -> float | None:
    """Return when a process started; None where there is no such process."""
    try:
        if sys.platform == "linux":  # in ticks since boot, which setting the clock does not change
            return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
        return psutil.Process(pid).create_time()
    except (OSError, psutil.NoSuchProcess):
        return None


def _boot() -> str:
    """Return the id of this boot of the machine; elsewhere than on Linux start times are moments and need none."""
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""


def _session_file(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(FILE_VARIABLE)
    except (psutil.Error, OSError):
        return None


def _write(file: Path, session: Session) -> None:
    temporary = file.with_suffix(".new")
    with temporary.open("w") as content:
        json.dump(session._asdict(), content)
        content.flush()
        os.fsync(content.fileno())
    os.replace(temporary, file)
