"""clean.sessions: one row per session, on the day it began.

Input: clean.events of those days and of as many after as the longest session reaches into. Robots' sessions are flagged.
"""

import hashlib
from collections.abc import Collection
from datetime import date, timedelta

import polars as pl
import pyarrow as pa

from jobs import business_day
from jobs.clean import _rows
from jobs.config.settings import Clean
from jobs.storage.table import Table

SCHEMA = """
    session_id STRING NOT NULL COMMENT 'session',
    day DATE NOT NULL COMMENT 'day it began, in the business time zone',
    customer_id STRING COMMENT 'last customer known in it',
    visitor_id STRING NOT NULL COMMENT 'device or browser',
    started_at TIMESTAMP NOT NULL COMMENT 'first event',
    ended_at TIMESTAMP NOT NULL COMMENT 'last event',
    n_events BIGINT NOT NULL COMMENT 'events',
    n_views BIGINT NOT NULL COMMENT 'views',
    n_searches BIGINT NOT NULL COMMENT 'searches',
    n_cart_adds BIGINT NOT NULL COMMENT 'products put in the cart',
    n_checkouts BIGINT NOT NULL COMMENT 'checkouts begun',
    n_purchases BIGINT NOT NULL COMMENT 'purchase events',
    device STRING COMMENT 'kind of device at the start',
    country STRING COMMENT 'country at the start',
    channel STRING COMMENT 'where the visit came from',
    is_bot BOOLEAN NOT NULL COMMENT 'holds events of a robot',
    was_cut BOOLEAN NOT NULL COMMENT 'goes on from a session that reached its longest'"""
TABLE = Table("clean.sessions", __doc__.split("\n\n")[0], SCHEMA, "day", {"ends_after_start": "ended_at >= started_at"})
_COUNTED = {
    "n_views": "view", "n_searches": "search", "n_cart_adds": "add_to_cart", "n_checkouts": "begin_checkout",
    "n_purchases": "purchase",
}  # fmt: skip
EVENT_COLUMNS = (
    "session_id", "day", "customer_id", "visitor_id", "event_at", "event_type", "device", "country", "channel", "is_bot",
    "session_started_at", "active_since", "event_id",
)  # fmt: skip


def summarize_sessions(
    tables: dict[str, pa.Table], began: Collection[date], time_zone: str = business_day.UTC
) -> dict[str, pa.Table]:
    """Return clean.sessions as `sessions`, one row per session of these `events` that began on one of the days `began`.

    Key: visitor. Input: EVENT_COLUMNS of clean.events. Sorted by day and session. A group-by: about 0.5 µs of CPU an event.
    """
    events = _rows.to_frame(tables["events"]).sort("event_at", "event_id")
    sessions = events.group_by("session_id", maintain_order=True).agg(
        pl.col("session_started_at").first(),
        pl.col("customer_id").drop_nulls().last(),
        pl.col("visitor_id").first(),
        started_at=pl.col("event_at").first(),
        ended_at=pl.col("event_at").last(),
        n_events=pl.len().cast(pl.Int64),
        **{name: (pl.col("event_type") == event_type).sum().cast(pl.Int64) for name, event_type in _COUNTED.items()},
        **{name: pl.col(name).drop_nulls().first() for name in ("device", "country", "channel")},
        is_bot=pl.col("is_bot").any(),
        was_cut=(pl.col("active_since") < pl.col("session_started_at")).any(),
    )
    sessions = sessions.with_columns(day=business_day.to_day(pl.col("session_started_at"), time_zone))
    of_days = sessions.filter(pl.col("day").is_in(list(began)))
    return {"sessions": of_days.sort("day", "session_id").select(TABLE.columns).to_arrow()}


def assign_sessions(rows: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Set session_id, session_started_at and active_since of rows in the order of visitor and time.

    Rows with `is_earlier` are events of days before whose session may go on; they are not returned. A session ends after the
    silence gap; unbroken activity is cut every `session_max_hours` from its start.
    """
    is_first = (pl.col("visitor") != pl.col("visitor").shift(1)).fill_null(True)
    begins = is_first | (pl.col("event_at").diff() > pl.duration(minutes=settings.session_gap_minutes))
    earlier_start, earlier_since = (pl.when("is_earlier").then(c) for c in ("session_started_at", "active_since"))
    since = pl.coalesce(earlier_since, pl.when(begins).then("event_at")).forward_fill()
    active = (pl.col("event_at") - pl.col("active_since")).dt.total_microseconds()
    cut = active // (settings.session_max_hours * 3_600_000_000)
    placed = rows.with_columns(active_since=since).with_columns(session=pl.struct("visitor", "active_since", cut=cut).rle_id())
    starts = placed.group_by("session", maintain_order=True).agg(
        pl.col("visitor_id").first(), session_started_at=pl.coalesce(earlier_start, "event_at").min()
    )
    starts = starts.with_columns(session_id=make_session_ids(starts["visitor_id"], starts["session_started_at"]))
    own = starts.select("session_started_at", "session_id")[placed["session"]]
    return placed.with_columns(own.get_columns()).filter(~pl.col("is_earlier")).drop("is_earlier", "session")


def make_session_ids(visitors: pl.Series, starts: pl.Series) -> pl.Series:
    """Return the id of the session of a visitor that starts at a moment."""
    keys = zip(visitors.to_list(), starts.dt.epoch("us").to_list(), strict=True)
    return pl.Series([hashlib.md5(f"{visitor}|{start}".encode()).hexdigest() for visitor, start in keys], dtype=pl.String)  # noqa: S324


def days_began(cleaned: list[date], settings: Clean, time_zone: str) -> tuple[list[date], list[date]]:
    """Return the days on which a session with an event on one of the cleaned days may have begun, and the days of its events."""
    reach = [timedelta(days=n) for n in range(business_day.count_session_days(settings.session_max_hours, time_zone))]
    began = sorted({day - before for day in cleaned for before in reach})
    return began, sorted({day + after for day in began for after in reach})
