"""clean.identities: one row per visitor and interval in which one customer was known on it.

Input: the visitors' days, and of those the moments at which another customer was seen. A visitor belongs to the customer
seen last, and back to its first event to the first customer seen. A device that changes hands follows the hands.
"""

from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.clean import visitor_days
from jobs.lake import Lake, Table

SCHEMA = """
    visitor_id STRING NOT NULL COMMENT 'device or browser',
    valid_from TIMESTAMP NOT NULL COMMENT 'from when, UTC',
    valid_to TIMESTAMP COMMENT 'until when; null while it holds',
    customer_id STRING NOT NULL COMMENT 'customer',
    rule STRING NOT NULL COMMENT 'seen: the customer acted here; back_to_first_event: also what came before',
    observed_at TIMESTAMP NOT NULL COMMENT 'the event that showed it'"""
TABLE = Table(
    "clean.identities", __doc__.split("\n\n")[0], SCHEMA, None, {"forward": "valid_to IS NULL OR valid_to > valid_from"}
)


@dataclass(frozen=True)
class Change:
    """What the events of some days make of the identities; nothing is written yet."""

    days: list[date]
    visitor_days: DataFrame  # of `days`
    intervals: DataFrame  # clean.identities, whole, as it will be
    restated: list[date]  # other days, on which an event now has another customer


def identities(days: DataFrame) -> DataFrame:
    """clean.identities of the visitors whose clean.visitor_days these are, all of them."""
    in_order = Window.partitionBy("visitor_id").orderBy("observed_at")
    first_events = days.groupBy("visitor_id").agg(F.min("first_at").alias("first_at"))
    observed = days.select("visitor_id", F.inline("seen"))
    changes = observed.withColumn("_before", F.lag("customer_id").over(in_order)).where(
        "_before IS NULL OR _before <> customer_id"
    )
    is_first = F.row_number().over(in_order) == 1
    return (
        changes.join(first_events, "visitor_id", "inner")
        .withColumn("valid_from", F.when(is_first, F.col("first_at")).otherwise(F.col("observed_at")))
        .withColumn("valid_to", F.lead("observed_at").over(in_order))
        .withColumn("rule", F.when(F.col("valid_from") < F.col("observed_at"), "back_to_first_event").otherwise("seen"))
        .select(*TABLE.columns)
    )


def resolved(events: DataFrame, intervals: DataFrame) -> DataFrame:
    """Events with the customer of their moment, and `identified_on`, the day from which that was known.

    `events` have `customer_id` where the event itself named one; `signed_in` keeps that.
    """
    known = intervals.select(
        F.col("visitor_id").alias("_visitor"), F.col("customer_id").alias("_customer"), "valid_from", "valid_to", "observed_at"
    )
    at_that_time = (F.col("event_at") >= F.col("valid_from")) & (
        F.col("valid_to").isNull() | (F.col("event_at") < F.col("valid_to"))
    )
    joined = events.join(known, (F.col("visitor_id") == F.col("_visitor")) & at_that_time, "left")
    customer = F.coalesce("customer_id", "_customer")
    signed_in = F.col("customer_id").isNotNull()
    since = F.when(signed_in, F.col("day")).otherwise(F.greatest("day", F.to_date("observed_at")))
    return joined.withColumns(
        {"signed_in": signed_in, "identified_on": F.when(customer.isNotNull(), since), "customer_id": customer}
    ).drop(*known.columns)


def change(lake: Lake, events: DataFrame, days: list[date]) -> Change:
    """What the events of `days` (with `known_customer_id`) mean for these and for all other days."""
    new = visitor_days.visitor_days(events).persist()
    if not lake.exists(visitor_days.TABLE.name):
        return Change(days, new, identities(new), [])
    worked = F.col("day").isin(*days)
    stored = lake.read(visitor_days.TABLE)
    visitors = new.select("visitor_id").union(stored.where(worked).select("visitor_id")).distinct().persist()
    others = stored.where(~worked).join(visitors, "visitor_id", "left_semi").persist()
    before = lake.read(TABLE)
    intervals = identities(others.unionByName(new)).persist()
    was = _effect(others, before).withColumn("_n", F.lit(-1))
    both = _effect(others, intervals).withColumn("_n", F.lit(1)).unionByName(was)
    rows = both.groupBy(*both.columns[:-1]).agg(F.sum("_n").alias("_n")).where("_n <> 0").select("day").distinct().collect()
    untouched = before.join(visitors, "visitor_id", "left_anti")
    return Change(days, new, untouched.unionByName(intervals), sorted(row.day for row in rows))


def write(lake: Lake, change: Change) -> None:
    """Write clean.visitor_days and clean.identities.

    To be called last: until then a run that was killed finds the same restated days again.
    """
    lake.replace_days(visitor_days.TABLE, change.visitor_days, change.days)
    lake.replace(TABLE, change.intervals)


def _effect(days: DataFrame, intervals: DataFrame) -> DataFrame:
    """What the intervals say of the events that these visitors had on these days."""
    known = intervals.withColumnsRenamed({"visitor_id": "_visitor"})
    on_the_day = (F.col("valid_from") <= F.col("last_at")) & (
        F.col("valid_to").isNull() | (F.col("valid_to") > F.col("first_at"))
    )
    return days.join(known, (F.col("visitor_id") == F.col("_visitor")) & on_the_day, "inner").select(
        "visitor_id", "day", "customer_id", F.greatest("valid_from", "first_at").alias("start"),
        F.when(F.col("valid_to") <= F.col("last_at"), F.col("valid_to")).alias("end"),
        F.greatest("day", F.to_date("observed_at")).alias("identified_on"),
    )  # fmt: skip
