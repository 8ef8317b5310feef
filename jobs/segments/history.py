"""One row per customer and interval: the segment a customer was in, and from when to when.

Input: segments.assignments. An interval begins on the first day it held and ends on the first known day on which it no
longer did; days without a refresh lie within the interval that was open before them. A customer's intervals never
overlap. A customer that a known day lacks has no interval on that day.
"""

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs import lake as lakes
from jobs.lake import Lake, Table
from jobs.segments import assignments
from jobs.settings import Settings

# The version of segments.assignments that the table was last brought up to: says whether a forward step is enough.
SOURCE_PROPERTY = "shoal.assignments_version"

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    segment_id INT COMMENT 'Segment; 0: dormant',
    valid_from DATE COMMENT 'First day it held',
    valid_to DATE COMMENT 'First day it no longer held; null while it does',
    model_version STRING COMMENT 'Model that was champion on the first day'
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
    goes_on = (F.lag("segment_id").over(of_customer) == F.col("segment_id")) & (
        F.lag("day").over(of_customer) == F.col("day_before")
    )
    begins = F.when(F.coalesce(goes_on, F.lit(False)), 0).otherwise(1)
    rows = assignments.join(F.broadcast(days), "day", how="inner").withColumn("begins", begins)
    rows = rows.withColumn("interval", F.sum("begins").over(of_customer))
    return rows.groupBy("customer_id", "interval").agg(
        F.min_by("segment_id", "day").alias("segment_id"),
        F.min("day").alias("valid_from"),
        F.max_by("day_after", "day").alias("valid_to"),
        F.min_by("model_version", "day").alias("model_version"),
    ).drop("interval")  # fmt: skip


def since(day: date) -> str:
    """The SQL predicate of the intervals that `day`, the latest known one, may change."""
    return f"valid_to IS NULL OR valid_to >= DATE'{day}'"


def history_after(history: DataFrame, today: DataFrame, day: date) -> DataFrame:
    """segments.history up to the known day before `day`, or to `day` itself, and the assignments of `day` -> the intervals that
    take the place of those `since(day)`.

    `day` must be the latest known one. What ended before it is not read: work is in proportion to the customers, not to the days
    behind them.
    """
    # Whatever an earlier run of the day began or closed is undone.
    is_open = history.where(since(day)).where(F.col("valid_from") < F.lit(day)).alias("open")
    pairs = is_open.join(today.alias("today"), "customer_id", how="full_outer")
    stays = F.coalesce(F.col("open.segment_id") == F.col("today.segment_id"), F.lit(False))
    left = pairs.where("open.segment_id IS NOT NULL").select(
        "customer_id",
        "open.segment_id",
        "open.valid_from",
        F.when(~stays, F.lit(day)).alias("valid_to"),
        "open.model_version",
    )
    joined = pairs.where(F.col("today.segment_id").isNotNull() & ~stays).select(
        "customer_id",
        "today.segment_id",
        F.lit(day).alias("valid_from"),
        F.lit(None).cast("date").alias("valid_to"),
        "today.model_version",
    )
    return left.unionByName(joined)


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Bring the history up to segments.assignments: a step forward where only `day`, the latest, is new, else anew."""
    source = lake.version(assignments.TABLE.name)
    latest = max(lake.days(assignments.TABLE.name))
    done = None
    if lake.exists(TABLE.name):
        done = lakes.read_properties(lake.path(TABLE.name)).get(SOURCE_PROPERTY)
    if day == latest and done == str(source - 1):
        step = history_after(lake.read(TABLE), lake.read(assignments.TABLE, day, day), day)
        lake.replace(TABLE, step, since(day), gather=False)  # two partitions, and few tasks
    else:
        lake.replace(TABLE, history(lake.read(assignments.TABLE)))
    lake.set_property(TABLE, SOURCE_PROPERTY, str(source))
