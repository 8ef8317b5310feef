"""The shop's calendar: the day and the time of day that a UTC time belongs to in the setting `business_time_zone`.

Stored times are UTC, and so are differences of times: the length of a session must not change with summer time. Only days
and hours are those of the shop's clock. In UTC every function returns what it was given.
"""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import polars as pl

UTC = "UTC"
FOREVER = date(9999, 12, 31)  # the end of what still holds
_SKIPPED_HOURS = (0, 1, 24)  # after midnight, when a day may begin: summer time or another calendar day may skip the first ones


def to_local_time(time: pl.Expr, time_zone: str) -> pl.Expr:
    """Return UTC times by the shop's clock."""
    return time if time_zone == UTC else time.dt.convert_time_zone(time_zone)


def to_day(time: pl.Expr, time_zone: str) -> pl.Expr:
    """Return the shop's day of UTC times. About 0.07 µs of CPU a row, 0.01 µs in UTC.

    >>> time = pl.lit(datetime(2024, 3, 2, 7, 30)).dt.replace_time_zone("UTC")
    >>> [pl.select(to_day(time, zone)).item().day for zone in ("UTC", "America/Los_Angeles")]
    [2, 1]
    """
    return to_local_time(time, time_zone).dt.date()


def start_of_day(day: pl.Expr, time_zone: str) -> pl.Expr:
    """Return when the shop's days begin, in UTC.

    >>> begins = pl.select(start_of_day(pl.lit(date(2024, 3, 11)), "America/Los_Angeles")).item()
    >>> begins.isoformat()
    '2024-03-11T07:00:00+00:00'
    """
    midnight = day.cast(pl.Datetime("us"))
    if time_zone == UTC:
        return midnight.dt.replace_time_zone(UTC)
    times = [
        midnight.dt.offset_by(f"{hours}h").dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null")
        for hours in _SKIPPED_HOURS
    ]
    return pl.coalesce(times).dt.convert_time_zone(UTC)


def to_local_sql(time: str, time_zone: str) -> str:
    """Return SQL of DuckDB for UTC times without a zone by the shop's clock. About 0.2 µs of CPU a row, nothing in UTC.

    >>> to_local_sql("event_at", "UTC"), to_local_sql("event_at", "Asia/Tokyo")
    ('event_at', "((event_at AT TIME ZONE 'UTC') AT TIME ZONE 'Asia/Tokyo')")
    """
    return time if time_zone == UTC else f"(({time} AT TIME ZONE 'UTC') AT TIME ZONE '{time_zone}')"


def find_day(time: datetime, time_zone: str) -> date:
    """Return the shop's day of one moment."""
    return time.astimezone(ZoneInfo(time_zone)).date()


def count_session_days(session_max_hours: int, time_zone: str) -> int:
    """Return over how many days, that of its start included, a session may have events. A day may have 23 hours only.

    >>> [count_session_days(24, zone) for zone in ("UTC", "Europe/Berlin")]
    [2, 3]
    """
    hours = session_max_hours + (time_zone != UTC)
    return -(-hours // 24) + 1
