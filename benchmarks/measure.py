"""A command as a process of its own: its seconds, its memory, and what Spark did in it, step by step."""

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
SHARED = Path(os.environ.get("SHOAL_SHARED_DATA") or ROOT.parent / "shared" / "data")  # real sources, a folder each
MEMORY_GIB = 6
RESULTS: list[str] = []  # every judged figure of this run
DONE = re.compile(r"^done  (\w+(?: \w+)?) .* (\d+\.\d) s$")


@dataclass
class Cost:
    """What one step took; a shuffle is a stage that wrote some."""

    seconds: float = 0.0
    jobs: int = 0
    shuffles: int = 0
    shuffle_bytes: int = 0


@dataclass
class Run:
    """One process: wall seconds, largest resident bytes of it with all that descend from it, cost by step."""

    seconds: float
    peak_bytes: int
    steps: dict[str, Cost] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "Run":
        values = json.loads(path.read_text())
        return cls(values["seconds"], values["peak_bytes"], {name: Cost(**cost) for name, cost in values["steps"].items()})


def run(command: list[str], environment: dict[str, str], log: Path | None = None) -> Run:
    """Run a command of this project; with `log`, a new folder, Spark's event log is kept there and read.

    Raises RuntimeError with the end of what it printed where it fails.
    """
    environment = {**os.environ, **environment}
    if log:
        log.mkdir(parents=True)
        kept = {"enabled": "true", "dir": log.as_uri(), "rolling.enabled": "false", "compress": "false"}
        told = " ".join(f"--conf spark.eventLog.{key}={value}" for key, value in kept.items())
        environment["PYSPARK_SUBMIT_ARGS"] = f"{told} pyspark-shell"
    started = time.time()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    peaks = Peaks(process)
    lines, ends = [], []
    for line in process.stdout:
        lines.append(line)
        if found := DONE.match(line):
            ends.append((found[1], float(found[2]), time.time()))
    code = process.wait()
    seconds = time.time() - started
    peaks.join()
    if code:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {code}:\n{''.join(lines[-30:])}")
    steps = {name: Cost(seconds=took) for name, took, _ in ends}
    if log:
        (events,) = (path for path in log.iterdir() if not path.name.startswith("."))
        with events.open() as file:
            _add_spark(steps, [(name, end) for name, _, end in ends], map(json.loads, file))
    return Run(seconds, peaks.tree, steps)


def _add_spark(steps: dict[str, Cost], ends: list[tuple[str, float]], events: Iterable[dict]) -> None:
    """Count jobs, shuffles and their bytes to the step in whose time they ended; `ends` are seconds since 1970, in order."""
    shuffled: dict[tuple[str, int], int] = {}

    def step_of(milliseconds: int) -> str | None:
        return next((name for name, end in ends if milliseconds / 1000 <= end + 0.05), None)

    for event in events:
        if event["Event"] == "SparkListenerJobEnd" and (name := step_of(event["Completion Time"])):
            steps[name].jobs += 1
        elif event["Event"] == "SparkListenerTaskEnd" and (name := step_of(event["Task Info"]["Finish Time"])):
            written = event.get("Task Metrics", {}).get("Shuffle Write Metrics", {}).get("Shuffle Bytes Written", 0)
            shuffled[name, event["Stage ID"]] = shuffled.get((name, event["Stage ID"]), 0) + written
    for (name, _), written in shuffled.items():
        steps[name].shuffles += written > 0
        steps[name].shuffle_bytes += written


class Peaks:
    """The largest resident bytes of a process's `tree` together and of any `one` in it, looked at twice a second."""

    def __init__(self, process: subprocess.Popen):
        self.tree = self.one = 0
        self._process = process
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _watch(self) -> None:
        while self._process.poll() is None:
            sizes = list(_sizes(self._process.pid))
            self.tree = max(self.tree, sum(sizes))
            self.one = max(self.one, *sizes, 0)
            time.sleep(0.5)


def _sizes(root: int) -> Iterable[int]:
    """The resident bytes of a process and of each that descends from it; what several share counts once among them.

    A Java process forks for every `chmod` and `stat`; until that begins, it is the same memory seen twice, and left out.
    """
    parents, mapped = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except OSError:
            continue  # it ended in between
        pid = int(fields["Pid"])
        parents[pid] = int(fields["PPid"])
        mapped[pid] = fields.get("VmSize")
    for pid, parent in parents.items():
        above = pid
        while above in parents and above != root:
            above = parents[above]
        if above == root and (pid == root or mapped[pid] != mapped.get(parent)):
            try:
                yield int(re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1]) * 1024
            except (OSError, TypeError):
                continue  # it ended in between


def at_least(what: str, measured: float, target: float, unit: str = "") -> None:
    """Print one measured figure beside the least it should be."""
    _judge(what, measured, f"at least {target:g}", measured >= target, unit)


def at_most(what: str, measured: float, target: float, unit: str = "") -> None:
    """Print one measured figure beside the most it should be."""
    _judge(what, measured, f"at most {target:g}", measured <= target, unit)


def memory(what: str, peak_bytes: int) -> None:
    at_most(f"{what}: peak memory", peak_bytes / 2**30, MEMORY_GIB, " GiB")


def say(line: str) -> None:
    """A line of progress."""
    print(line, flush=True)


def _judge(what: str, measured: float, target: str, met: bool, unit: str) -> None:
    RESULTS.append(f"{what:<84}{measured:>9.2f}{unit:<5}{target:>15}  {'met' if met else 'MISSED'}")
    say(RESULTS[-1])


def python(*arguments: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *arguments]
