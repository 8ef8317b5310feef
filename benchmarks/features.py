"""All features of a history made anew: Shoal's two tables against plain Spark and DuckDB, from the same clean tables."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from benchmarks import measure, peers
from benchmarks.generator import LAST_DAY, Shop
from benchmarks.history import History, history
from benchmarks.measure import Run

TOLERANCE = 1e-6  # of fractions, relative above 1; counts, days and money must be equal


def run(shop: Shop, work: Path) -> None:
    """Print the ratios. Raises RuntimeError where the three do not agree."""
    past = history(shop, work)
    with past.copy("lake_features") as lake:
        forget(lake)
        ours = measure.run(measure.python("-m", "jobs", "features", "--day", str(LAST_DAY)), past.environment(lake))
        result = made(lake)
        runs = {engine: peer(past, engine, result) for engine in ("spark", "duckdb")}
    plain, duckdb = runs["spark"], runs["duckdb"]
    told = f"features of {shop.events:,} events"
    measure.say(f"{told}: ours {ours.seconds:.1f} s, plain Spark {plain.seconds:.1f} s, DuckDB {duckdb.seconds:.1f} s")
    measure.at_least(f"{told}: plain Spark / ours", plain.seconds / ours.seconds, 3)
    measure.at_most(f"{told}: ours / DuckDB", ours.seconds / duckdb.seconds, 2.5)
    measure.memory(told, ours.peak_bytes)


def peer(past: History, engine: str, ours: pa.Table) -> Run:
    """What an engine of benchmarks/peers.py takes for the same. Raises RuntimeError where its result is another."""
    out = past.folder / f"{engine}.parquet"
    shutil.rmtree(out, ignore_errors=True)
    out.unlink(missing_ok=True)
    lake = past.folder / "lake"
    took = measure.run(measure.python("-m", "benchmarks.peers", engine, str(lake), str(LAST_DAY), str(out)), {})
    if different := differences(ours, pa.parquet.read_table(out)):
        raise RuntimeError(f"{engine} has other features than ours; customers that differ: {different}")
    return took


def forget(lake: Path) -> None:
    """Take away the features layer and the account of the days it was made from."""
    from deltalake import DeltaTable

    shutil.rmtree(lake / "features")
    DeltaTable(lake / "quality" / "reconciliation").delete("\"table\" = 'features.customer_days'")


def differences(ours: pa.Table, theirs: pa.Table) -> dict[str, int]:
    """The number of customers in which two results differ, by column, where there are any.

    A customer that one of them lacks counts in `customer_id`, and in each column with a value.
    """
    import duckdb

    database = duckdb.connect()
    database.register("ours", ours)
    database.register("theirs", theirs)
    columns = {name: f"ours.{name} IS DISTINCT FROM theirs.{name}" for name in theirs.column_names}
    for name in columns:
        if pa.types.is_floating(ours[name].type):
            close = f"abs(ours.{name} - theirs.{name}) <= {TOLERANCE} * greatest(1, abs(ours.{name}))"
            columns[name] += f" AND NOT coalesce({close}, false)"
    counts = ", ".join(f"count_if({different})" for different in columns.values())
    rows = database.execute(f"SELECT {counts} FROM ours FULL JOIN theirs ON ours.customer_id = theirs.customer_id")  # noqa: S608
    return {name: n for name, n in zip(columns, rows.fetchall()[0], strict=True) if n}


def made(lake: Path) -> pa.Table:
    """Our features that the others make too, as of the last day."""
    from jobs.storage.delta import read_arrow

    return read_arrow(str(lake), "features.customers", ["customer_id", *peers.FEATURES], LAST_DAY)
