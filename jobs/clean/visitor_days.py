"""clean.visitor_days: one row per visitor and day.

Input: the events of the day. It is what clean.identities is made from, and what later days look up purchases in, so that no older
event has to be read again. Of a source without visitors it has the days with purchases alone.
"""

import polars as pl

from jobs.clean import _repeats
from jobs.storage.table import Table

SCHEMA = """
    visitor_id STRING NOT NULL COMMENT 'device or browser',
    day DATE NOT NULL COMMENT 'day, in the business time zone',
    first_at TIMESTAMP NOT NULL COMMENT 'first event of the day',
    last_at TIMESTAMP NOT NULL COMMENT 'last event of the day',
    seen ARRAY<STRUCT<observed_at: TIMESTAMP, customer_id: STRING>> NOT NULL COMMENT 'when events named another customer',
    mailed ARRAY<TIMESTAMP> COMMENT 'those of these moments in which only an e-mail address named the customer',
    purchases ARRAY<STRUCT<transaction_id: STRING, product_id: STRING, event_at: TIMESTAMP>> COMMENT 'purchases that name their transaction; null where there is none'"""  # noqa: E501
TABLE = Table("clean.visitor_days", __doc__.split("\n\n")[0], SCHEMA, "day", {"forward": "last_at >= first_at"})


def summarize_visitor_days(events: pl.DataFrame, has_visitors: bool = True) -> pl.DataFrame:
    """Return clean.visitor_days out of events in the order of visitor and time.

    `events` have visitor_id, day, visitor_day (the number of the visitor's day), event_at, known_customer_id and customer_id
    (as sent), event_type, source_id, order_id and product_id. Where a source has no visitors, days without purchases are left
    out.
    """
    purchases = _repeats.list_transactions(events).group_by("visitor_day", maintain_order=True).agg(
        purchases=pl.struct("transaction_id", "product_id", "event_at")
    )  # fmt: skip
    if not has_visitors:
        events = events.filter(pl.col("visitor_day").is_in(purchases["visitor_day"].implode()))
    days = events.group_by("visitor_day", maintain_order=True).agg(
        pl.col("visitor_id", "day").first(), first_at=pl.col("event_at").first(), last_at=pl.col("event_at").last()
    )
    seen = _find_sightings(events if has_visitors else events.clear()).group_by("visitor_day", maintain_order=True).agg(
        seen=pl.struct("observed_at", "customer_id"), mailed=pl.col("observed_at").filter(~pl.col("is_by_id"))
    )  # fmt: skip
    joined = days.join(seen, "visitor_day", "left", maintain_order="left").join(
        purchases, "visitor_day", "left", maintain_order="left"
    )
    return joined.with_columns(
        pl.col("seen").fill_null(pl.lit([], seen.schema["seen"])), pl.col("mailed").fill_null(pl.lit([], seen.schema["mailed"]))
    )


def list_purchases(days: pl.DataFrame) -> pl.DataFrame:
    """Return the purchases of rows of clean.visitor_days, with the columns of _repeats.NO_TRANSACTIONS."""
    some = days.drop_nulls("purchases")
    purchases = some.select("visitor_id", "day", "purchases").explode("purchases", empty_as_null=False).unnest("purchases")
    return purchases.select(_repeats.NO_TRANSACTIONS.columns)


def _find_sightings(events: pl.DataFrame) -> pl.DataFrame:
    """Return the moments in which a visitor named another customer than before on the day.

    Of several customers in the same moment the last in the order of their ids stands, so that intervals have a length.
    """
    named = events.filter(pl.col("known_customer_id").is_not_null()).select(
        "visitor_day", observed_at="event_at", customer_id="known_customer_id", is_by_id=pl.col("customer_id").is_not_null()
    )
    is_same_day = pl.col("visitor_day") == pl.col("visitor_day").shift(1)
    is_same_moment = is_same_day & (pl.col("observed_at") == pl.col("observed_at").shift(1))
    moments = named.with_columns(moment=is_same_moment.fill_null(False).not_().cum_sum())
    in_order = moments.sort("moment", "customer_id", "is_by_id")
    last = in_order.filter((pl.col("moment") != pl.col("moment").shift(-1)).fill_null(True))
    is_same_customer = is_same_day & (pl.col("customer_id") == pl.col("customer_id").shift(1))
    return last.filter(~is_same_customer.fill_null(False))
