"""Sessions over the end of a day: a day begins with the sessions that the day before left open."""

from datetime import date, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.clean import events
from jobs.config.settings import Clean
from jobs.storage.lake import Lake

_ONE_DAY = timedelta(days=1)


def assign_sessions_of_days(lake: Lake, fresh: DataFrame, due: list[date], settings: Clean) -> tuple[DataFrame, list[date]]:
    """Assign the fresh events of the days `due` to sessions, and the stored events of later days whose sessions change.

    Returns all these events, and the later days. A change is followed from day to day for as long as it changes a session.
    """
    later: list[date] = []
    cleaned = set(lake.days(events.TABLE.name))
    while True:
        days = sorted({*due, *later})
        rows = fresh.unionByName(read_events(lake, later), allowMissingColumns=True) if later else fresh
        in_sessions = assign_sessions_and_robots(rows, _read_open_sessions(lake, days, settings), settings)
        following = [day + _ONE_DAY for day in days if day + _ONE_DAY in cleaned and day + _ONE_DAY not in days]
        if not following:
            return in_sessions, later
        changed = _find_changed_days(lake, following, in_sessions, settings)
        if not changed:
            return in_sessions, later
        later = sorted([*later, *changed])


def assign_sessions_and_robots(rows: DataFrame, open_sessions: DataFrame, settings: Clean) -> DataFrame:
    """Assign events to sessions, then flag the robots that only their sessions show."""
    return events.flag_round_the_clock_activity(events.assign_sessions(rows, open_sessions, settings), settings)


def read_events(lake: Lake, days: list[date]) -> DataFrame:
    """Return the stored events of these days."""
    return lake.read(events.TABLE).where(F.col("day").isin(*days))


def _find_changed_days(lake: Lake, following: list[date], in_sessions: DataFrame, settings: Clean) -> list[date]:
    """Return the `following` days on which a stored event gets another session or robot rule than it has."""
    columns = ("session_started_at", "active_since", "bot_rule")
    before = read_events(lake, following).withColumns({f"_{column}": F.col(column) for column in columns})
    open_sessions = events.open_sessions(in_sessions, [day - _ONE_DAY for day in following], settings)
    after = assign_sessions_and_robots(before, open_sessions, settings)
    differs = reduce(Column.__or__, (~F.col(column).eqNullSafe(F.col(f"_{column}")) for column in columns))
    return [row.day for row in after.where(differs).select("day").distinct().collect()]


def _read_open_sessions(lake: Lake, days: list[date], settings: Clean) -> DataFrame:
    """Return the stored events of the day before each of `days` whose session may go on."""
    eves = {day - _ONE_DAY for day in days}.difference(days)
    return events.open_sessions(lake.read(events.TABLE), eves, settings)
