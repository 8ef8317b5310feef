"""One row per customer and interval: the segment a customer was in, and from when to when.

Input: segments.assignments. An interval begins on the first day it held and ends on the first known day on which it no
longer did; days without a refresh lie within the interval that was open before them. A customer's intervals never
overlap. A customer that a known day lacks has no interval on that day, and begins a new one on coming back, be it in the
same segment. A day that is written first, again or late changes only intervals that meet it or the known day after it.
"""

from datetime import date

import pyarrow.dataset as ds
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.config.settings import Settings
from jobs.segments import assignments
from jobs.storage.lake import Lake
from jobs.storage.table import Table

# The version of segments.assignments that the table was last brought up to: says whether one day's step is enough.
SOURCE_PROPERTY = "shoal.assignments_version"

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    segment_id INT COMMENT 'Segment; 0: dormant',
    valid_from DATE COMMENT 'First day it held',
    valid_to DATE COMMENT 'First day it no longer held; null while it does',
    model_version STRING COMMENT 'Model that was champion on the first day',
    previous_segment_id INT COMMENT 'Segment on the known day before the first; null: not known on it'
"""
TABLE = Table(
    "segments.history",
    "One row per customer and interval of days in one segment.",
    SCHEMA,
    partition="valid_to",
    checks={"forward": "valid_to IS NULL OR valid_to > valid_from", "segment_not_negative": "segment_id >= 0"},
)


def history(assignments: DataFrame) -> DataFrame:
    """segments.assignments of all known days -> segments.history, made anew."""
    days = assignments.select("day").distinct()
    in_order = Window.orderBy("day")  # a row per day: small
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


def around(day: date, after: date | None) -> str:
    """The SQL predicate of the intervals that `day` may change; `after`: the known day after it, None where there is none."""
    meets = f"(valid_to IS NULL OR valid_to >= DATE'{day}')"
    return meets if after is None else f"{meets} AND valid_from <= DATE'{after}'"


def history_around(
    history: DataFrame, today: DataFrame, day: date, after: date | None = None, version_after: str | None = None
) -> DataFrame:
    """segments.history as it was before a write of `day`, and the day's assignments -> the intervals that take the place of
    those `around(day, after)`.

    `version_after` is the model of the known day `after`. What ended before `day` is not read: the work of the latest day
    is in proportion to the customers, not to the days behind them.
    """
    held = history.where(around(day, after)).select("customer_id", F.struct(*_OF_INTERVAL).alias("interval"))
    # Begun before the day, so it holds on the known day before; what an earlier run of the day began is made anew.
    left = held.where(F.col("interval.valid_from") < F.lit(day)).withColumnRenamed("interval", "left")
    now = today.select("customer_id", F.struct("segment_id", "model_version").alias("now"))
    rows = left.join(now, "customer_id", how="full_outer")
    goes_on, end = F.lit(False), F.lit(None).cast("date")
    if after is not None:
        holds = F.col("interval.valid_to").isNull() | (F.col("interval.valid_to") > F.lit(after))
        rows = rows.join(held.where(holds).withColumnRenamed("interval", "right"), "customer_id", how="full_outer")
        goes_on = F.coalesce(F.col("now.segment_id") == F.col("right.segment_id"), F.lit(False))
        end = F.when(goes_on, F.col("right.valid_to")).otherwise(F.lit(after))
    stays = F.coalesce(F.col("left.segment_id") == F.col("now.segment_id"), F.lit(False))
    pieces = [
        _piece(
            "left.segment_id",
            "left.valid_from",
            F.when(stays, end).otherwise(F.lit(day)),
            "left.model_version",
            "left.previous_segment_id",
        ),
        F.when(~stays, _piece("now.segment_id", F.lit(day), end, "now.model_version", "left.segment_id")),
    ]
    if after is not None:
        rest = _piece("right.segment_id", F.lit(after), "right.valid_to", F.lit(version_after), "now.segment_id")
        pieces.append(F.when(~goes_on, rest))
    return rows.select("customer_id", F.inline(F.array(*pieces))).where("segment_id IS NOT NULL")


_OF_INTERVAL = ("segment_id", "valid_from", "valid_to", "model_version", "previous_segment_id")


def _piece(*values: str | Column) -> Column:
    """An interval; without a segment_id it is none."""
    columns = [F.col(value) if isinstance(value, str) else value for value in values]
    return F.struct(*(column.alias(name) for column, name in zip(columns, _OF_INTERVAL, strict=True)))


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Bring the history up to segments.assignments: a step where `day` alone was written since the last time, else anew."""
    source = lake.version(assignments.TABLE.name)
    if _is_behind_by_one_write_at_most(lake, source):
        after = min((known for known in lake.days(assignments.TABLE.name) if known > day), default=None)
        models = lake.count_by(assignments.TABLE.name, ["model_version"], ds.field("day") == after) if after else {(None,): 0}
        ((version_after,),) = models
        step = history_around(lake.read(TABLE), lake.read(assignments.TABLE, day, day), day, after, version_after)
        lake.replace(TABLE, step, around(day, after), gather=False)  # few partitions, and few tasks
    else:
        lake.replace(TABLE, history(lake.read(assignments.TABLE)))
    lake.set_property(TABLE, SOURCE_PROPERTY, str(source))


def _is_behind_by_one_write_at_most(lake: Lake, source: int) -> bool:
    """Whether the table has all that `source`, a version of segments.assignments, has, but for its last write."""
    if not lake.exists(TABLE.name) or set(lake.read(TABLE).columns) != set(TABLE.columns):
        return False
    return lake.properties(TABLE.name).get(SOURCE_PROPERTY) in (str(source), str(source - 1))
