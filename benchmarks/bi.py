"""`python -m benchmarks.bi`: queries of a report on the latest day, after a year of published days, through delta-rs.

The year is written with one commit a day. marts.customer_segments holds the latest day only; its earlier days are small.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from benchmarks import measure
from jobs.marts import customer_segments, segment_moves, segment_profiles
from jobs.storage.lake import Lake
from jobs.storage.table import Table

CUSTOMERS, DAYS, SEGMENTS, REPEAT = 1_000_000, 365, 8, 9
LAST = date(2026, 3, 31)  # as in QUERIES
MAX_SECONDS, MAX_FILES = 0.2, 1
QUERIES = {
    "customers and money by segment": (
        customer_segments,
        "SELECT segment_name, count(*), sum(net_365d), avg(confidence) FROM t GROUP BY segment_name",
    ),
    "one customer": (customer_segments, "SELECT * FROM t WHERE customer_id = 'customer-0500000'"),
    "the day's profiles": (segment_profiles, "SELECT * FROM t WHERE day = DATE '2026-03-31'"),
    "the day's moves": (segment_moves, "SELECT * FROM t WHERE day = DATE '2026-03-31'"),
}


def main(argv: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bi", description=__doc__.split("\n\n")[0])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        _write_year(folder, arguments.customers)
        for name, (module, query) in QUERIES.items():
            path = f"{folder}/{module.TABLE.name.replace('.', '/')}"
            of_day = f"day = '{LAST}'" if module.TABLE.partition else None
            measure.check_at_most(
                f"bi: {name}: files of the latest day", len(DeltaTable(path).file_uris(file_pruning_predicate=of_day)), MAX_FILES
            )
            seconds = sorted(_time_query(path, query) for _ in range(REPEAT))
            print(f"{name}: {seconds[0]:.3f} to {seconds[-1]:.3f} s")
            measure.check_at_most(f"bi: {name}, seconds from opening the table", statistics.median(seconds), MAX_SECONDS)
    return 0


def _time_query(path: str, query: str) -> float:
    started = time.perf_counter()
    rows = pa.table(QueryBuilder().register("t", DeltaTable(path)).execute(query).read_all())
    seconds = time.perf_counter() - started
    if not rows.num_rows:
        raise RuntimeError(f"no rows: {query}")
    return seconds


def _write_year(root: str, n: int) -> None:
    """Write the year's commits, and the latest day's customers as `shoal publish` does."""
    lake = Lake(None, root)
    for module in (customer_segments, segment_profiles, segment_moves):
        lake.create(module.TABLE)
    for day in (LAST - timedelta(days=DAYS - 1 - nth) for nth in range(DAYS)):
        for module, rows in _make_day(day):
            path = lake.path(module.TABLE.name)
            schema = DeltaTable(path).to_pyarrow_dataset().schema
            write_deltalake(path, pa.Table.from_pylist(rows, schema), mode="append" if module.TABLE.partition else "overwrite")
    lake.replace_rows(customer_segments.TABLE, make_customers(n))


def _make_day(day: date) -> Iterator[tuple]:
    money, random = Decimal("1234.5000"), np.random.default_rng(day.toordinal())
    of_segment = [{"day": day, "segment_id": i, "segment_name": f"Segment {i}", "n_customers": 9} for i in range(SEGMENTS)]
    yield segment_profiles, [row | {"traits": [], "net_365d": money, "share": random.random()} for row in of_segment]
    pairs = [(a, b) for a in range(SEGMENTS) for b in range(SEGMENTS) if a != b]
    yield (
        segment_moves,
        [{"day": day, "from_segment_id": a, "to_segment_id": b, "customers": 1 + int(random.integers(99))} for a, b in pairs],
    )
    yield customer_segments, [{"customer_id": f"customer-{i}", "segment_id": i, "as_of_day": day} for i in range(SEGMENTS)]


def make_customers(n: int) -> pa.Table:
    """Return n rows of marts.customer_segments in the order of their ids, each with three reasons."""
    ids, random = pl.int_range(n, dtype=pl.Int32), np.random.default_rng(3)
    drawn = pl.DataFrame({name: random.random(n) for name in ("stay", "recency", "orders", "net", "confidence", "a", "b", "c")})
    texts = [
        pl.format(f"{{}} of feature {name}, typical of the runner-up 3", (pl.col(name) * 100).cast(pl.Int32)) for name in "abc"
    ]
    customers = drawn.select(
        customer_id=pl.format("customer-{}", ids.cast(pl.String).str.zfill(7)),
        segment_id=ids % SEGMENTS,
        segment_name=pl.format("Segment {}", ids % SEGMENTS),
        since_day=pl.lit(LAST) - pl.duration(days=(pl.col("stay") * 300).cast(pl.Int32)),
        previous_segment_id=ids % SEGMENTS - 1,
        as_of_day=pl.lit(LAST),
        recency_days=(pl.col("recency") * 365).cast(pl.Int64),
        orders_365d=(pl.col("orders") * 20).cast(pl.Int64),
        net_365d=(pl.col("net") * 2000).cast(pl.Decimal(18, 4)),
        confidence="confidence",
        reasons=pl.concat_list(texts),
        model_version=pl.lit("2026-03-28-0f51d756"),
        runner_up_id=(ids + 1) % SEGMENTS,
        runner_up_name=pl.format("Segment {}", (ids + 1) % SEGMENTS),
        reasons_hold=pl.lit(value=True),
        outlier_reason=pl.lit(None, pl.String),
    )
    return complete_rows(customer_segments.TABLE, customers.to_arrow())


def complete_rows(table: Table, rows: pa.Table) -> pa.Table:
    """Return rows with the columns of the contract; those that they lack are null."""
    missing = [field for field in table.arrow_schema if field.name not in rows.column_names]
    for field in missing:
        rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows


if __name__ == "__main__":
    sys.exit(main())
