"""quality.profiles: one row of figures per checked table and day, by which a day is held against its history and other tables.

A profile is computed from the day's rows alone, in one query, and kept: what came before is read from here, never
from the rows again. A figure that cannot be known (no history, no champion, nothing to compare with) is missing.
"""

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from statistics import median

import pyarrow.dataset as ds
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, GroupedData
from pyspark.sql import functions as F

from jobs.errors import UserError
from jobs.quality.suites import Suite
from jobs.storage.lake import Lake
from jobs.storage.table import Table, days_predicate

WEEKS = 4  # the same weekdays of the last 28 days
LEAST_WEEKS = 3  # fewer of them are no history
LEAST_ROWS = 30  # a usual day of fewer rows than this varies too much to say anything by its volume
SPILL_DAYS = 7  # rows of another table that belong to a day may lie in the days after it, as a long session's do
SCHEMA = """
    `table` STRING NOT NULL COMMENT 'table',
    day DATE NOT NULL COMMENT 'day; of a table that is checked whole, the last day of the refresh',
    rows BIGINT NOT NULL COMMENT 'rows of the day; of a table that is checked whole, all rows',
    figures MAP<STRING, DECIMAL(38,6)> COMMENT 'figures of the suite by name; volume: rows by the median of the same weekdays before; days_behind: days since the newest rows; psi_*: drift of a feature'"""  # noqa: E501
TABLE = Table("quality.profiles", "One row of figures per checked table and day.", SCHEMA)


@dataclass
class Profile:
    """The figures of a table's day; those that could not be known are missing. `n_keys`: how many different keys."""

    rows: int = 0
    figures: dict[str, Decimal] = field(default_factory=dict)
    n_keys: int = 0

    def figure(self, name: str) -> Decimal | None:
        """A figure; of no rows every sum is 0."""
        return Decimal(self.rows) if name == "rows" else self.figures.get(name, None if self.rows else Decimal(0))


def measured(lake: Lake, suite: Suite, rows: DataFrame, first: date | None, last: date) -> dict[date, Profile]:
    """The profile of each day with rows, or of the whole table as of `last`. One query, and one per table beside it."""
    figures = {name: F.expr(sql) for name, sql in suite.meta.get("figures", {}).items()}
    of_days = rows if suite.profile_by_day else rows.withColumn("as_of", F.lit(last))
    grouped = of_days.groupBy("day" if suite.profile_by_day else "as_of")
    n_keys = grouped.agg(F.count_distinct(F.xxhash64(*suite.key)).alias("_keys")) if keyed(suite) else None
    found = _aggregated(suite, grouped, {"_rows": F.count("*"), **figures}, n_keys)
    profiles = {day: Profile(int(f.pop("_rows")), f, int(f.pop("_keys", 0))) for day, f in found.items()}
    for table, other in suite.meta.get("beside", {}).items():
        theirs = lake.read(table, first, last + timedelta(days=SPILL_DAYS))
        aggregates = {name: F.expr(sql) for name, sql in other["figures"].items()}
        per_day = _aggregated(suite, theirs.groupBy(F.expr(other["day"])), aggregates)
        for day in {*profiles, *(d for d in per_day if d <= last and (first is None or d >= first))}:
            nothing = dict.fromkeys(aggregates, Decimal(0))
            profiles.setdefault(day, Profile()).figures.update(per_day.get(day, nothing))
    return profiles


def keyed(suite: Suite) -> bool:
    """Whether the profiles count the table's different keys: by day only where no key is of two days."""
    return bool(suite.key) and (not suite.profile_by_day or "day" in suite.key)


def _aggregated(
    suite: Suite, grouped: GroupedData, aggregates: dict[str, Column], beside: DataFrame | None = None
) -> dict[date, dict[str, Decimal]]:
    """The aggregates that are not null, by day, for rows grouped by day; and those `beside` them, computed on their own: with
    a count of different keys in one aggregation Spark would keep the others for each key.
    """
    columns = [aggregate.cast("decimal(38,6)").alias(name) for name, aggregate in aggregates.items()]
    try:
        found = grouped.agg(*columns)
        found = (found.join(beside, found.columns[0], how="inner") if beside else found).collect()
    except AnalysisException as error:
        raise UserError(f"check: {suite.file}: meta.figures: {str(error).splitlines()[0]}") from None
    named = ((row[0], zip(row.__fields__[1:], row[1:], strict=True)) for row in found)
    return {day: {name: value for name, value in values if value is not None} for day, values in named if day}


def compare(lake: Lake, tables: list[tuple[Suite, dict[date, Profile], list[date]]]) -> None:
    """Add to the judged days of each (suite, profiles, judged days) what takes other days or other tables.

    That is volume, days_behind and the balances. A judged day without rows gets a profile that says so.
    """
    days = [day for _, _, judged in tables for day in judged]
    known = _stored(lake, min(days) - timedelta(weeks=WEEKS), max(days))
    known |= {(suite.name, day): profile for suite, found, _ in tables for day, profile in found.items()}
    for suite, found, judged in tables:
        present = lake.days(suite.name) if suite.by_day else []
        for day in judged:
            profile = known[suite.name, day] = found.setdefault(day, Profile())
            before = [(suite.name, day - timedelta(weeks=n)) for n in range(1, WEEKS + 1)]
            usual = [known[key].rows for key in before if key in known]
            if len(usual) >= LEAST_WEEKS and median(usual) >= LEAST_ROWS:
                profile.figures["volume"] = Decimal(profile.rows / median(usual))
            if newest := max((d for d in present if d <= day), default=None):
                profile.figures["days_behind"] = Decimal((day - newest).days)
    for suite, found, judged in tables:
        for name, terms in suite.meta.get("balances", {}).items():
            for day in judged:
                values = [(sign, _term(known, suite, day, term)) for term, sign in terms.items()]
                if all(value is not None for _, value in values):
                    found[day].figures[name] = sum((sign * value for sign, value in values), Decimal(0))


def _term(known: dict[tuple[str, date], Profile], suite: Suite, day: date, term: str) -> Decimal | None:
    table, _, figure = term.rpartition(".")
    profile = known.get((table or suite.name, day))
    return profile.figure(figure) if profile else None


def _stored(lake: Lake, first: date, last: date) -> dict[tuple[str, date], Profile]:
    rows = lake.read_small_table(TABLE, where=(ds.field("day") >= first) & (ds.field("day") <= last))
    return {(row["table"], row["day"]): Profile(row["rows"], dict(row["figures"])) for row in rows}


def record(lake: Lake, found: dict[str, dict[date, Profile]]) -> None:
    """Make these the profiles of their tables' days, by table and day."""
    rows = [
        (table, day, profile.rows, {name: round(figure, 6) for name, figure in profile.figures.items()})
        for table, by_day in found.items()
        for day, profile in by_day.items()
    ]
    of_tables = (f"(table = '{table}' AND ({days_predicate(sorted(by_day))}))" for table, by_day in found.items())
    lake.replace(TABLE, lake.spark.createDataFrame(rows, SCHEMA).coalesce(1), " OR ".join(of_tables))
