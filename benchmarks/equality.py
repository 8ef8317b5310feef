"""Compare the rows of both engines in every table, and the features of random days with the same computed in plain Python.

`python -m benchmarks.equality --source uci_online_retail --input DIR --days 30 --seed 1`. Shoal makes the days in order, each on
top of the days before: with the local runner in one bucket, and with the Spark runner in several. tests/jobs/features/oracle.py
computes each day from scratch and shares no code with Shoal's features.
"""

import argparse
import os
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from benchmarks import measure
from jobs import flow, steps
from jobs.config.settings import Settings, load_settings
from jobs.engine import runner
from jobs.features import _holidays, customers
from jobs.quality import reconciliation
from jobs.storage.delta import count_rows, open_dataset, open_if_written, read_arrow
from jobs.storage.lake import Lake
from tests.jobs.features import oracle

SOURCES = ("rees46_october_2019", "uci_online_retail", "google_merchandise_store")
LANDING_TIMES = ("_landed_at", "landed_at")
# The columns of each clean table that the oracle reads.
COLUMNS = {
    "events": "customer_id day identified_on is_bot event_at session_id session_started_at event_type product_id search_term "
    "device channel shared_since former_customer_id",
    "orders": "customer_id day shop ordered_at order_id product_id category line_kind quantity gross_amount discount_amount "
    "status returned_at known_from known_until",
    "returns": "customer_id day shop return_order_id return_line_no kind amount",
    "customers": "customer_id day registered_at country",
}


def main(argv: list[str] | None = None) -> int:
    """Compare one source, or the sample shop and all shared data that exists; returns 1 where rows differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--source", help="a mapping of conf/sources")
    parser.add_argument("--input", type=Path, help="the folder of its files; default: the folder of the shared data")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="shoal_equality_") as folder:
        inputs = (
            {arguments.source: arguments.input or measure.SHARED / arguments.source}
            if arguments.source
            else _find_inputs(Path(folder), arguments.seed)
        )
        differences = [
            _compare_source(Path(folder) / source, source, input, arguments.days, arguments.seed)
            for source, input in inputs.items()
        ]
    return int(any(differences))


def _find_inputs(folder: Path, seed: int) -> dict[str, Path]:
    """Make the sample shop and return the input folder of each source."""
    from jobs.sample import writer

    writer.write_shop(folder / "input", customers=500, days=120, seed=seed, last_day=date(2026, 3, 31))
    return {"sample": folder / "input"} | {name: measure.SHARED / name for name in SOURCES if (measure.SHARED / name).is_dir()}


def _compare_source(folder: Path, source: str, input: Path, days: int, seed: int) -> int:
    """Refresh random days of a source with both engines and return the number of rows that differ."""
    os.environ.setdefault("SHOAL_SECRET", "secret of the comparison")
    variables = {"SHOAL_SOURCE": source, "SHOAL_INPUT": str(input)}
    settings = load_settings({**os.environ, **variables})
    random_days = refresh_days(folder / "local", settings, "local", days, seed)
    with many_buckets(settings, folder / "local"):
        refresh_days(folder / "spark", settings, "spark", days, seed)
    tables = compare_lakes(str(folder / "local"), str(folder / "spark"))
    for table, (n_rows, n_differing) in tables.items():
        measure.log(f"{source}: {table:<28} {n_rows:>12,} rows, {n_differing:,} differ between the engines")
    n_differing = sum(n for _, n in tables.values())
    measure.check_at_most(f"{source}: rows that differ between the engines", n_differing, 0)
    n_rows, differences = find_differences(Lake(None, str(folder / "local")), settings, random_days)
    for (day, customer), columns in sorted(differences.items())[:10]:
        measure.log(f"{source}, {day}, customer {customer}: {'; '.join(columns[:5])}")
    n_columns = len(customers.TABLE.columns) - 3  # without the keys and the vector
    span = f"{len(random_days)} days from {random_days[0]} to {random_days[-1]}"
    measure.log(f"{source}: {span}, {n_rows:,} rows of {n_columns} columns compared")
    measure.check_at_most(f"{source}: rows of features that differ from the full recomputation", len(differences), 0)
    return len(differences) + n_differing


def refresh_days(root: Path, settings: Settings, engine: str, days: int, seed: int) -> list[date]:
    """Land and clean all days of a source in the lake `root`, and make the features of random days; return these days."""
    settings = replace(settings, lake=str(root), engine=engine)
    with steps.open_lake("equality", settings) as lake:
        _run_step("land", lake, settings, datetime.now(UTC).date())
        landed_days = [day for table in ("events", "orders") for day in lake.days(f"bronze.{table}")]
        _run_step("clean", lake, settings, max(landed_days))
        revisions = (reconciliation.read_revisions(lake, table) for table in ("clean.events", "clean.orders"))
        clean_days = sorted({day for of_table in revisions for day in of_table})
        random_days = sorted(random.Random(seed).sample(clean_days, min(days, len(clean_days))))  # noqa: S311
        for day in random_days:
            _run_step("features", lake, settings, day)
    return random_days


@contextmanager
def many_buckets(settings: Settings, root: Path) -> Iterator[None]:
    """Let the largest table of the lake `root` fall into several buckets during the block."""
    n_rows = max(Lake(None, str(root)).count_rows(f"bronze.{table}") for table in ("events", "orders"))
    before, runner.ROWS_PER_BUCKET = runner.ROWS_PER_BUCKET, max(1, min(runner.ROWS_PER_BUCKET, n_rows // 3))
    try:
        yield
    finally:
        runner.ROWS_PER_BUCKET = before


def compare_lakes(first: str, second: str) -> dict[str, tuple[int, int]]:
    """Return (rows in the first, rows that are in one of the two lakes only) of every table but the results of checks.

    Columns that hold the time of landing are left out.
    """
    tables = [f"{layer}.{table}" for layer in ("bronze", "clean", "features") for table in flow.TABLES[layer]]
    return {table: _compare_tables(first, second, table) for table in [*tables, "quality.reconciliation"]}


def _compare_tables(first: str, second: str, table: str) -> tuple[int, int]:
    stored = [open_if_written(root, table) for root in (first, second)]
    if None in stored:
        return 0, sum(count_rows(root, table) for root in (first, second))
    with duckdb.connect() as database:
        for name, rows in zip(("a", "b"), map(open_dataset, stored), strict=True):
            columns = [f'"{c}"::VARCHAR AS "{c}"' for c in sorted(rows.schema.names) if c not in LANDING_TIMES]
            database.register("rows", rows)
            database.execute(f"CREATE TABLE {name} AS SELECT {', '.join(columns)} FROM rows")  # noqa: S608
        counts = (
            "SELECT count(*) FROM a",
            "SELECT count(*) FROM ((FROM a EXCEPT ALL FROM b) UNION ALL (FROM b EXCEPT ALL FROM a))",
        )
        n_rows, n_differing = (database.execute(sql).fetchone()[0] for sql in counts)
    return n_rows, n_differing


def _run_step(name: str, lake: Lake, settings: Settings, day: date) -> None:
    steps.run_on_lake(lake, (name,), settings, steps.Options([day]))


def find_differences(lake: Lake, settings: Settings, days: list[date]) -> tuple[int, dict[tuple[date, str], list[str]]]:
    """Return (rows of features.customers on these days, columns in which plain Python differs by day and customer)."""
    logs = _read_logs(lake)
    order_days = sorted({row["day"] for log in logs.values() for row in log["orders"]})
    near_holidays = _holidays.days_near_holidays(settings.features.holiday_country, order_days)
    dormant_days = settings.features.dormant_days
    n_rows, differences = 0, {}
    for day in days:
        rows = read_arrow(lake.root, "features.customers", day=day).drop(["vector"]).to_pylist()
        expected = {c: oracle.features(log, day, near_holidays.__contains__, dormant_days) for c, log in logs.items()}
        columns_by_customer = oracle.differences(
            {row["customer_id"]: row for row in rows}, {customer: row for customer, row in expected.items() if row}
        )
        n_rows += len(rows)
        differences |= {(day, customer): columns for customer, columns in columns_by_customer.items()}
    return n_rows, differences


def _read_logs(lake: Lake) -> dict[str, dict[str, list[dict]]]:
    """Return, by customer, the rows of each clean table that the oracle reads."""
    logs: dict = defaultdict(lambda: {name: [] for name in COLUMNS})
    for name, columns in COLUMNS.items():
        for batch in read_arrow(lake.root, f"clean.{name}", columns.split()).to_batches():
            for row in batch.to_pylist():
                if customer := row["customer_id"] or row.get("former_customer_id"):
                    logs[customer][name].append(row)
    return logs


if __name__ == "__main__":
    sys.exit(main())
