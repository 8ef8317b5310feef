"""The shop's calendar: Polars, DuckDB and Python give the same day and hour, in summer and winter time."""

from datetime import UTC, date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest

from jobs import business_day

ZONES = (
    "UTC",
    "America/Los_Angeles",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
)


@pytest.mark.parametrize("zone", ZONES)
def test_polars_and_duckdb_say_what_the_clock_of_the_zone_says(zone):
    random = Random(5)  # noqa: S311
    times = [datetime(2010, 1, 1, tzinfo=UTC) + timedelta(seconds=random.randrange(15 * 365 * 86_400)) for _ in range(2000)]
    local = [time.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for time in times]
    rows = pl.DataFrame({"happened_at": pl.Series(times, dtype=pl.Datetime("us", "UTC"))})
    by_polars = rows.select(
        local=business_day.to_local_time(pl.col("happened_at"), zone).dt.replace_time_zone(None),
        day=business_day.to_day(pl.col("happened_at"), zone),
    )
    assert by_polars.rows() == [(at, at.date()) for at in local]
    plain = rows.select(pl.col("happened_at").dt.replace_time_zone(None)).to_arrow()
    sql = f"SELECT {business_day.to_local_sql('happened_at', zone)} FROM plain"  # noqa: S608
    with duckdb.connect() as connection:
        connection.register("plain", plain)
        assert connection.sql(sql).fetchall() == [(at,) for at in local]
    assert [business_day.find_day(time, zone) for time in times[:20]] == [at.date() for at in local[:20]]


@pytest.mark.parametrize(
    ("zone", "day", "begins"),
    [
        ("UTC", "2024-03-10", "2024-03-10T00:00"),
        ("America/Los_Angeles", "2024-03-10", "2024-03-10T08:00"),  # of 23 hours
        ("America/Los_Angeles", "2024-03-11", "2024-03-11T07:00"),
        ("America/Havana", "2024-11-03", "2024-11-03T04:00"),  # midnight to one comes twice
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00"),  # begins at one o'clock
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00"),  # a day that was left out
    ],
)
def test_a_day_begins_with_its_first_moment(zone, day, begins):
    start = pl.select(business_day.start_of_day(pl.lit(date.fromisoformat(day)), zone)).item()
    assert start == datetime.fromisoformat(f"{begins}+00:00")


def test_in_utc_nothing_is_computed():
    time = pl.col("happened_at")
    assert business_day.to_local_time(time, "UTC") is time
    assert business_day.to_local_sql("event_at", "UTC") == "event_at"
