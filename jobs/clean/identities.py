"""clean.identities: one row per visitor and interval in which one customer was known on it.

Input: clean.visitor_days, with the times at which another customer was seen on the visitor. A visitor belongs to the
customer seen last; its events before the first sighting belong to the first customer. A device on which too many customers
were seen within some days belongs to nobody from then on (clean.identity_alarms): its links are kept with the day of the
alarm, and attach no event to a customer.

A link is stored on the day that showed it. Cleaning a day writes only the days of links that have changed.
"""

from collections.abc import Collection
from datetime import date, timedelta

import polars as pl
import pyarrow as pa

from jobs.clean import _rows, customers
from jobs.config.settings import Clean
from jobs.storage.table import Table

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


def link_visitors(visitor_days: pl.DataFrame, settings: Clean, shared: pl.DataFrame = customers.NO_SHARED) -> pl.DataFrame:
    """Return clean.identities of the visitors whose clean.visitor_days are all given.

    `shared` are the customer ids that guests share: customer_id, since.
    """
    sightings = _list_sightings(visitor_days)
    first_events = visitor_days.group_by("visitor_id").agg(first_at=pl.col("first_at").min())
    mails = visitor_days.select("visitor_id", observed_at="mailed").explode("observed_at", empty_as_null=False).drop_nulls()
    is_same = (pl.col("visitor_id", "customer_id") == pl.col("visitor_id", "customer_id").shift(1)).fill_null(False)
    changes = sightings.filter(~pl.all_horizontal(is_same))
    links = (
        changes.join(first_events, "visitor_id", "inner", maintain_order="left")
        .join(find_shared_visitors(sightings, settings), "visitor_id", "left", maintain_order="left")
        .join(mails.with_columns(is_mailed=True), ["visitor_id", "observed_at"], "left", maintain_order="left")
        .join(shared, "customer_id", "left", maintain_order="left")
        .with_columns(shared_since=pl.min_horizontal("shared_since", "since"))
        .drop("since")
    )
    is_first = (pl.col("visitor_id") != pl.col("visitor_id").shift(1)).fill_null(True)
    is_last = (pl.col("visitor_id") != pl.col("visitor_id").shift(-1)).fill_null(True)
    return links.with_columns(
        valid_from=pl.when(is_first).then("first_at").otherwise("observed_at"),
        valid_to=pl.when(~is_last).then(pl.col("observed_at").shift(-1)),
    ).with_columns(
        rule=pl.when(pl.col("valid_from") < pl.col("observed_at")).then(pl.lit("back_to_first_event"))
        .when("is_mailed").then(pl.lit("mail"))
        .otherwise(pl.lit("seen"))
    ).select(TABLE.columns)  # fmt: skip


def _list_sightings(visitor_days: pl.DataFrame) -> pl.DataFrame:
    """Return (visitor_id, day, observed_at, customer_id) in the order of visitor and time."""
    seen = (
        visitor_days.filter(pl.col("seen").list.len() > 0)
        .select("visitor_id", "day", "seen")
        .explode("seen", empty_as_null=False)
        .unnest("seen")
    )
    return seen.sort("visitor_id", "observed_at")


def find_shared_visitors(sightings: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Return (visitor_id, shared_since), the first day on which too many customers had been known on a visitor within some days.

    A customer counts from each day it is seen until so many days later, or until it is seen again: going through these days in
    order, no moment is compared with another.
    """
    most = settings.max_customers_per_visitor
    often = sightings.group_by("visitor_id").agg(n=pl.len()).filter(pl.col("n") > most)
    many = sightings.join(often, "visitor_id", "semi").filter(pl.col("customer_id").n_unique().over("visitor_id") > most)
    days = many.select("visitor_id", "customer_id", "day").unique().sort(pl.all())
    again = pl.col("day").shift(-1).over("visitor_id", "customer_id")
    until = pl.min_horizontal(again, pl.col("day") + timedelta(days=settings.customers_within_days))
    steps = pl.concat(
        [days.select("visitor_id", "day", step=1), days.select("visitor_id", day=until, step=-1)], how="vertical_relaxed"
    )
    balance = steps.group_by("visitor_id", "day").agg(pl.col("step").sum()).sort("visitor_id", "day")  # a day's steps together
    too_many = balance.filter(pl.col("step").cum_sum().over("visitor_id") > most)
    return too_many.group_by("visitor_id").agg(shared_since=pl.col("day").min())


def attach_customers(events: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """Return events with their customer at that time, and `identified_on`, the day from which that was known.

    `events` have `customer_id` where the event itself named one on its day, and `later_customer_id` from the day `later_since`
    on, where it came to name another or nobody (_people.name_customers); `signed_in` keeps that it named one. On a shared visitor
    only such an event has a customer. What an event had been given to until `shared_since` is its `former_customer_id`. The order
    of the events is kept.
    """
    linked = _add_link(events.drop("shared_since", strict=False), links)
    is_named = pl.col("customer_id").is_not_null()
    changes = is_named & pl.col("later_since").is_not_null()  # what it named on its day no longer holds
    gives = pl.when(pl.col("shared_since").is_null()).then("linked")
    becomes = pl.coalesce(pl.when(changes).then("later_customer_id").otherwise("customer_id"), gives)
    is_later = ~is_named & gives.is_null() & pl.col("later_customer_id").is_not_null()
    since = pl.when(is_named).then("day").when(is_later).then("later_since").otherwise(pl.max_horizontal("day", "observed_on"))
    joined = linked.with_columns(since=since, changes=changes, is_later=is_later, signed_in=is_named | is_later, becomes=becomes)
    is_taken = ~pl.col("signed_in") & (pl.col("since") < pl.col("shared_since"))
    return (
        joined.with_columns(
            former_customer_id=pl.when("changes").then("customer_id").when(is_taken).then("linked"),
            customer_id=pl.when("is_later").then("later_customer_id").otherwise("becomes"),
            shared_since=pl.when("changes").then("later_since").otherwise("shared_since"),
        )
        .with_columns(identified_on=pl.when(pl.coalesce("customer_id", "former_customer_id").is_not_null()).then("since"))
        .drop("linked", "observed_on", "since", "changes", "is_later", "becomes", "later_customer_id", "later_since")
    )


def _add_link(events: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """Add what the link of the visitor at that time says: linked, a customer; observed_on; shared_since. Null without a link."""
    if links.is_empty():
        return events.with_columns(
            linked=pl.lit(None, pl.String), observed_on=pl.lit(None, pl.Date), shared_since=pl.lit(None, pl.Date)
        )
    intervals = links.select(
        "visitor_id", "valid_from", "valid_to", "shared_since", linked="customer_id", observed_on="day"
    ).sort("valid_from")
    numbered = events.with_row_index("row")
    of_linked = numbered.select("row", "visitor_id", "event_at").join(intervals.select("visitor_id"), "visitor_id", "semi")
    at_that_time = (
        of_linked.sort("event_at")
        .join_asof(
            intervals, left_on="event_at", right_on="valid_from", by="visitor_id", strategy="backward", check_sortedness=False
        )
        .filter(pl.col("valid_to").is_null() | (pl.col("event_at") < pl.col("valid_to")))
        .filter(pl.col("linked").is_not_null())
    )
    columns = ["row", "shared_since", "linked", "observed_on"]
    return numbered.join(at_that_time.select(columns), "row", "left", maintain_order="left").drop("row")


def without_stitching(events: pl.DataFrame) -> pl.DataFrame:
    """Return stored events as sent, without the stitched identities that attach_customers added."""
    changed = pl.col("signed_in") & pl.col("former_customer_id").is_not_null()
    is_later = pl.col("signed_in") & (pl.col("identified_on") > pl.col("day"))
    own = events.with_columns(
        customer_id=pl.when(changed).then("former_customer_id").when(pl.col("signed_in") & ~is_later).then("customer_id"),
        later_customer_id=pl.when(changed | is_later).then("customer_id"),
        later_since=pl.when(changed).then("shared_since").when(is_later).then("identified_on"),
    )
    return own.drop("signed_in", "identified_on", "former_customer_id", "shared_since")


def find_changed_days(visitor_days: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame) -> tuple[list[date], list[date]]:
    """Return the days of links that differ, and the days of `visitor_days` whose events get another customer by that.

    `before` and `after` are all links of the visitors. `visitor_days` are those of the days that are not cleaned now.
    """
    changed = _differing_days(before, after)
    return changed, _differing_days(_effect(visitor_days, before), _effect(visitor_days, after)) if changed else []


def _effect(days: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """What the links say of the events that these visitors had on these days."""
    links = links.drop("rule").rename({"day": "observed_on"})
    on_the_day = (pl.col("valid_from") <= pl.col("last_at")) & (
        pl.col("valid_to").is_null() | (pl.col("valid_to") > pl.col("first_at"))
    )
    return days.select("visitor_id", "day", "first_at", "last_at").join(links, "visitor_id", "inner").filter(on_the_day).select(
        "visitor_id", "day", "customer_id", "shared_since", start=pl.max_horizontal("valid_from", "first_at"),
        end=pl.when(pl.col("valid_to") <= pl.col("last_at")).then("valid_to"),
        identified_on=pl.max_horizontal("day", "observed_on"),
    )  # fmt: skip


def _differing_days(before: pl.DataFrame, after: pl.DataFrame) -> list[date]:
    """The days on which two frames of the same columns hold different rows."""

    def rows_missing(rows: pl.DataFrame, others: pl.DataFrame) -> pl.Series:
        return rows.join(others, before.columns, "anti", nulls_equal=True)["day"]

    return sorted({*rows_missing(before, after), *rows_missing(after, before)})


def replace_links(tables: dict[str, pa.Table], days: Collection[date]) -> dict[str, pa.Table]:
    """Return clean.identities of `days` as `links`: the `links` of the `linked` visitors, and the `stored` ones of all others.

    Key: visitor. Sorted by day, visitor and time. About 0.3 µs of CPU a link.
    """
    stored, links, linked = (_rows.to_frame(tables[name]) for name in ("stored", "links", "linked"))
    others = stored.join(linked, "visitor_id", "anti")
    rows = pl.concat([others, links.filter(pl.col("day").is_in(list(days)))])
    return {"links": rows.sort("day", "visitor_id", "valid_from").to_arrow()}
