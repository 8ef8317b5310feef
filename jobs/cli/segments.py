"""`shoal segments`: the segments of the latest published day as a table, read without Spark."""

from pathlib import Path

import pyarrow.compute as pc

from jobs.cli.text_table import align_columns
from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.report._segments import dormant_last
from jobs.report.formatting import format_count, format_day_count, format_percent
from jobs.report.page import page_path
from jobs.storage.currency import read_currency
from jobs.storage.delta import read_arrow

COLUMNS = ["day", "segment_id", "segment_name", "n_customers", "share", "orders_365d", "net_365d"]
COLUMNS += ["typical_recency_days", "model_version"]


def print_segments(settings: Settings) -> None:
    """Print the segments of the latest published day; raises UserError where no day is published."""
    print(format_segments(settings))


def format_segments(settings: Settings) -> str:
    """Return the segments of the latest published day as a table, and where its report is.

    Raises UserError where no day is published.
    """
    profiles = read_arrow(settings.lake, "marts.segment_profiles", COLUMNS)
    if profiles.num_rows == 0:
        raise UserError(f"report: marts.segment_profiles in {settings.lake} has no rows; run first: shoal refresh --day DAY")
    day = pc.max(profiles["day"]).as_py()
    rows = sorted(profiles.filter(pc.equal(profiles["day"], day)).to_pylist(), key=dormant_last)
    currency = read_currency(settings.lake)
    head = ["segment", "name", "customers", "share", "orders, 365 days", f"net, 365 days, {currency}", "typical recency"]
    lines = [
        [
            str(row["segment_id"]),
            row["segment_name"],
            format_count(row["n_customers"]),
            format_percent(row["share"]),
            format_count(row["orders_365d"]),
            format_count(row["net_365d"]),
            format_day_count(row["typical_recency_days"]),
        ]
        for row in rows
    ]
    path = page_path(settings, day)
    is_written = "://" in path or Path(path).exists()
    return "\n".join(
        [
            *align_columns([head, *lines], left={1}),
            "",
            f"as of  {day}",
            f"model  {rows[0]['model_version']}",
            f"report {path if is_written else f'not written yet; run: shoal report --day {day}'}",
        ]
    )
