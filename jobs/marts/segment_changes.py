"""One row per day and customer whose segment is not the one of the known day before: the change feed for activation tools.

Input: segments.history. Rows are applied in the order of days to the segments of any day, or to no segments. They then give
exactly the segments of a later day. The first known day adds everybody. A rerun or a late day also writes the next known day.
"""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

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


def list_changes(history: DataFrame, days: list[date]) -> DataFrame:
    """segments.history -> marts.segment_changes of these known days."""
    began = history.where(F.col("valid_from").isin(days))
    ended = history.where(F.col("valid_to").isin(days))
    pairs = ended.select("customer_id", F.col("valid_to").alias("day"), F.col("segment_id").alias("from_segment_id")).join(
        began.select("customer_id", F.col("valid_from").alias("day"), F.col("segment_id").alias("to_segment_id")),
        ["customer_id", "day"],
        how="full_outer",
    )
    change = F.when(F.col("from_segment_id").isNull(), "added").when(F.col("to_segment_id").isNull(), "removed")
    return pairs.select("day", "customer_id", change.otherwise("changed").alias("change"), "from_segment_id", "to_segment_id")


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Write the changes of `day`, and of the other days that publishing it affects."""
    days = _members.days_to_publish(lake, TABLE.name, day)
    lake.replace_days(TABLE, list_changes(_members.read_history(lake, day), days), days)
