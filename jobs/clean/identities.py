"""clean.identities: one row per visitor and interval in which one customer was known on it.

Input: the events of the worked-on days that came with a customer. A visitor belongs to the customer seen last, and back
to its first event to the first customer seen. A device that changes hands follows the hands.
"""

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

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


def identities(observed: DataFrame, first_events: DataFrame) -> DataFrame:
    """Intervals out of observations (visitor_id, observed_at, customer_id) and each visitor's first event (first_at)."""
    in_order = Window.partitionBy("visitor_id").orderBy("observed_at", "customer_id")
    # of several customers in the same moment the last in order stands, so that intervals have a length
    at_once = observed.groupBy("visitor_id", "observed_at").agg(F.max("customer_id").alias("customer_id"))
    changes = at_once.withColumn("_before", F.lag("customer_id").over(in_order)).where(
        "_before IS NULL OR _before <> customer_id"
    )
    is_first = F.row_number().over(in_order) == 1
    return (
        changes.join(first_events, "visitor_id", "left")
        .withColumn("valid_from", F.when(is_first, F.least("observed_at", "first_at")).otherwise(F.col("observed_at")))
        .withColumn("valid_to", F.lead("observed_at").over(in_order))
        .withColumn("rule", F.when(F.col("valid_from") < F.col("observed_at"), "back_to_first_event").otherwise("seen"))
        .select("visitor_id", "valid_from", "valid_to", "customer_id", "rule", "observed_at")
    )


def resolved(events: DataFrame, intervals: DataFrame) -> DataFrame:
    """Events with the customer of their moment, and `identified_on`, the day from which that was known."""
    known = intervals.select("visitor_id", F.col("customer_id").alias("_customer"), "valid_from", "valid_to", "observed_at")
    at_that_time = (F.col("event_at") >= F.col("valid_from")) & (
        F.col("valid_to").isNull() | (F.col("event_at") < F.col("valid_to"))
    )
    joined = events.join(known, (events.visitor_id == known.visitor_id) & at_that_time, "left").drop(known.visitor_id)
    customer = F.coalesce("customer_id", "_customer")
    since = F.when(F.col("customer_id").isNotNull(), F.col("day")).otherwise(F.greatest("day", F.to_date("observed_at")))
    return (
        joined.withColumn("identified_on", F.when(customer.isNotNull(), since))
        .withColumn("customer_id", customer)
        .drop("_customer", "valid_from", "valid_to", "observed_at")
    )


def run(lake: Lake, events: DataFrame, days: list[date]) -> DataFrame:
    """Bring clean.identities up to date with the events of `days` (with `known_customer_id`); returns all intervals."""
    worked = [F.lit(day) for day in days]
    seen = events.where("known_customer_id IS NOT NULL").select(
        "visitor_id", F.col("event_at").alias("observed_at"), F.col("known_customer_id").alias("customer_id")
    )
    table = lake.read(TABLE)
    before = table.where(~F.to_date("observed_at").isin(*worked))
    visitors = seen.select("visitor_id").distinct()
    touched = before.join(visitors, "visitor_id", "left_semi")
    first_events = (
        events.groupBy("visitor_id").agg(F.min("event_at").alias("first_at"))
        .unionByName(_first_anonymous(lake, visitors, days))
        .unionByName(touched.groupBy("visitor_id").agg(F.min("valid_from").alias("first_at")))
        .groupBy("visitor_id").agg(F.min("first_at").alias("first_at"))
    )  # fmt: skip
    observed = seen.unionByName(touched.select("visitor_id", "observed_at", "customer_id"))
    untouched = table.join(visitors, "visitor_id", "left_anti").where(~F.to_date("observed_at").isin(*worked))
    lake.replace(TABLE, untouched.unionByName(identities(observed, first_events)))
    return lake.read(TABLE)


def _first_anonymous(lake: Lake, visitors: DataFrame, days: list[date]) -> DataFrame:
    """The first event of each visitor on other days while no customer was known."""
    if not lake.exists("clean.events"):
        return visitors.select("visitor_id", F.lit(None).cast("timestamp").alias("first_at")).limit(0)
    others = lake.read("clean.events").where(~F.col("day").isin(*days)).where("customer_id IS NULL")
    return others.join(visitors, "visitor_id", "left_semi").groupBy("visitor_id").agg(F.min("event_at").alias("first_at"))
