"""Days and milliseconds since 1970-01-01 UTC."""

from datetime import date

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
EPOCH = date(1970, 1, 1)


def to_day_number(day: date) -> int:
    """Return the days from 1970-01-01 to a day.

    >>> to_day_number(date(1970, 1, 3))
    2
    """
    return (day - EPOCH).days
