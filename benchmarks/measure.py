"""Run a command as a process of its own and measure its seconds, its memory, and Spark's work by step."""

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

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SHOAL_SHARED_DATA") or ROOT.parent / "shared" / "data")  # real data, one folder for each source
MEMORY_GIB = 6
RESULTS: list[str] = []  # a line for each figure that has a target
DONE_LINE = re.compile(r"^done  (\w+(?: \w+)?) .* (\d+\.\d) s$")


@dataclass
class Cost:
    """The cost of one step; a shuffle is a stage that wrote shuffle bytes."""

    seconds: float = 0.0
    jobs: int = 0
    shuffles: int = 0
    shuffle_bytes: int = 0


@dataclass
class Run:
    """One process: wall seconds, peak resident bytes together with its descendants, and cost by step."""

    seconds: float
    peak_bytes: int
    steps: dict[str, Cost] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "Run":
        values = json.loads(path.read_text())
        return cls(values["seconds"], values["peak_bytes"], {name: Cost(**cost) for name, cost in values["steps"].items()})


def run_command(command: list[str], environment: dict[str, str], event_log: Path | None = None) -> Run:
    """Run a command of this project and return its cost.

    Spark's event log is written to the new folder `event_log` and counted; without it, steps have seconds only.
    Raises RuntimeError with the last lines of its output where the command fails.
    """
    environment = {**os.environ, **environment}
    if event_log:
        event_log.mkdir(parents=True)
        options = {"enabled": "true", "dir": event_log.as_uri(), "rolling.enabled": "false", "compress": "false"}
        arguments = " ".join(f"--conf spark.eventLog.{key}={value}" for key, value in options.items())
        environment["PYSPARK_SUBMIT_ARGS"] = f"{arguments} pyspark-shell"
    started = time.time()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    peak = PeakMemory(process)
    lines, ends = [], []
    for line in process.stdout:
        lines.append(line)
        if match := DONE_LINE.match(line):
            ends.append((match[1], float(match[2]), time.time()))
    code = process.wait()
    seconds = time.time() - started
    peak.join()
    if code:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {code}:\n{''.join(lines[-30:])}")
    steps = {name: Cost(seconds=step_seconds) for name, step_seconds, _ in ends}
    if event_log:
        (events,) = (path for path in event_log.iterdir() if not path.name.startswith("."))
        with events.open() as file:
            _add_spark_costs(steps, [(name, end) for name, _, end in ends], map(json.loads, file))
    return Run(seconds, peak.all_processes, steps)


def _add_spark_costs(steps: dict[str, Cost], ends: list[tuple[str, float]], events: Iterable[dict]) -> None:
    """Add jobs, shuffles and their bytes to the step during which they ended; `ends` are seconds since 1970, in order."""
    bytes_by_stage: dict[tuple[str, int], int] = {}

    def step_of(milliseconds: int) -> str | None:
        return next((name for name, end in ends if milliseconds / 1000 <= end + 0.05), None)

    for event in events:
        if event["Event"] == "SparkListenerJobEnd" and (name := step_of(event["Completion Time"])):
            steps[name].jobs += 1
        elif event["Event"] == "SparkListenerTaskEnd" and (name := step_of(event["Task Info"]["Finish Time"])):
            written = event.get("Task Metrics", {}).get("Shuffle Write Metrics", {}).get("Shuffle Bytes Written", 0)
            stage = name, event["Stage ID"]
            bytes_by_stage[stage] = bytes_by_stage.get(stage, 0) + written
    for (name, _), written in bytes_by_stage.items():
        steps[name].shuffles += written > 0
        steps[name].shuffle_bytes += written


class PeakMemory:
    """The peak resident bytes of a process and its descendants together, and of the largest of them; sampled twice a second."""

    def __init__(self, process: subprocess.Popen):
        self.all_processes = self.largest_process = 0
        self._process = process
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _watch(self) -> None:
        while self._process.poll() is None:
            sizes = list(_resident_bytes(self._process.pid))
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
