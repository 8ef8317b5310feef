"""One row per customer and interval: the segment a customer was in, from when and to when.

Input: segments.assignments. A known day is a day with assignments. An interval begins on the first day it held and ends on the
first known day on which it no longer did; a day without a refresh lies within the interval that was open before it. The
intervals of a customer never overlap. A customer whom a known day lacks has no interval on that day, and begins a new one on
coming back, even in the same segment. Writing a day, whether first, again or late, changes only the intervals that touch it
or the next known day.
"""

from datetime import date

import pyarrow.dataset as ds
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.config.settings import Settings
from jobs.segments import assignments
from jobs.storage.lake import Lake
from jobs.storage.table import Table

# The version of segments.assignments that the table holds: it tells whether updating one day is enough.
SOURCE_PROPERTY = "shoal.assignments_version"

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    segment_id INT COMMENT 'Segment; 0: dormant',
    valid_from DATE COMMENT 'First day in the segment',
    valid_to DATE COMMENT 'First known day no longer in the segment; null while in it',
    model_version STRING COMMENT 'Model that was champion on the first day',
    previous_segment_id INT COMMENT 'Segment on the known day before valid_from; null: not known on it'
"""
TABLE = Table(
    "segments.history",
    "One row per customer and interval of days in one segment.",
    SCHEMA,
    partition="valid_to",
    checks={"forward": "valid_to IS NULL OR valid_to > valid_from", "segment_not_negative": "segment_id >= 0"},
)


def build_history(assignments: DataFrame) -> DataFrame:
    """segments.assignments of all known days -> segments.history."""
    days = assignments.select("day").distinct()
    in_order = Window.orderBy("day")  # small: one row per day
    days = days.select("day", F.lag("day").over(in_order).alias("day_before"), F.lead("day").over(in_order).alias("day_after"))
    of_customer = Window.partitionBy("customer_id").orderBy("day")
    was_there = F.lag("day").over(of_customer) == F.col("day_before")
    previous = F.when(was_there, F.lag("segment_id").over(of_customer))
    begins = F.when(previous == F.col("segment_id"), 0).otherwise(1)
    rows = assignments.join(F.broadcast(days), "day", how="inner").withColumns({"previous": previous, "begins": begins})
    rows = rows.withColumn("interval", F.sum("begins").over(of_customer))
    return rows.groupBy("customer_id", "interval").agg(
        F.min_by("segment_id", "day").alias("segment_id"),
        F.min("day").alias("valid_from"),
        F.max_by("day_after", "day").alias("valid_to"),
        F.min_by("model_version", "day").alias("model_version"),
        F.min_by("previous", "day").alias("previous_segment_id"),
    ).drop("interval")  # fmt: skip


def affected_intervals(day: date, next_day: date | None) -> str:
    """Return the SQL predicate of the intervals that writing `day` may change; `next_day` is the next known day, if any."""
    touches_day = f"(valid_to IS NULL OR valid_to >= DATE'{day}')"
    return touches_day if next_day is None else f"{touches_day} AND valid_from <= DATE'{next_day}'"


def update_history(
    history: DataFrame, assignments: DataFrame, day: date, next_day: date | None = None, next_version: str | None = None
) -> DataFrame:
    """segments.history before a write of `day`, and that day's assignments -> what replaces affected_intervals(day, next_day).

    `next_version` is the model of the known day `next_day`. Intervals that ended before `day` are not read: the cost of the
    latest day grows with the customers, not with the days before it.
    """
    affected = history.where(affected_intervals(day, next_day)).select("customer_id", F.struct(*_INTERVAL).alias("interval"))
    # An interval that began before the day holds on the known day before it. One that an earlier run of the day began is dropped.
    before = affected.where(F.col("interval.valid_from") < F.lit(day)).withColumnRenamed("interval", "before")
    on_day = assignments.select("customer_id", F.struct("segment_id", "model_version").alias("on_day"))
    rows = before.join(on_day, "customer_id", how="full_outer")
    goes_on, end = F.lit(False), F.lit(None).cast("date")
    if next_day is not None:
        holds = F.col("interval.valid_to").isNull() | (F.col("interval.valid_to") > F.lit(next_day))
        after = affected.where(holds).withColumnRenamed("interval", "after")
        rows = rows.join(after, "customer_id", how="full_outer")
        goes_on = F.coalesce(F.col("on_day.segment_id") == F.col("after.segment_id"), F.lit(False))
        end = F.when(goes_on, F.col("after.valid_to")).otherwise(F.lit(next_day))
    is_same = F.coalesce(F.col("before.segment_id") == F.col("on_day.segment_id"), F.lit(False))
    valid_to = F.when(is_same, end).otherwise(F.lit(day))
    intervals = [
        _interval("before.segment_id", "before.valid_from", valid_to, "before.model_version", "before.previous_segment_id"),
        F.when(~is_same, _interval("on_day.segment_id", F.lit(day), end, "on_day.model_version", "before.segment_id")),
    ]
    if next_day is not None:
        rest = _interval("after.segment_id", F.lit(next_day), "after.valid_to", F.lit(next_version), "on_day.segment_id")
        intervals.append(F.when(~goes_on, rest))
    return rows.select("customer_id", F.inline(F.array(*intervals))).where("segment_id IS NOT NULL")


_INTERVAL = ("segment_id", "valid_from", "valid_to", "model_version", "previous_segment_id")


def _interval(*values: str | Column) -> Column:
    """Return an interval as a struct, the values in the order of _INTERVAL; without a segment_id there is none."""
    columns = [F.col(value) if isinstance(value, str) else value for value in values]
    return F.struct(*(column.alias(name) for column, name in zip(columns, _INTERVAL, strict=True)))


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Bring the history up to segments.assignments: update it where only `day` was written since, else build it."""
    source = lake.version(assignments.TABLE.name)
    if _lacks_at_most_one_write(lake, source):
        next_day = min((later for later in lake.days(assignments.TABLE.name) if later > day), default=None)
        on_next_day = ds.field("day") == next_day
        versions = lake.count_by(assignments.TABLE.name, ["model_version"], on_next_day) if next_day else {(None,): 0}
        ((next_version,),) = versions
        today = lake.read(assignments.TABLE, day, day)
        intervals = update_history(lake.read(TABLE), today, day, next_day, next_version)
        lake.replace(TABLE, intervals, affected_intervals(day, next_day), gather=False)  # few partitions, and few tasks
    else:
        lake.replace(TABLE, build_history(lake.read(assignments.TABLE)))
    lake.set_property(TABLE, SOURCE_PROPERTY, str(source))


def _lacks_at_most_one_write(lake: Lake, source: int) -> bool:
    """Return whether the table holds all of version `source` of segments.assignments, or all but its last write."""
    if not lake.exists(TABLE.name) or set(lake.read(TABLE).columns) != set(TABLE.columns):
        return False
    return lake.properties(TABLE.name).get(SOURCE_PROPERTY) in (str(source), str(source - 1))
