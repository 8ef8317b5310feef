"""Measure two days of google_merchandise_store through the whole flow, from an empty lake, as Airflow runs it.

Prints seconds by step against the budgets, and the peak resident memory of the largest process. It also prints the time DuckDB
takes to count orders, money and events of every customer in the same files, as a measure of this machine.
"""

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.measure import MEMORY_GIB, ROOT, SHARED, PeakMemory, check_at_most

BUDGET_SECONDS = {"2021-01-30": 75, "2021-01-31": 30}  # of a first day and of the next
STEP_LINE = re.compile(r"^(\w+)\s+(?:(done|skipped|failed)\s+)?(\d+\.\d) s")


def run() -> None:
    """Run both days and print the table, or say that the data are missing. Raises RuntimeError where a day fails."""
    data = SHARED / "google_merchandise_store"
    if not data.is_dir():
        print(f"bench: skipped, there is no {data}; name the folder of the data with SHOAL_SHARED_DATA")
        return
    with tempfile.TemporaryDirectory() as folder:
        roots = {f"SHOAL_{name.upper()}": f"{folder}/{name}" for name in ("lake", "models", "reports")}
        environment = {**os.environ, **roots, "SHOAL_SOURCE": data.name, "SHOAL_INPUT": str(data)}
        environment.pop("SHOAL_SHARED_DATA", None)
        results = {day: _refresh(day, environment) for day in BUDGET_SECONDS}
    first_day, _ = BUDGET_SECONDS
    steps = [name for name, _ in parse_steps(results[first_day][0]) if name != "all"]
    print(f"\n{'step':<16}" + "".join(f"{day:>14}" for day in BUDGET_SECONDS))
    seconds = {day: dict(parse_steps(output)) for day, (output, _) in results.items()}
    for name in [*steps, "all"]:
        print(f"{name:<16}" + "".join(f"{seconds[day][name]:>12.1f} s" for day in BUDGET_SECONDS))
    print()
    for day, budget in BUDGET_SECONDS.items():
        check_at_most(f"flow, {day}: seconds of all steps", seconds[day]["all"], budget, " s")
        check_at_most(f"flow, {day}: peak memory of a process", results[day][1] / 2**30, MEMORY_GIB, " GiB")
    duckdb_seconds = _measure_duckdb(data)
    print(f"\nDuckDB, orders, money and events by customer from the same files: {duckdb_seconds:.1f} s; ", end="")
    print(f"Shoal's features step takes {seconds[first_day]['features'] / duckdb_seconds:.1f} times as long")


def parse_steps(output: str) -> list[tuple[str, float]]:
    """Return the steps that a refresh printed, with their seconds; `all` is their sum.

    >>> parse_steps("refresh 2021-01-30, log x\\nland            done        33.7 s\\nall                        219.4 s")
    [('land', 33.7), ('all', 219.4)]
    """
    matches = (STEP_LINE.match(line) for line in output.splitlines())
    return [(match.group(1), float(match.group(3))) for match in matches if match]


def _refresh(day: str, environment: dict[str, str]) -> tuple[str, int]:
    """Refresh a day and return (its output, peak resident bytes of its largest process)."""
    command = [str(ROOT / ".venv" / "airflow" / "bin" / "python"), "-m", "dags.local", "run", "--day", day]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    peak = PeakMemory(process)
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    code = process.wait()
    peak.join()
    if code:
        raise RuntimeError(f"the refresh of {day} ended with exit code {code}; see its own message above")
    return "".join(lines), peak.largest_process


def _measure_duckdb(data: Path) -> float:
    """Return the seconds DuckDB takes from the files to a row per customer."""
    import duckdb

    started = time.monotonic()
    duckdb.sql(
        f"""SELECT user_id, count(*) AS events, count(DISTINCT date) FILTER (type = 'purchase') AS orders,
                   sum(price_in_usd) FILTER (type = 'purchase') AS net
            FROM read_csv('{data}/events.csv.gz') e LEFT JOIN read_csv('{data}/items.csv') i ON e.item_id = i.id
            GROUP BY user_id"""  # noqa: S608
    ).fetchall()
    return time.monotonic() - started
