"""Compare the features of random days with the same computed in plain Python over the whole clean tables, in every cell.

`python -m benchmarks.equality --source uci_online_retail --input DIR --days 30 --seed 1`. Shoal makes the days in order, each on
top of the days before. tests/jobs/features/oracle.py computes each day from scratch and shares no code with Shoal's features.
`--lake DIR` takes the clean tables of a lake as they are, and writes its features.
"""

import argparse
import os
import random
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, date, datetime
from pathlib import Path

from benchmarks import measure
from jobs import steps
from jobs.config.settings import Settings, load_settings
from jobs.features import _holidays, customers
from jobs.quality import reconciliation
from jobs.storage.delta import read_arrow
from jobs.storage.lake import Lake
from tests.jobs.features import oracle

SOURCES = ("rees46_october_2019", "uci_online_retail", "google_merchandise_store")
# The columns of each clean table that the oracle reads.
COLUMNS = {
    "events": "customer_id day identified_on is_bot event_at session_id session_started_at event_type product_id search_term "
    "device channel shared_since former_customer_id",
    "orders": "customer_id day ordered_at order_id product_id category line_kind quantity gross_amount discount_amount "
    "status returned_at",
    "returns": "customer_id day return_order_id return_line_no kind amount",
    "customers": "customer_id day registered_at country",
}


def main(argv: list[str] | None = None) -> int:
    """Compare one source, or the sample shop and all shared data that exists; returns 1 where rows differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--source", help="a mapping of conf/sources")
    parser.add_argument("--input", type=Path, help="the folder of its files; default: the folder of the shared data")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lake", type=Path, help="a lake with clean tables, whose features are written again")
    arguments = parser.parse_args(argv)
    if arguments.lake:
        lake = Lake(None, str(arguments.lake))
        settings = load_settings({**os.environ, "SHOAL_LAKE": lake.root, "SHOAL_MODELS": f"{lake.root}/models"})
        return int(bool(_compare_days(lake, settings, arguments.lake.name, arguments.days, arguments.seed)))
    with tempfile.TemporaryDirectory(prefix="shoal_equality_") as folder:
        inputs = (
            {arguments.source: arguments.input or measure.SHARED / arguments.source}
            if arguments.source
            else _find_inputs(Path(folder), arguments.seed)
        )
        with steps.open_lake("equality", load_settings()) as lake:
            differences = [
                _compare_source(Lake(lake.spark, f"{folder}/{source}"), source, input, arguments.days, arguments.seed)
                for source, input in inputs.items()
            ]
    return int(any(differences))


def _find_inputs(folder: Path, seed: int) -> dict[str, Path]:
    """Make the sample shop and return the input folder of each source."""
    from jobs.sample import writer

    writer.write_shop(folder / "input", customers=500, days=120, seed=seed, last_day=date(2026, 3, 31))
    return {"sample": folder / "input"} | {name: measure.SHARED / name for name in SOURCES if (measure.SHARED / name).is_dir()}


def _compare_source(lake: Lake, source: str, input: Path, days: int, seed: int) -> int:
    """Refresh random days of a source and return the number of rows of features that differ."""
    variables = {"SHOAL_LAKE": lake.root, "SHOAL_SOURCE": source, "SHOAL_INPUT": str(input)}
    settings = load_settings({**os.environ, **variables})
    os.environ.setdefault("SHOAL_SECRET", "secret of the comparison")
    _run_step("land", lake, settings, datetime.now(UTC).date())
    landed_days = [day for table in ("events", "orders") for day in lake.days(f"bronze.{table}")]
    _run_step("clean", lake, settings, max(landed_days))
    return _compare_days(lake, settings, source, days, seed)


def _compare_days(lake: Lake, settings: Settings, source: str, days: int, seed: int) -> int:
    """Compute the features of random days of the clean tables and return the number of rows that differ."""
    clean_days = sorted({day for table in ("clean.events", "clean.orders") for day in reconciliation.read_revisions(lake, table)})
    random_days = sorted(random.Random(seed).sample(clean_days, min(days, len(clean_days))))  # noqa: S311
    for day in random_days:
        _run_step("features", lake, settings, day)
    n_rows, differences = find_differences(lake, settings, random_days)
    for (day, customer), columns in sorted(differences.items())[:10]:
        measure.log(f"{source}, {day}, customer {customer}: {'; '.join(columns[:5])}")
    n_columns = len(customers.TABLE.columns) - 3  # without the keys and the vector
    span = f"{len(random_days)} days from {random_days[0]} to {random_days[-1]}"
    measure.log(f"{source}: {span}, {n_rows:,} rows of {n_columns} columns compared")
    measure.check_at_most(f"{source}: rows of features that differ from the full recomputation", len(differences), 0)
    return len(differences)


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
