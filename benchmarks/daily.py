"""One more day on top of a history: land, clean and features in one process."""

from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks import measure
from benchmarks.features import made, peer
from benchmarks.generator import Shop
from benchmarks.history import history, next_day


def run(shop: Shop, work: Path, events: int, repeat: int) -> None:
    """Print what the day costs against all history at once, against DuckDB, and as the history doubles."""
    past = history(shop, work)
    longer = history(replace(shop, events=2 * shop.events, days=2 * shop.days), work)
    shorter_days, longer_days = [], []
    for nth in range(repeat):  # in turn, so that both meet the same machine
        shorter_days.append(next_day(past, events, nth))
        longer_days.append(next_day(longer, events, nth))
    seconds, doubled = (median(run.seconds for run in runs) for runs in (shorter_days, longer_days))
    duckdb = peer(past, "duckdb", made(past.folder / "lake"))
    told = f"a day of {events:,} events after {shop.events:,}"
    measure.say(f"{told}: {seconds:.1f} s; all of it from an empty lake {past.from_empty.seconds:.1f} s")
    measure.say(f"{told}: DuckDB, features of all history {duckdb.seconds:.1f} s; after {2 * shop.days} days {doubled:.1f} s")
    measure.at_least(f"{told}: from an empty lake / the day", past.from_empty.seconds / seconds, 6)
    measure.at_most(f"{told}: the day / DuckDB's features of all", seconds / duckdb.seconds, 2)
    measure.at_most(f"{told}: {2 * shop.days} days / {shop.days} days", doubled / seconds, 1.15)
    measure.memory(told, max(run.peak_bytes for run in shorter_days + longer_days))
    measure.memory(f"{shop.events:,} events from an empty lake", past.from_empty.peak_bytes)
