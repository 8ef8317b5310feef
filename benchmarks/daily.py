"""One more day on top of a history: land, clean and features in one process."""

import argparse
from pathlib import Path
from statistics import median

from benchmarks import measure
from benchmarks.features import made, peer
from benchmarks.generator import Shop
from benchmarks.history import history, next_day


def run(chosen: argparse.Namespace, work: Path) -> None:
    """Print what the day costs against all history at once, against DuckDB, and as the history doubles."""
    past = history(Shop(chosen.events, chosen.days, chosen.customers), work)
    longer = history(Shop(2 * chosen.events, 2 * chosen.days, chosen.customers), work)
    shorter_days, longer_days = [], []
    for nth in range(chosen.repeat):  # in turn, so that both meet the same machine
        shorter_days.append(next_day(past, chosen.next_day_events, nth))
        longer_days.append(next_day(longer, chosen.next_day_events, nth))
    seconds, doubled = (median(run.seconds for run in runs) for runs in (shorter_days, longer_days))
    duckdb = peer(past, "duckdb", made(past.folder / "lake"))
    told = f"a day of {chosen.next_day_events:,} events after {chosen.events:,}"
    measure.say(f"{told}: {seconds:.1f} s; all of it from an empty lake {past.from_empty.seconds:.1f} s")
    measure.say(f"{told}: DuckDB, features of all history {duckdb.seconds:.1f} s; after {2 * chosen.days} days {doubled:.1f} s")
    measure.at_least(f"{told}: from an empty lake / the day", past.from_empty.seconds / seconds, 6)
    measure.at_most(f"{told}: the day / DuckDB's features of all", seconds / duckdb.seconds, 2)
    measure.at_most(f"{told}: {2 * chosen.days} days / {chosen.days} days", doubled / seconds, 1.15)
    measure.memory(told, max(run.peak_bytes for run in shorter_days + longer_days))
    measure.memory(f"{chosen.events:,} events from an empty lake", past.from_empty.peak_bytes)
