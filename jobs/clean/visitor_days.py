"""clean.visitor_days: one row per visitor and day.

Input: the events of the day. It is what clean.identities is made from, so that no older event has to be read again.
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.storage.table import Table

SCHEMA = """
    visitor_id STRING NOT NULL COMMENT 'device or browser',
    day DATE NOT NULL COMMENT 'day, UTC',
    first_at TIMESTAMP NOT NULL COMMENT 'first event of the day',
    last_at TIMESTAMP NOT NULL COMMENT 'last event of the day',
    seen ARRAY<STRUCT<observed_at: TIMESTAMP, customer_id: STRING>> NOT NULL COMMENT 'when events named another customer',
    mailed ARRAY<TIMESTAMP> COMMENT 'those of these moments in which only an e-mail address named the customer'"""
TABLE = Table("clean.visitor_days", __doc__.split("\n\n")[0], SCHEMA, "day", {"forward": "last_at >= first_at"})


def visitor_days(events: DataFrame) -> DataFrame:
    """clean.visitor_days out of events with visitor_id, day, event_at, customer_id (as sent), known_customer_id."""
    # of several customers in the same moment the last in order stands, so that intervals have a length
    named = F.struct(F.col("known_customer_id").alias("id"), F.col("customer_id").isNotNull().alias("by_id"))
    moments = events.groupBy("visitor_id", "day", "event_at").agg(F.max(named).alias("_named"))
    earlier = Window.partitionBy("visitor_id", "day").orderBy("event_at").rowsBetween(Window.unboundedPreceding, -1)
    before = F.last("_named.id", ignorenulls=True).over(earlier)
    another = F.col("_named.id").isNotNull() & ~F.col("_named.id").eqNullSafe(before)
    shown = F.when(another, F.struct(F.col("event_at").alias("observed_at"), F.col("_named.id").alias("customer_id")))
    mailed = F.when(another & ~F.col("_named.by_id"), F.col("event_at"))
    return (
        moments.withColumns({"_shown": shown, "_mailed": mailed}).groupBy("visitor_id", "day")
        .agg(F.min("event_at").alias("first_at"), F.max("event_at").alias("last_at"),
             F.array_sort(F.collect_list("_shown")).alias("seen"), F.array_sort(F.collect_list("_mailed")).alias("mailed"))
    )  # fmt: skip
