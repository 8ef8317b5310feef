"""quality.profiles: one row of figures per checked table and day, which is compared with earlier days and other tables.

A profile is computed from the day's rows alone, in one query, and kept. Earlier days are read from here, never from their
rows again. A figure that cannot be known (no history, no champion, nothing to compare with) is missing.
"""

from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from statistics import median

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.errors import UserError
from jobs.quality import reconciliation
from jobs.quality._names import DAYS_BEHIND, VOLUME
from jobs.quality._rows import CHECKED, Rows, quote_name, select, sql_errors
from jobs.quality.suites import Suite
from jobs.storage.lake import Lake
from jobs.storage.table import Table

_FIGURES, _SMALLEST_FIGURE = Context(prec=38), Decimal("0.000001")
HISTORY_WEEKS = 4  # the same weekdays of the last 28 days
MIN_HISTORY_WEEKS = 3  # fewer of them are no history
MIN_USUAL_ROWS = 30  # a day that usually has fewer rows varies too much to say anything by its volume
SPILLOVER_DAYS = 7  # rows of another table that belong to a day may lie in the days after it, as a long session's do
SCHEMA = """
    `table` STRING NOT NULL COMMENT 'table',
    day DATE NOT NULL COMMENT 'day; of a table that is checked whole, the last day of the refresh',
    rows BIGINT NOT NULL COMMENT 'rows of the day; of a table that is checked whole, all rows',
    figures MAP<STRING, DECIMAL(38,6)> COMMENT 'figures of the suite by name; volume: rows by the median of the same weekdays before; days_behind: days since the newest rows; psi_*: drift of a feature'"""  # noqa: E501
TABLE = Table("quality.profiles", "One row of figures per checked table and day.", SCHEMA)


@dataclass
class Profile:
    """The figures of a table's day, without those that cannot be known; `n_keys` is the number of different keys."""

    rows: int = 0
    figures: dict[str, Decimal] = field(default_factory=dict)
    n_keys: int = 0

    def figure(self, name: str) -> Decimal | None:
        """Return a figure, or None where it is not known; a sum over no rows is 0."""
        return Decimal(self.rows) if name == "rows" else self.figures.get(name, None if self.rows else Decimal(0))


@dataclass(frozen=True)
class TableProfiles:
    """The profiles of one table by day, and the days whose figures are checked."""

    suite: Suite
    by_day: dict[date, Profile]
    checked_days: list[date]


def profile_days(lake: Lake, suite: Suite, rows: Rows, first: date | None, last: date) -> dict[date, Profile]:
    """Return the profile of each day with rows, or of the whole table as of `last`.

    Runs one query, and one for each compared table. `first` is the first day of `rows`, None where there is no limit.
    """
    figures = suite.meta.get("figures", {})
    key_count = {"_keys": f"count(DISTINCT hash({', '.join(map(quote_name, suite.key))}))"} if counts_keys(suite) else {}
    as_of = f"DATE '{last}' AS as_of"
    view, day = (CHECKED, "day") if suite.profile_by_day else (f"({select(['*', as_of], CHECKED)})", "as_of")
    values = _aggregate(suite, rows, view, day, {"_rows": "count(*)", **key_count, **figures})
    profiles = {day: Profile(int(f.pop("_rows")), f, int(f.pop("_keys", 0))) for day, f in values.items()}
    for n, (table, comparison) in enumerate(suite.meta.get("compared_tables", {}).items()):
        rows.add_table(lake, table, f"compared_{n}", first, last + timedelta(days=SPILLOVER_DAYS))
        by_day = _aggregate(suite, rows, f"compared_{n}", comparison["day"], comparison["figures"])
        for day in {*profiles, *(d for d in by_day if d <= last and (first is None or d >= first))}:
            zeros = dict.fromkeys(comparison["figures"], Decimal(0))
            profiles.setdefault(day, Profile()).figures.update(by_day.get(day, zeros))
    return profiles


def counts_keys(suite: Suite) -> bool:
    """Whether profiles count the different keys of the table: by day only where no key is of two days."""
    return bool(suite.key) and (not suite.profile_by_day or "day" in suite.key)


def _aggregate(suite: Suite, rows: Rows, view: str, day: str, aggregates: dict[str, str]) -> dict[date, dict[str, Decimal]]:
    """Return the aggregates that are not null by day, an expression of SQL."""
    columns = [f"{sql} AS {quote_name(name)}" for name, sql in aggregates.items()]
    with sql_errors(f"{suite.file}: meta.figures"):
        answers = rows.query(select([day, *columns], view, by=day))
    by_day = ((day, zip(aggregates, values, strict=True)) for day, *values in answers if day)
    return {day: {name: _to_figure(suite, name, v) for name, v in values if v is not None} for day, values in by_day}


def _to_figure(suite: Suite, name: str, value: int | float | Decimal) -> Decimal:
    """Return a figure to six places. Raises UserError where it is not a finite number."""
    try:
        figure = Decimal(repr(value) if isinstance(value, float) else value)
        return figure.quantize(_SMALLEST_FIGURE, ROUND_HALF_UP, _FIGURES)
    except (ArithmeticError, TypeError, ValueError):
        raise UserError(f"check: {suite.file}: meta.figures: {name} is not a finite number of at most 38 digits") from None


def add_comparisons(lake: Lake, tables: list[TableProfiles]) -> None:
    """Add to the checked days what needs other days or other tables: volume, days_behind and the balances.

    A checked day without rows gets a profile without rows. It has no volume where no row came in that day: that nothing was
    delivered is said by days_behind.
    """
    days = [day for table in tables for day in table.checked_days]
    profiles = _read_profiles(lake, min(days) - timedelta(weeks=HISTORY_WEEKS), max(days))
    profiles |= {(table.suite.name, day): profile for table in tables for day, profile in table.by_day.items()}
    for table in tables:
        days_with_rows = lake.days(table.suite.name) if table.suite.by_day else []
        rows_in = reconciliation.count_rows_in(lake, table.suite.name)
        for day in table.checked_days:
            profile = profiles[table.suite.name, day] = table.by_day.setdefault(day, Profile())
            weekdays = [(table.suite.name, day - timedelta(weeks=n)) for n in range(1, HISTORY_WEEKS + 1)]
            history = [profiles[key].rows for key in weekdays if key in profiles]
            is_delivered = profile.rows or not rows_in or rows_in.get(day)
            if is_delivered and len(history) >= MIN_HISTORY_WEEKS and median(history) >= MIN_USUAL_ROWS:
                profile.figures[VOLUME] = Decimal(profile.rows / median(history))
            if newest := max((d for d in days_with_rows if d <= day), default=None):
                profile.figures[DAYS_BEHIND] = Decimal((day - newest).days)
    for table in tables:
        _add_balances(table, profiles)


def _add_balances(table: TableProfiles, profiles: dict[tuple[str, date], Profile]) -> None:
    """Add the balances all of whose terms are known."""
    for name, terms in table.suite.meta.get("balances", {}).items():
        for day in table.checked_days:
            values = [(sign, _term(profiles, table.suite, day, term)) for term, sign in terms.items()]
            if all(value is not None for _, value in values):
                table.by_day[day].figures[name] = sum((sign * value for sign, value in values), Decimal(0))


def _term(profiles: dict[tuple[str, date], Profile], suite: Suite, day: date, term: str) -> Decimal | None:
    """Return a figure of this table, or `<table>.<figure>` of another one, on a day; None where it is not known."""
    table, _, figure = term.rpartition(".")
    profile = profiles.get((table or suite.name, day))
    return profile.figure(figure) if profile else None


def _read_profiles(lake: Lake, first: date, last: date) -> dict[tuple[str, date], Profile]:
    rows = lake.read_small_table(TABLE, where=(ds.field("day") >= first) & (ds.field("day") <= last))
    return {(row["table"], row["day"]): Profile(row["rows"], dict(row["figures"])) for row in rows}


def write_profiles(lake: Lake, profiles: dict[str, dict[date, Profile]]) -> None:
    """Replace the profiles of these tables' days; `profiles` are by table and day."""
    rows = [
        (table, day, profile.rows, [(name, round(figure, 6)) for name, figure in profile.figures.items()])
        for table, by_day in profiles.items()
        for day, profile in by_day.items()
    ]
    columns = list(zip(*rows, strict=True)) or [[]] * len(TABLE.columns)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, TABLE.arrow_schema, strict=True)]
    is_replaced = pc.scalar(False)
    for table, by_day in profiles.items():
        is_replaced |= (ds.field("table") == table) & ds.field("day").isin(list(by_day))
    lake.replace_where(TABLE, pa.Table.from_arrays(arrays, TABLE.columns), is_replaced)
