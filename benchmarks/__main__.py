"""`make bench`: two days of google_merchandise_store through the flow, from an empty lake, as whole processes.

Prints seconds by step against the budgets, the peak resident memory of any process, and the time DuckDB takes for the
orders, money and events of every customer out of the same files, as a measure of this machine.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SHOAL_SHARED_DATA") or ROOT.parent / "shared" / "data")
DAYS = {"2021-01-30": 240, "2021-01-31": 120}  # the budget of a first day and of the next, in seconds
MEMORY_GIB = 6
STEP = re.compile(r"^(\w+)\s+(?:(done|skipped|failed)\s+)?(\d+\.\d) s")


def main() -> int:
    """Run both days and print the table; exit code 1 where a day fails, 0 also where there is no data to run on."""
    data = SHARED / "google_merchandise_store"
    if not data.is_dir():
        print(f"bench: skipped, there is no {data}; name the folder of the data with SHOAL_SHARED_DATA")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        roots = {f"SHOAL_{name.upper()}": f"{folder}/{name}" for name in ("lake", "models", "reports")}
        environment = {**os.environ, **roots, "SHOAL_SOURCE": data.name, "SHOAL_INPUT": str(data)}
        environment.pop("SHOAL_SHARED_DATA", None)
        results = {}
        for day in DAYS:
            results[day] = _run(day, environment)
            if results[day] is None:
                return 1
    steps = [name for name, _ in steps_of(results["2021-01-30"][0]) if name != "all"]
    print(f"\n{'step':<16}" + "".join(f"{day:>14}" for day in DAYS))
    seconds = {day: dict(steps_of(output)) for day, (output, _) in results.items()}
    for name in [*steps, "all"]:
        print(f"{name:<16}" + "".join(f"{seconds[day][name]:>12.1f} s" for day in DAYS))
    print(f"{'budget':<16}" + "".join(f"{budget:>12.1f} s" for budget in DAYS.values()))
    print(
        f"{'peak memory':<16}" + "".join(f"{peak / 2**30:>10.2f} GiB" for _, peak in results.values()) + f"   budget {MEMORY_GIB}"
    )
    peer = _duckdb(data)
    print(f"\nDuckDB, orders, money and events by customer out of the same files: {peer:.1f} s; ", end="")
    print(f"our features step, {seconds['2021-01-30']['features'] / peer:.1f} times as long")
    return 0


def steps_of(output: str) -> list[tuple[str, float]]:
    """The steps a run printed with their seconds, `all` the whole.

    >>> steps_of("refresh 2021-01-30, log x\\nland            done        33.7 s\\nall                        219.4 s")
    [('land', 33.7), ('all', 219.4)]
    """
    found = (STEP.match(line) for line in output.splitlines())
    return [(m.group(1), float(m.group(3))) for m in found if m]


def _run(day: str, environment: dict[str, str]) -> tuple[str, int] | None:
    """(what the refresh printed, peak resident bytes of any of its processes), None where it failed."""
    command = [str(ROOT / ".venv" / "airflow" / "bin" / "python"), "-m", "dags.local", "run", "--day", day]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
    watcher.start()
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    code = process.wait()
    watcher.join()
    return None if code else ("".join(lines), peak[0])


def _watch(process: subprocess.Popen, peak: list[int]) -> None:
    """Note the largest resident size among the process and all that descend from it, twice a second."""
    while process.poll() is None:
        parents, sizes = {}, {}
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            except OSError:
                continue  # it ended in between
            parents[int(fields["Pid"])] = int(fields["PPid"])
            sizes[int(fields["Pid"])] = int(fields.get("VmRSS", "0 kB").split()[0]) * 1024
        for pid in sizes:
            above = pid
            while above in parents and above != process.pid:
                above = parents[above]
            if above == process.pid:
                peak[0] = max(peak[0], sizes[pid])
        time.sleep(0.5)


def _duckdb(data: Path) -> float:
    """Seconds DuckDB takes from the files to a row per customer."""
    import duckdb

    started = time.monotonic()
    duckdb.sql(
        f"""SELECT user_id, count(*) AS events, count(DISTINCT date) FILTER (type = 'purchase') AS orders,
                   sum(price_in_usd) FILTER (type = 'purchase') AS net
            FROM read_csv('{data}/events.csv.gz') e LEFT JOIN read_csv('{data}/items.csv') i ON e.item_id = i.id
            GROUP BY user_id"""  # noqa: S608
    ).fetchall()
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
