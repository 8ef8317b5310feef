"""clean.visitor_days: one row per visitor and day.

Input: the events of the day. It is what clean.identities is made from, so that no older event has to be read again.
"""

import polars as pl

from jobs.storage.table import Table

SCHEMA = """
    visitor_id STRING NOT NULL COMMENT 'device or browser',
    day DATE NOT NULL COMMENT 'day, UTC',
    first_at TIMESTAMP NOT NULL COMMENT 'first event of the day',
    last_at TIMESTAMP NOT NULL COMMENT 'last event of the day',
    seen ARRAY<STRUCT<observed_at: TIMESTAMP, customer_id: STRING>> NOT NULL COMMENT 'when events named another customer',
    mailed ARRAY<TIMESTAMP> COMMENT 'those of these moments in which only an e-mail address named the customer'"""
TABLE = Table("clean.visitor_days", __doc__.split("\n\n")[0], SCHEMA, "day", {"forward": "last_at >= first_at"})
_VISITOR_DAY = ["visitor_id", "day"]


def summarize_visitor_days(events: pl.DataFrame) -> pl.DataFrame:
    """Return clean.visitor_days out of events with visitor_id, day, event_at, known_customer_id and customer_id (as sent)."""
    days = events.group_by(_VISITOR_DAY).agg(first_at=pl.col("event_at").min(), last_at=pl.col("event_at").max())
    sightings = _find_sightings(events)
    seen = sightings.group_by(_VISITOR_DAY, maintain_order=True).agg(
        seen=pl.struct("observed_at", "customer_id"), mailed=pl.col("observed_at").filter(~pl.col("is_by_id"))
    )
    return days.join(seen, _VISITOR_DAY, "left").with_columns(
        pl.col("seen").fill_null(pl.lit([], seen.schema["seen"])), pl.col("mailed").fill_null(pl.lit([], seen.schema["mailed"]))
    )


def _find_sightings(events: pl.DataFrame) -> pl.DataFrame:
    """Return the moments in which a visitor named another customer than before on the day.

    Of several customers in the same moment the last in the order of their ids stands, so that intervals have a length.
    """
    named = events.filter(pl.col("known_customer_id").is_not_null()).select(
        *_VISITOR_DAY, "event_at", customer_id="known_customer_id", is_by_id=pl.col("customer_id").is_not_null()
    )
    moment = [*_VISITOR_DAY, "event_at"]
    moments = named.sort(*moment, "customer_id", "is_by_id").unique(moment, keep="last", maintain_order=True)
    before = pl.col("customer_id").shift(1).over(_VISITOR_DAY)
    another = moments.filter(before.is_null() | (before != pl.col("customer_id")))
    return another.rename({"event_at": "observed_at"})
