"""One row per day and customer whose segment is not the one of the known day before: the change feed for activation tools.

Input: segments.history. Rows are applied in the order of days to the segments of any day, or to no segments. They then give
exactly the segments of a later day. The first known day adds everybody. A rerun or a late day also writes the next known day.
"""

from datetime import date

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.config.settings import Settings
from jobs.marts import _members
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    day DATE COMMENT 'Day from which the change holds',
    customer_id STRING COMMENT 'Customer',
    change STRING COMMENT 'added, changed or removed (no longer known)',
    from_segment_id INT COMMENT 'Segment on the known day before; null: added',
    to_segment_id INT COMMENT 'Segment on the day; null: removed'
"""
TABLE = Table(
    "marts.segment_changes",
    "One row per day and customer whose segment is not the one of the known day before.",
    SCHEMA,
    partition="day",
    checks={"known_change": "change IN ('added', 'changed', 'removed')"},
)


def list_changes(history: pa.Table, days: list[date]) -> pa.Table:
    """Return marts.segment_changes of these known days, of the intervals that begin or end on one of them.

    `history` has the columns of _members.INTERVAL_COLUMNS. Sorted by day and customer. About 1 µs of CPU a row.
    """
    intervals = pl.DataFrame(pl.from_arrow(history))
    ended = intervals.select("customer_id", day="valid_to", from_segment_id="segment_id").filter(pl.col("day").is_in(days))
    began = intervals.select("customer_id", day="valid_from", to_segment_id="segment_id").filter(pl.col("day").is_in(days))
    pairs = ended.join(began, ["customer_id", "day"], how="full", coalesce=True)
    added, removed = pl.col("from_segment_id").is_null(), pl.col("to_segment_id").is_null()
    kind = pl.when(added).then(pl.lit("added")).when(removed).then(pl.lit("removed")).otherwise(pl.lit("changed"))
    return pairs.with_columns(change=kind).select(TABLE.columns).sort("day", "customer_id").to_arrow()


def read_changes(lake: Lake, day: date, days: list[date]) -> pa.Table:
    """Return list_changes() of the stored history; `day` is the day that is published."""
    concerned = ds.field("valid_from").isin(days) | ds.field("valid_to").isin(days)
    return list_changes(_members.read_rows(_members.scan_history(lake, day, concerned)), days)


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Write the changes of `day`, and of the other days that publishing it affects."""
    days = _members.days_to_publish(lake, TABLE.name, day)
    lake.replace_rows(TABLE, read_changes(lake, day, days), days)
