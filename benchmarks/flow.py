"""Two days of google_merchandise_store through the whole flow, from an empty lake, as Airflow runs it.

Prints seconds by step against the budgets, the peak resident memory of any process, and the time DuckDB takes for the
orders, money and events of every customer out of the same files, as a measure of this machine.
"""

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.measure import MEMORY_GIB, ROOT, SHARED, Peaks, at_most

DAYS = {"2021-01-30": 240, "2021-01-31": 120}  # the budget of a first day and of the next, in seconds
STEP = re.compile(r"^(\w+)\s+(?:(done|skipped|failed)\s+)?(\d+\.\d) s")


def run() -> None:
    """Run both days and print the table; without the data, say so. Raises RuntimeError where a day fails."""
    data = SHARED / "google_merchandise_store"
    if not data.is_dir():
        print(f"bench: skipped, there is no {data}; name the folder of the data with SHOAL_SHARED_DATA")
        return
    with tempfile.TemporaryDirectory() as folder:
        roots = {f"SHOAL_{name.upper()}": f"{folder}/{name}" for name in ("lake", "models", "reports")}
        environment = {**os.environ, **roots, "SHOAL_SOURCE": data.name, "SHOAL_INPUT": str(data)}
        environment.pop("SHOAL_SHARED_DATA", None)
        results = {}
        for day in DAYS:
            results[day] = _run(day, environment)
    steps = [name for name, _ in steps_of(results["2021-01-30"][0]) if name != "all"]
    print(f"\n{'step':<16}" + "".join(f"{day:>14}" for day in DAYS))
    seconds = {day: dict(steps_of(output)) for day, (output, _) in results.items()}
    for name in [*steps, "all"]:
        print(f"{name:<16}" + "".join(f"{seconds[day][name]:>12.1f} s" for day in DAYS))
    print()
    for day, budget in DAYS.items():
        at_most(f"flow, {day}: seconds of all steps", seconds[day]["all"], budget, " s")
        at_most(f"flow, {day}: peak memory of a process", results[day][1] / 2**30, MEMORY_GIB, " GiB")
    peer = _duckdb(data)
    print(f"\nDuckDB, orders, money and events by customer out of the same files: {peer:.1f} s; ", end="")
    print(f"our features step, {seconds['2021-01-30']['features'] / peer:.1f} times as long")


def steps_of(output: str) -> list[tuple[str, float]]:
    """The steps a run printed with their seconds, `all` the whole.

    >>> steps_of("refresh 2021-01-30, log x\\nland            done        33.7 s\\nall                        219.4 s")
    [('land', 33.7), ('all', 219.4)]
    """
    found = (STEP.match(line) for line in output.splitlines())
    return [(m.group(1), float(m.group(3))) for m in found if m]


def _run(day: str, environment: dict[str, str]) -> tuple[str, int]:
    """(what the refresh printed, peak resident bytes of any of its processes)."""
    command = [str(ROOT / ".venv" / "airflow" / "bin" / "python"), "-m", "dags.local", "run", "--day", day]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    peaks = Peaks(process)
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    code = process.wait()
    peaks.join()
    if code:
        raise RuntimeError(f"the refresh of {day} ended with exit code {code}; its own message stands above")
    return "".join(lines), peaks.one


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
