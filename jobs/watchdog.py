"""End a step that makes no progress, instead of waiting for hours.

Signs of progress are a line of the log, CPU time of the processes that work for the step, and answers of a Spark Connect
server. The processes are this one, its children and the JVM that started it. A server answers when tasks begin or end, and
every two minutes while it works, which jobs/engine/session.py notes. Only Linux shows the CPU time of processes: no step is
ended elsewhere, nor where a cluster works for a driver in this process, of which no sign is seen.
"""

import faulthandler
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BUSY = 0.05  # share of one core; a JVM without work takes less
STALLED_EXIT_CODE = 1  # of a crash, which Airflow tries again
_LOOKS = 4  # in the time after which a step is ended, at least
_MOST_SECONDS = 60.0  # from look to look

_sign = threading.Event()
_works_elsewhere = threading.Event()


class Watch:
    """A watched step: `step` is the name in the last line."""

    def __init__(self, step: str) -> None:
        self.step = step


@contextmanager
def end_if_stalled(step: str, days: str, minutes: float) -> Iterator[Watch]:
    """End this process where the block shows no sign of progress for so many minutes.

    Stacks of all threads are printed, then one line; the exit code is STALLED_EXIT_CODE.
    """
    watch, finished = Watch(step), threading.Event()
    threading.Thread(target=_look, args=(watch, days, minutes, finished), name="watchdog", daemon=True).start()
    try:
        yield watch
    finally:
        finished.set()


def note_progress(**_: Any) -> None:
    """Record a sign of progress."""
    _sign.set()


def work_elsewhere() -> None:
    """End no step of this process: a cluster works for it, and its CPU time is not seen here."""
    _works_elsewhere.set()


def _look(watch: Watch, days: str, minutes: float, finished: threading.Event) -> None:
    """Look for signs of progress until `finished`. A pause of this process, as by Ctrl-Z, counts as one look."""
    seconds = min(_MOST_SECONDS, minutes * 60 / _LOOKS)
    cpu_before, own_before, idle = _cpu_seconds(), time.thread_time(), 0.0
    while not finished.wait(seconds):
        cpu, own = _cpu_seconds(), time.thread_time()
        used = sum(max(0.0, total - cpu_before.get(process, 0.0)) for process, total in cpu.items()) - (own - own_before)
        cpu_before, own_before = cpu, own
        is_alive = _sign.is_set() or used >= BUSY * seconds or not cpu or _works_elsewhere.is_set()
        _sign.clear()
        idle = 0.0 if is_alive else idle + seconds
        if idle >= minutes * 60 and not finished.is_set():
            _end(f"error: {watch.step}: no progress for {minutes:g} minutes ({days}). The stacks of all threads stand above. "
                 "Run the step again, or raise stall_minutes where its work takes longer.")  # fmt: skip


def _end(line: str) -> None:
    """Print stacks and line, and end this process and its children.

    Python's own output is not used, because a stalled thread may hold its lock.
    """
    faulthandler.dump_traceback(1, all_threads=True)
    os.write(1, f"{line}\n".encode())
    children = cpu_seconds_by_process(os.getpid()).keys() - {os.getpid()}
    sys.setswitchinterval(60)  # a thread that waits for a child would go on when that has ended, and end this process in order
    for process in children:
        with suppress(OSError):  # it has ended
            os.kill(process, signal.SIGTERM)
    os._exit(STALLED_EXIT_CODE)


def _cpu_seconds() -> dict[int, float]:
    """Return the CPU seconds, until now, of each process that works for the step; empty where they cannot be read."""
    is_submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # then the JVM is the parent
    return cpu_seconds_by_process(os.getppid() if is_submitted else os.getpid())


def cpu_seconds_by_process(root: int) -> dict[int, float]:
    """Return the CPU seconds of a process, its children and theirs; empty where the system does not show them."""
    parents, seconds, tick = {}, {}, os.sysconf("SC_CLK_TCK")
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            # The name, in brackets, may hold anything. After it: state, parent, ..., user and system time as fields 11 and 12.
            fields = re.sub(r"^.*\) ", "", file.read_text(), flags=re.DOTALL).split()
            parents[int(file.parts[2])] = int(fields[1])
            seconds[int(file.parts[2])] = (int(fields[11]) + int(fields[12])) / tick
    family, children = set(), {root}
    while children:
        family |= children
        children = {process for process, parent in parents.items() if parent in children} - family
    return {process: seconds[process] for process in family & seconds.keys()}
