"""The inputs of scores: customers of a day with what they ordered, and the segment they are in."""

from datetime import date

import polars as pl

from jobs.scores._forecasts import COLUMNS, describe_purchases
from jobs.segment_history import segments_on
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table

# The columns that are read.
CUSTOMERS = Table(
    "features.customers",
    "What customers ordered, as of a day.",
    """customer_id STRING, day DATE, first_order_day DATE, last_order_day DATE, order_days_life BIGINT, order_days_90d BIGINT,
       net_life DECIMAL(18,4), net_90d DECIMAL(18,4), order_gap_days DOUBLE, order_gap_deviation_365d DOUBLE""",
    partition="day",
)
ACTIVE = Table("features.customers", "Who is active.", "customer_id STRING, day DATE, is_active BOOLEAN", partition="day")
ASSIGNMENTS = Table(
    "segments.assignments", "The segment of a customer on a day.", "customer_id STRING, day DATE, segment_id INT", partition="day"
)


def customers_of(day: date) -> Rows:
    """Return which rows hold the customers of a day, COLUMNS."""
    return Rows(CUSTOMERS, "customer_id", COLUMNS, [day])


def segments_of(day: date) -> Rows:
    """Return which rows hold the segments of a day: (customer_id, segment_id)."""
    return Rows(ASSIGNMENTS, "customer_id", ("customer_id", "segment_id"), [day])


def read_buyers(lake: Lake, day: date) -> pl.DataFrame:
    """Return describe_purchases() rows of a day with the `segment_id` that customers have on it, null where not known.

    A day that is not segmented itself, such as that of a backtest, has the segments that segments.history knows of it.
    """
    buyers = describe_purchases(to_frame(read_rows(lake.root, customers_of(day))))
    return buyers.join(read_segments(lake, day), "customer_id", "left").sort("customer_id")  # sums depend on the order


def read_segments(lake: Lake, day: date) -> pl.DataFrame:
    """Return (customer_id, segment_id) of a day: its assignments, or what the history knows of a day that has none."""
    segments = to_frame(read_rows(lake.root, segments_of(day)))
    return segments if len(segments) else to_frame(read_rows(lake.root, segments_on(day)))
