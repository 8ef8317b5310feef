"""Measure all features of a history with both engines, against plain Spark and DuckDB, from the same clean tables."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from benchmarks import measure, peer_features
from benchmarks.generator import LAST_DAY, Shop
from benchmarks.history import History, history
from benchmarks.measure import Run

TOLERANCE = 1e-6  # of fractions, relative above 1; counts, days and money must be equal


def run(shop: Shop, folder: Path) -> None:
    """Print the ratios of both engines. Raises RuntimeError where the results differ."""
    shop_history = history(shop, folder)
    runs, features = {}, None
    for engine in ("local", "spark"):
        with shop_history.copy("lake_features") as lake:
            remove_features(lake)
            command = measure.python_command("-m", "jobs", "features", "--day", str(LAST_DAY))
            runs[engine] = measure.run_command(command, shop_history.environment(lake) | {"SHOAL_ENGINE": engine})
            features = read_features(lake)
    runs |= {f"plain {engine}": measure_peer(shop_history, engine, features) for engine in ("spark", "duckdb")}
    subject = f"features of {shop.events:,} events"
    for name, cost in runs.items():
        measure.log(f"{subject}: {name:<14}{cost.seconds:8.1f} s {cost.cpu_seconds:8.1f} CPU s")
    seconds = {name: cost.seconds for name, cost in runs.items()}
    measure.check_at_most(f"{subject}: local / DuckDB", seconds["local"] / seconds["plain duckdb"], 2)
    measure.check_at_least(f"{subject}: plain Spark / Shoal on Spark", seconds["plain spark"] / seconds["spark"], 3)
    measure.check_memory(subject, runs["local"].peak_bytes)


def measure_peer(shop_history: History, engine: str, features: pa.Table) -> Run:
    """Return the cost of the same features with an engine of benchmarks/peers.py.

    Raises RuntimeError where its features differ from `features`.
    """
    out = shop_history.folder / f"{engine}.parquet"
    shutil.rmtree(out, ignore_errors=True)
    out.unlink(missing_ok=True)
    lake = shop_history.lake
    run = measure.run_command(measure.python_command("-m", "benchmarks.peers", engine, str(lake), str(LAST_DAY), str(out)), {})
    if customers_by_column := count_differences(features, pa.parquet.read_table(out)):
        raise RuntimeError(f"the features of {engine} differ from Shoal's; customers by column: {customers_by_column}")
    return run


def remove_features(lake: Path) -> None:
    """Remove the features layer and the record of the days from which it was made."""
    from jobs.quality import reconciliation
    from jobs.storage.lake import Lake

    shutil.rmtree(lake / "features")
    accounts = Lake(None, str(lake)).read_arrow(reconciliation.TABLE)
    others = accounts.filter(pa.compute.not_equal(accounts["table"], "features.customer_days"))
    Lake(None, str(lake)).replace_rows(reconciliation.TABLE, others)


def count_differences(left: pa.Table, right: pa.Table) -> dict[str, int]:
    """Return the number of customers who differ, by column, without the columns in which none differ.

    A customer whom one table lacks counts in `customer_id` and in each column with a value.
    """
    import duckdb

    database = duckdb.connect()
    database.register("t", left)
    database.register("u", right)
    conditions = {name: f"t.{name} IS DISTINCT FROM u.{name}" for name in right.column_names}
    for name in conditions:
        if pa.types.is_floating(left[name].type):
            is_close = f"abs(t.{name} - u.{name}) <= {TOLERANCE} * greatest(1, abs(t.{name}))"
            conditions[name] += f" AND NOT coalesce({is_close}, false)"
    counts = ", ".join(f"count_if({condition})" for condition in conditions.values())
    rows = database.execute(f"SELECT {counts} FROM t FULL JOIN u ON t.customer_id = u.customer_id")  # noqa: S608
    return {name: n for name, n in zip(conditions, rows.fetchall()[0], strict=True) if n}


def read_features(lake: Path) -> pa.Table:
    """Return Shoal's features that the other engines make too, as of the last day."""
    from jobs.storage.delta import read_arrow

    return read_arrow(str(lake), "features.customers", ["customer_id", *peer_features.FEATURES], LAST_DAY)
