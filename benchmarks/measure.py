"""Run a command as a process of its own and measure its seconds by step, its CPU seconds and its memory."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from jobs.watchdog import cpu_seconds_by_process

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SHOAL_SHARED_DATA") or ROOT.parent / "shared" / "data")  # real data, one folder for each source
MEMORY_GIB = 6
RESULTS: list[str] = []  # a line for each figure that has a target
DONE_LINE = re.compile(r"^done  (\w+(?: \w+)?) .* (\d+\.\d) s  \w+$")


@dataclass
class Run:
    """One process: wall and CPU seconds, peak resident bytes together with its descendants, and the seconds of each step."""

    seconds: float
    peak_bytes: int
    cpu_seconds: float = 0.0
    steps: dict[str, float] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "Run":
        return cls(**json.loads(path.read_text()))


def run_command(command: list[str], environment: dict[str, str]) -> Run:
    """Run a command of this project and return its cost.

    Raises RuntimeError with the last lines of its output where the command fails.
    """
    started = time.time()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    peak = PeakMemory(process)
    lines, steps = [], {}
    for line in process.stdout:
        lines.append(line)
        if match := DONE_LINE.match(line):
            steps[match[1]] = float(match[2])
    code = process.wait()
    seconds = time.time() - started
    peak.join()
    if code:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {code}:\n{''.join(lines[-30:])}")
    return Run(seconds, peak.all_processes, sum(peak.cpu_seconds.values()), steps)


class PeakMemory:
    """The peak resident bytes of a process and its descendants together, and of the largest of them; sampled twice a second.

    `cpu_seconds` has those of each process, as far as it was seen.
    """

    def __init__(self, process: subprocess.Popen):
        self.all_processes = self.largest_process = 0
        self.cpu_seconds: dict[int, float] = {}
        self._process = process
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _watch(self) -> None:
        while self._process.poll() is None:
            sizes = list(_resident_bytes(self._process.pid))
            self.cpu_seconds |= cpu_seconds_by_process(self._process.pid)
            self.all_processes = max(self.all_processes, sum(sizes))
            self.largest_process = max(self.largest_process, *sizes, 0)
            time.sleep(0.5)


def _resident_bytes(root: int) -> Iterable[int]:
    """Yield the resident bytes of a process and of each descendant; memory that several share counts once.

    A Java process forks for every `chmod` and `stat`. Until the new program starts, the fork shows its parent's memory a second
    time, so it is left out.
    """
    parents, mapped = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except OSError:
            continue  # the process has ended
        pid = int(fields["Pid"])
        parents[pid] = int(fields["PPid"])
        mapped[pid] = fields.get("VmSize")
    for pid, parent in parents.items():
        ancestor = pid
        while ancestor in parents and ancestor != root:
            ancestor = parents[ancestor]
        if ancestor == root and (pid == root or mapped[pid] != mapped.get(parent)):
            try:
                yield int(re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1]) * 1024
            except (OSError, TypeError):
                continue  # the process has ended


def check_at_least(figure: str, value: float, target: float, unit: str = "") -> None:
    """Print a figure with the smallest value that meets its target."""
    _record(figure, value, f"at least {target:g}", value >= target, unit)


def check_at_most(figure: str, value: float, target: float, unit: str = "") -> None:
    """Print a figure with the largest value that meets its target."""
    _record(figure, value, f"at most {target:g}", value <= target, unit)


def check_memory(subject: str, peak_bytes: int) -> None:
    """Print a peak of memory with its target, MEMORY_GIB."""
    check_at_most(f"{subject}: peak memory", peak_bytes / 2**30, MEMORY_GIB, " GiB")


def log(line: str) -> None:
    """Print a line of progress at once."""
    print(line, flush=True)


def _record(figure: str, value: float, target: str, met: bool, unit: str) -> None:
    RESULTS.append(f"{figure:<84}{value:>9.2f}{unit:<5}{target:>15}  {'met' if met else 'MISSED'}")
    log(RESULTS[-1])


def python_command(*arguments: str) -> list[str]:
    """Return a command that runs this interpreter with these arguments."""
    return [sys.executable, *arguments]
