"""The day that a bronze row is about."""

from datetime import date

import polars as pl
import pyarrow as pa

from jobs import business_day, parsing
from jobs.config.settings import Settings

UNDATED = date(1970, 1, 1)  # reference rows without a date hold for every day
# The columns that say which day a row is about: of events the corrected time, of others the first that has a time.
DATING_COLUMNS = {
    "events": ("event_at", "sent_at", "received_at"),
    "orders": ("ordered_at",),
    "products": ("known_on",),
    "customers": ("updated_at", "registered_at"),
    "rates": ("rated_on",),
}
# The columns that state a time, which a mapping's time zone is about. Rates and product lists hold for days.
TIME_COLUMNS = {
    "events": ("event_at", "sent_at", "received_at"),
    "orders": ("ordered_at", "updated_at"),
    "customers": ("registered_at", "updated_at"),
}


def find_days(rows: pa.Table, table: str, settings: Settings, last_day: date, landed_on: date) -> pa.Array:
    """Return the day of each row, from its texts and `_file_day`; the landing of `last_day` happens on `landed_on`.

    An event or order whose own day cannot be used counts on the day it arrived. About 0.1 µs of CPU a row.
    """
    texts = [pl.Series(pl.from_arrow(rows[column]), dtype=pl.String) for column in DATING_COLUMNS[table]]
    if table == "events":
        time = parsing.correct_event_times(*texts, settings.clean.clock_skew_seconds)["event_at"]
    else:
        time = pl.select(pl.coalesce([parsing.parse_time(column) for column in texts])).to_series()
    file_day = pl.Series(pl.from_arrow(rows["_file_day"]), dtype=pl.Date)
    zone = settings.business_time_zone if table in TIME_COLUMNS else business_day.UTC
    days = pl.DataFrame({"time": time, "file_day": file_day}).with_columns(own=business_day.to_day(pl.col("time"), zone))
    return days.select(_choose_day(table, settings.clean.late_days, last_day, landed_on)).to_series().to_arrow()


def _choose_day(table: str, late_days: int, last_day: date, landed_on: date) -> pl.Expr:
    own, file_day = pl.col("own"), pl.col("file_day")
    if table == "customers":
        return pl.coalesce(file_day, own, pl.lit(UNDATED))
    if table not in ("events", "orders"):
        return pl.coalesce(own, file_day, pl.lit(UNDATED))
    is_usable = own <= file_day.fill_null(landed_on)
    if table == "events":  # a late order restates its day however old, because no money may be left out
        is_usable &= file_day.is_null() | (own >= file_day - pl.duration(days=late_days))
    return pl.when(is_usable).then(own).otherwise(file_day.fill_null(last_day))
