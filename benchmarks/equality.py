"""The features of random days against the same counted in plain Python over the whole clean tables: every row and column.

`python -m benchmarks.equality --source uci_online_retail --input DIR --days 30 --seed 1`. The features are made day after
day, each on top of those before it; tests/jobs/features/oracle.py counts anew and shares no code with them.
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
# What the oracle needs to know of each clean table.
COLUMNS = {
    "events": "customer_id day identified_on is_bot event_at session_id session_started_at event_type product_id search_term "
    "device channel shared_since former_customer_id",
    "orders": "customer_id day ordered_at order_id product_id category line_kind quantity gross_amount discount_amount "
    "status returned_at",
    "returns": "customer_id day return_order_id return_line_no kind amount",
    "customers": "customer_id day registered_at country",
}


def main(argv: list[str] | None = None) -> int:
    """Compare one source, or the sample shop and the shared data that is here; exit code 1 where rows differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--source", help="a mapping of conf/sources")
    parser.add_argument("--input", type=Path, help="the folder of its files; where there is none, that of the shared data")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="shoal_equality_") as folder:
        inputs = (
            {chosen.source: chosen.input or measure.SHARED / chosen.source}
            if chosen.source
            else _inputs(Path(folder), chosen.seed)
        )
        with steps.open_lake("equality", load_settings()) as lake:
            wrong = [
                _compared(Lake(lake.spark, f"{folder}/{source}"), source, input, chosen.days, chosen.seed)
                for source, input in inputs.items()
            ]
    return int(any(wrong))


def _inputs(folder: Path, seed: int) -> dict[str, Path]:
    from jobs.sample import writer

    writer.write_shop(folder / "input", customers=500, days=120, seed=seed, last_day=date(2026, 3, 31))
    return {"sample": folder / "input"} | {name: measure.SHARED / name for name in SOURCES if (measure.SHARED / name).is_dir()}


def _compared(lake: Lake, source: str, input: Path, days: int, seed: int) -> int:
    """The number of rows that differ on the random days of a source."""
    known = {"SHOAL_LAKE": lake.root, "SHOAL_SOURCE": source, "SHOAL_INPUT": str(input)}
    made = load_settings({**os.environ, **known})
    os.environ.setdefault("SHOAL_SECRET", "of the comparison")
    _step("land", lake, made, datetime.now(UTC).date())
    landed = [day for table in ("events", "orders") for day in lake.days(f"bronze.{table}")]
    _step("clean", lake, made, max(landed))
    dated = sorted({day for table in ("clean.events", "clean.orders") for day in reconciliation.read_revisions(lake, table)})
    chosen = sorted(random.Random(seed).sample(dated, min(days, len(dated))))  # noqa: S311
    for day in chosen:
        _step("features", lake, made, day)
    rows, different = differences(lake, made, chosen)
    for (day, customer), columns in sorted(different.items())[:10]:
        measure.say(f"{source}, {day}, customer {customer}: {'; '.join(columns[:5])}")
    wrong, columns = len(different), len(customers.TABLE.columns) - 3  # without the keys and the vector
    measure.say(f"{source}: {len(chosen)} days from {chosen[0]} to {chosen[-1]}, {rows:,} rows of {columns} columns compared")
    measure.at_most(f"{source}: rows of features that differ from the full recomputation", wrong, 0)
    return wrong


def _step(name: str, lake: Lake, made: Settings, day: date) -> None:
    steps.run_on_lake(lake, (name,), made, steps.Options([day]))


def differences(lake: Lake, made: Settings, days: list[date]) -> tuple[int, dict[tuple[date, str], list[str]]]:
    """The rows of features.customers on these days, and by day and customer the columns that plain Python counts otherwise."""
    logs = _logs(lake)
    ordered_on = sorted({row["day"] for log in logs.values() for row in log["orders"]})
    near = _holidays.near(made.features.holiday_country, ordered_on)
    n_rows, different = 0, {}
    for day in days:
        rows = read_arrow(lake.root, "features.customers", day=day).drop(["vector"]).to_pylist()
        expected = {c: oracle.features(log, day, near.__contains__, made.features.dormant_days) for c, log in logs.items()}
        found = {row["customer_id"]: row for row in rows}
        wrong = oracle.differences(found, {customer: row for customer, row in expected.items() if row})
        n_rows, different = n_rows + len(rows), different | {(day, customer): columns for customer, columns in wrong.items()}
    return n_rows, different


def _logs(lake: Lake) -> dict[str, dict[str, list[dict]]]:
    """By customer its rows in each clean table, all that the oracle needs."""
    logs: dict = defaultdict(lambda: {name: [] for name in COLUMNS})
    for name, columns in COLUMNS.items():
        for batch in read_arrow(lake.root, f"clean.{name}", columns.split()).to_batches():
            for row in batch.to_pylist():
                if customer := row["customer_id"] or row.get("former_customer_id"):
                    logs[customer][name].append(row)
    return logs


if __name__ == "__main__":
    sys.exit(main())
