"""Measure one more day on top of a history: land, clean and features in one process."""

from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import measure
from benchmarks.features import measure_peer, read_features
from benchmarks.generator import Shop
from benchmarks.history import history, next_day


def run(shop: Shop, folder: Path, events: int, repeat: int) -> None:
    """Print the cost of the day against the whole history, against DuckDB, and after twice the history."""
    short_history = history(shop, folder)
    long_history = history(replace(shop, events=2 * shop.events, days=2 * shop.days), folder)
    runs_after_short, runs_after_long = [], []
    for nth in range(repeat):  # alternate, so that both histories meet the same state of the machine
        runs_after_short.append(next_day(short_history, events, nth))
        runs_after_long.append(next_day(long_history, events, nth))
    seconds, seconds_after_long = (median(run.seconds for run in runs) for runs in (runs_after_short, runs_after_long))
    duckdb = measure_peer(short_history, "duckdb", read_features(short_history.lake))
    from_empty = short_history.from_empty
    subject = f"a day of {events:,} events after {shop.events:,}"
    measure.log(f"{subject}: {seconds:.1f} s; all of it from an empty lake {from_empty.seconds:.1f} s")
    measure.log(f"{subject}: DuckDB, features of all history {duckdb.seconds:.1f} s")
    measure.log(f"{subject}: after {2 * shop.days} days {seconds_after_long:.1f} s")
    cpu_seconds, after_long = (median(run.cpu_seconds for run in runs) for runs in (runs_after_short, runs_after_long))
    measure.log(f"{subject}: {cpu_seconds:.1f} CPU s, after {2 * shop.days} days {after_long:.1f} CPU s")
    measure.check_at_least(f"{subject}: from an empty lake / the day", from_empty.seconds / seconds, 6)
    measure.check_at_most(f"{subject}: the day / DuckDB's features of all", seconds / duckdb.seconds, 1)
    measure.check_at_most(f"{subject}: {2 * shop.days} days / {shop.days} days", seconds_after_long / seconds, 1.15)
    measure.check_memory(subject, max(run.peak_bytes for run in runs_after_short + runs_after_long))
    measure.check_memory(f"{shop.events:,} events from an empty lake", from_empty.peak_bytes)
