"""The session file of `up`: which processes it started, and how `down` recognises them.

The file holds the process id of the leader. A later process may get the same id, so the file also holds the start time of
the leader and the id of the machine's boot.
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

from dags.local.airflow_home import AIRFLOW_HOME
from dags.processes import is_alive, session_members

SESSION_FILE = AIRFLOW_HOME / "session.json"
FILE_VARIABLE = "SHOAL_SESSION_FILE"  # every process of the session inherits it; its value is the path of the session file
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# The shell waits for a line before it becomes the command. If its parent is killed first, no line comes and the shell ends.
WAIT_FOR_LINE = 'read -r line && exec "$@" </dev/null'


class Session(NamedTuple):
    """The content of a session file; `leader` is the leader of the session (setsid) with all of Airflow's processes."""

    leader: int
    started: float
    boot: str
    port: int


def start_session(file: Path, port: int, command: list[str], output, environment: dict[str, str]) -> subprocess.Popen:
    """Start a command as the leader of a new session, once the session file names it.

    If this process is killed at any moment, either the session file names the leader, or the leader ends.
    """
    leader = subprocess.Popen(
        ["/bin/sh", "-c", WAIT_FOR_LINE, "sh", *command],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
        # SPT_NOENV: setproctitle otherwise overwrites the environment that other processes can read.
        env={**environment, FILE_VARIABLE: str(file), "SPT_NOENV": "1"},
    )
    with leader.stdin:
        _write(file, Session(leader.pid, _start_time(leader.pid), _boot_id(), port))
        leader.stdin.write(b"go\n")
    return leader


def read_session(file: Path) -> Session | None:
    """Return the session that the file names, or None: no such session is alive, or the file is missing or damaged."""
    try:
        session = Session(**json.loads(file.read_text()))
        is_same = session.boot == _boot_id() and _is_same(session, file)
    except (OSError, ValueError, TypeError):
        return None
    return session if is_same and session_members(session.leader) else None


def session_processes(leader: int) -> list[psutil.Process]:
    """Return the living processes of a session and their descendants, because each step leads a session of its own."""
    processes = set()
    for member in session_members(leader):
        processes.add(member)
        with contextlib.suppress(psutil.NoSuchProcess):
            processes |= {*member.children(recursive=True)}
    return [process for process in processes if is_alive(process)]


def wait_for_end(processes: list[psutil.Process], seconds: float) -> bool:
    """Wait until all processes have ended, at most `seconds`; returns whether they have."""
    end = time.monotonic() + seconds
    while any(map(is_alive, processes)):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _is_same(session: Session, file: Path) -> bool:
    """Return whether the session with this id is the one that `up` started.

    Once the leader has ended, another leader may have had its id. Then the environment of a member decides.
    """
    started = _start_time(session.leader)
    if started is not None:
        return started == session.started
    return any(_session_file(process) == str(file) for process in session_members(session.leader))


def _start_time(pid: int) -> float | None:
    """Return the start time of a process, or None where there is no such process."""
    try:
        if sys.platform == "linux":  # ticks since boot, which do not change when the clock is set
            return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
        return psutil.Process(pid).create_time()
    except (OSError, psutil.NoSuchProcess):
        return None


def _boot_id() -> str:
    """Return the id of the machine's boot; empty on other systems than Linux, where start times are absolute."""
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""


def _session_file(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(FILE_VARIABLE)
    except (psutil.Error, OSError):
        return None


def _write(file: Path, session: Session) -> None:
    """Write the file in one step: a reader finds the old content or the new one."""
    temporary = file.with_suffix(".new")
    with temporary.open("w") as content:
        json.dump(session._asdict(), content)
        content.flush()
        os.fsync(content.fileno())
    os.replace(temporary, file)
