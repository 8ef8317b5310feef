"""clean.visitor_days: one row per visitor and day.

Input: the events of the day. It is what clean.identities is made from, so that no older event has to be read again.
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.lake import Table

SCHEMA = """
    visitor_id STRING NOT NULL COMMENT 'device or browser',
    day DATE NOT NULL COMMENT 'day, UTC',
    first_at TIMESTAMP NOT NULL COMMENT 'first event of the day',
    last_at TIMESTAMP NOT NULL COMMENT 'last event of the day',
    seen ARRAY<STRUCT<observed_at: TIMESTAMP, customer_id: STRING>> NOT NULL COMMENT 'when events named another customer'"""
TABLE = Table("clean.visitor_days", __doc__.split("\n\n")[0], SCHEMA, "day", {"forward": "last_at >= first_at"})


def visitor_days(events: DataFrame) -> DataFrame:
    """clean.visitor_days out of events with visitor_id, day, event_at, known_customer_id."""
    # of several customers in the same moment the last in order stands, so that intervals have a length
    moments = events.groupBy("visitor_id", "day", "event_at").agg(F.max("known_customer_id").alias("customer_id"))
    earlier = Window.partitionBy("visitor_id", "day").orderBy("event_at").rowsBetween(Window.unboundedPreceding, -1)
    before = F.last("customer_id", ignorenulls=True).over(earlier)
    another = F.col("customer_id").isNotNull() & ~F.col("customer_id").eqNullSafe(before)
    shown = F.when(another, F.struct(F.col("event_at").alias("observed_at"), "customer_id"))
    return (
        moments.withColumn("_shown", shown).groupBy("visitor_id", "day")
        .agg(F.min("event_at").alias("first_at"), F.max("event_at").alias("last_at"),
             F.array_sort(F.collect_list("_shown")).alias("seen"))
    )  # fmt: skip
