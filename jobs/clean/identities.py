"""clean.identities: one row per visitor and interval in which one customer was known on it.

Input: clean.visitor_days, with the times at which another customer was seen on the visitor. A visitor belongs to the
customer seen last; its events before the first sighting belong to the first customer. A device on which too many customers
were seen within some days belongs to nobody from then on (clean.identity_alarms): its links are kept with the day of the
alarm, and attach no event to a customer.

A link is stored on the day that showed it. Cleaning a day writes only the days of links that have changed.
"""

from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.clean import visitor_days
from jobs.config.settings import Clean
from jobs.storage.lake import Cache, Lake
from jobs.storage.table import Table, days_predicate

SCHEMA = """
    visitor_id STRING NOT NULL COMMENT 'device or browser',
    valid_from TIMESTAMP NOT NULL COMMENT 'from when, UTC',
    valid_to TIMESTAMP COMMENT 'until when; null while it holds',
    customer_id STRING NOT NULL COMMENT 'customer',
    rule STRING NOT NULL COMMENT 'seen: the customer acted here; mail: its e-mail address did; back_to_first_event: also what came before',
    observed_at TIMESTAMP NOT NULL COMMENT 'the event that showed it',
    shared_since DATE COMMENT 'day from which the visitor is nobody, as too many customers were known on it: the link gives no events',
    day DATE NOT NULL COMMENT 'day of the event that showed it'"""  # noqa: E501
TABLE = Table(
    "clean.identities", __doc__.split("\n\n")[0], SCHEMA, "day", {"forward": "valid_to IS NULL OR valid_to > valid_from"}
)


@dataclass(frozen=True)
class Change:
    """The identities after the events of some days; nothing is written yet."""

    days: list[date]
    visitor_days: DataFrame  # of `days`
    visitors: DataFrame  # visitor_id of all whose links may be other than they were
    links: DataFrame  # all links of these visitors, as they will be
    changed: list[date]  # days of links that are other than they were
    restated: list[date]  # days other than `days` on which an event now has another customer


def identities(days: DataFrame, settings: Clean) -> DataFrame:
    """Return clean.identities of the visitors whose clean.visitor_days are all given."""
    in_order = Window.partitionBy("visitor_id").orderBy("observed_at")
    first_events = days.groupBy("visitor_id").agg(F.min("first_at").alias("first_at"))
    observed = days.select("visitor_id", "mailed", F.inline("seen"))
    changes = observed.withColumn("_before", F.lag("customer_id").over(in_order)).where(
        "_before IS NULL OR _before <> customer_id"
    )
    is_first = F.row_number().over(in_order) == 1
    rule = (
        F.when(F.col("valid_from") < F.col("observed_at"), "back_to_first_event")
        .when(F.array_contains("mailed", F.col("observed_at")), "mail")
        .otherwise("seen")
    )
    return (
        changes.join(first_events, "visitor_id", "inner")
        .join(shared_visitors(observed, settings), "visitor_id", "left")
        .withColumn("valid_from", F.when(is_first, F.col("first_at")).otherwise(F.col("observed_at")))
        .withColumn("valid_to", F.lead("observed_at").over(in_order))
        .withColumns({"rule": rule, "day": F.to_date("observed_at")})
        .select(*TABLE.columns)
    )


def shared_visitors(observed: DataFrame, settings: Clean) -> DataFrame:
    """Return (visitor_id, shared_since), the first day on which too many customers had been known on a visitor within some days.

    `observed` has visitor_id, customer_id, observed_at. A customer counts from each day it is seen until so many days
    later, or until it is seen again: going through these days in order, no moment is compared with another.
    """
    visitor = Window.partitionBy("visitor_id")
    customers = F.size(F.collect_set("customer_id").over(visitor))
    many = observed.withColumn("_n", customers).where(F.col("_n") > settings.max_customers_per_visitor)
    sightings = many.select("visitor_id", "customer_id", F.to_date("observed_at").alias("day")).distinct()
    again = F.lead("day").over(Window.partitionBy("visitor_id", "customer_id").orderBy("day"))
    until = F.least(again, F.date_add("day", settings.customers_within_days))
    begins, ends = F.struct("day", F.lit(1).alias("step")), F.struct(F.col("_until").alias("day"), F.lit(-1).alias("step"))
    steps = sightings.withColumn("_until", until).select("visitor_id", F.inline(F.array(begins, ends)))
    known = F.sum("step").over(visitor.orderBy("day"))  # all steps of the same day together
    too_many = steps.withColumn("_known", known).where(F.col("_known") > settings.max_customers_per_visitor)
    return too_many.groupBy("visitor_id").agg(F.min("day").alias("shared_since"))


def attach_customers(events: DataFrame, links: DataFrame) -> DataFrame:
    """Return events with their customer at that time, and `identified_on`, the day from which that was known.

    `events` have `customer_id` where the event itself named one; `signed_in` keeps that. On a shared visitor only such
    an event has a customer: what it had been given to until `shared_since` is its `former_customer_id`.
    """
    known = links.select(
        F.col("visitor_id").alias("_visitor"), F.col("customer_id").alias("_customer"), "valid_from", "valid_to", "observed_at",
        "shared_since",
    )  # fmt: skip
    at_that_time = (F.col("event_at") >= F.col("valid_from")) & (
        F.col("valid_to").isNull() | (F.col("event_at") < F.col("valid_to"))
    )
    joined = events.drop("shared_since").join(known, (F.col("visitor_id") == F.col("_visitor")) & at_that_time, "left")
    signed_in = F.col("customer_id").isNotNull()
    since = F.when(signed_in, F.col("day")).otherwise(F.greatest("day", F.to_date("observed_at")))
    linked = F.when(F.col("shared_since").isNull(), F.col("_customer"))
    former = F.when(~signed_in & (since < F.col("shared_since")), F.col("_customer"))
    customer = F.coalesce("customer_id", linked)
    return joined.withColumns(
        {
            "signed_in": signed_in,
            "identified_on": F.when(F.coalesce(customer, former).isNotNull(), since),
            "former_customer_id": former,
            "customer_id": customer,
        }
    ).drop(*(c for c in known.columns if c != "shared_since"))


def without_stitching(events: DataFrame) -> DataFrame:
    """Return stored events as sent, without the stitched identities that attach_customers added."""
    own = events.withColumn("customer_id", F.when(F.col("signed_in"), F.col("customer_id")))
    return own.drop("signed_in", "identified_on", "former_customer_id", "shared_since")


def find_changes(keep: Cache, lake: Lake, events: DataFrame, days: list[date], settings: Clean) -> Change:
    """Return how the events of `days` (with `known_customer_id`) change the identities of these and of all other days."""
    new = keep(visitor_days.visitor_days(events))
    worked = F.col("day").isin(*days)
    stored = lake.read(visitor_days.TABLE)
    visitors = keep(new.select("visitor_id").union(stored.where(worked).select("visitor_id")).distinct())
    others = keep(stored.where(~worked).join(visitors, "visitor_id", "left_semi"))
    before = keep(lake.read(TABLE).where("day IS NOT NULL").join(visitors, "visitor_id", "left_semi"))
    links = keep(identities(others.unionByName(new), settings))
    changed = _differing_days(before, links)
    restated = _differing_days(_effect(others, before), _effect(others, links)) if changed else []
    return Change(days, new, visitors, links, changed, restated)


def write_changes(lake: Lake, change: Change) -> None:
    """Write clean.visitor_days and the changed days of clean.identities.

    To be called last: until then a run that was killed finds the same restated days again.
    """
    lake.replace_days(visitor_days.TABLE, change.visitor_days, change.days)
    if change.changed:
        changed = F.col("day").isin(*change.changed)
        others = lake.read(TABLE).where(changed).join(change.visitors, "visitor_id", "left_anti")
        # links without a day were written by a version that had none; all their visitors are worked on anew
        where = f"day IS NULL OR {days_predicate(change.changed)}"
        lake.replace(TABLE, others.unionByName(change.links.where(changed)), where)


def _effect(days: DataFrame, links: DataFrame) -> DataFrame:
    """What the links say of the events that these visitors had on these days."""
    known = links.drop("day").withColumnsRenamed({"visitor_id": "_visitor"})
    on_the_day = (F.col("valid_from") <= F.col("last_at")) & (
        F.col("valid_to").isNull() | (F.col("valid_to") > F.col("first_at"))
    )
    return days.join(known, (F.col("visitor_id") == F.col("_visitor")) & on_the_day, "inner").select(
        "visitor_id", "day", "customer_id", "shared_since", F.greatest("valid_from", "first_at").alias("start"),
        F.when(F.col("valid_to") <= F.col("last_at"), F.col("valid_to")).alias("end"),
        F.greatest("day", F.to_date("observed_at")).alias("identified_on"),
    )  # fmt: skip


def _differing_days(before: DataFrame, after: DataFrame) -> list[date]:
    """The days on which two frames of the same columns hold different rows."""
    both = before.withColumn("_n", F.lit(-1)).unionByName(after.withColumn("_n", F.lit(1)))
    rows = both.groupBy(*before.columns).agg(F.sum("_n").alias("_n")).where("_n <> 0").select("day").distinct().collect()
    return sorted(row.day for row in rows)
