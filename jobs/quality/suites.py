"""The suites of expectations: `expectations/<layer>/<table>.json`, in the form in which Great Expectations stores suites.

One file has all that is expected of a table. An expectation on a column of the table, or of `meta.derived` or `meta.links`,
is about its rows. One on a figure is about its row of quality.profiles. An expectation that asks for more than
jobs/quality/_metrics.py can answer is refused. These expectations of our own
(jobs/quality/custom_expectations.py) need no column:

expect_key_to_be_unique                     `columns` occur together in one row only
expect_row_count_to_be_like_same_weekdays   rows of the day by the median of the same weekdays before (figure `volume`)
expect_rows_to_be_fresh                     there are rows of the refreshed day (figure `days_behind`)

A file's `meta` may hold:

rows             `days`: the rows that a refresh brought are checked; `table`: all rows, every time
profile          `days` or `table`: figures for each day, or for the whole table; the same as `rows` where it is missing
derived          columns by SQL of DuckDB, window functions included: what two columns say of each other; local_time(time) is a
                 time by the shop's clock
links            columns that are 1 where a row's columns are not in another table; null where that table is empty or the row
                 does not fulfil `where`
figures          SQL aggregates; `as_of` is the refreshed day. Every table has: rows, volume, days_behind (see profiles.py)
compared_tables  aggregates of another table's rows, by `day`: of the rows that this table's rows were computed from
balances         sums of figures with a sign, `<table>.<figure>` for those of another table on the same day; 0 where they match
drift            which rows (`where`) to compare with the champion's training data, by which `column` of them (`vector`: the
                 features): the figures of `psi`, by feature, and `out_of_range`
catalogue        ranges of feature columns by name or unit, so that a new feature of the catalogue is expected too
personal         columns that quality.quarantine must not repeat
"""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs import catalogue
from jobs.config.settings import HOME
from jobs.errors import UserError
from jobs.quality._library import import_library
from jobs.quality._names import DAYS_BEHIND, OUT_OF_RANGE, PSI, VOLUME

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

SUITES = HOME / "expectations"
_EVERY_TABLE = ("rows", VOLUME, DAYS_BEHIND)
_RANGE = "expect_column_values_to_be_between"
_NOT_NULL = "expect_column_values_to_not_be_null"
_META = {
    "rows", "profile", "derived", "links", "figures", "compared_tables", "balances", "drift", "catalogue", "personal",
}  # fmt: skip


@dataclass(frozen=True)
class Suite:
    """A suite file: what is expected of rows and of figures, with each expectation's place in its `meta["position"]`."""

    name: str
    file: str
    meta: dict
    row_expectations: "list[Expectation]"
    figure_expectations: "list[Expectation]"

    @property
    def by_day(self) -> bool:
        return self.meta["rows"] == "days"

    @property
    def profile_by_day(self) -> bool:
        return self.meta.get("profile", self.meta["rows"]) == "days"

    @property
    def key(self) -> list[str]:
        """The columns that occur together once, or none."""
        return next((e.columns for e in self.row_expectations if e.expectation_type == "expect_key_to_be_unique"), [])

    @property
    def figures(self) -> set[str]:
        """The names that an expectation may have in place of a column to be about quality.profiles."""
        compared = (name for table in self.meta.get("compared_tables", {}).values() for name in table["figures"])
        own = {*_EVERY_TABLE, *self.meta.get("figures", {}), *self.meta.get("balances", {})}
        return {*own, *compared, PSI, OUT_OF_RANGE}


def load_suite(name: str) -> Suite:
    """Return the suite of a table; raise UserError where its file is missing or the library does not accept it."""
    path = SUITES / f"{name.replace('.', '/')}.json"
    file = f"expectations/{path.relative_to(SUITES)}"
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"check: {file} does not exist; every table of a checked layer needs a suite") from None
    except ValueError as error:
        raise UserError(f"check: {file} is not JSON: {error}") from None
    meta, entries = content.get("meta", {}), content.get("expectations")
    if meta.get("rows") not in ("days", "table"):
        raise UserError(f"check: {file}: meta.rows is {meta.get('rows')!r}; write 'days' or 'table'")
    if unknown := set(meta) - _META:
        raise UserError(f"check: {file}: meta.{min(unknown)} is not known; known: {', '.join(sorted(_META))}")
    if not entries:
        raise UserError(f"check: {file} has no expectations; state at least one")
    suite = Suite(name, file, meta, [], [])
    for position, entry in enumerate([*entries, *_expect_features(meta.get("catalogue", []), entries)], start=1):
        expectation = create_expectation(suite, {**entry, "meta": {**(entry.get("meta") or {}), "position": position}})
        is_figure = getattr(expectation, "column", None) in suite.figures
        (suite.figure_expectations if is_figure else suite.row_expectations).append(expectation)
    return suite


def create_expectation(suite: Suite, entry: dict) -> "Expectation":
    """Return the library's expectation of one entry; raise UserError for what it does not accept.

    Entries are created one by one: the library's own suite would log a wrong entry and leave it out.
    """
    import_library()
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    from jobs.quality import custom_expectations  # noqa: F401  registers them

    place = f"expectation {entry['meta']['position']}, type {entry.get('type')!r}"
    if "row_condition" in entry.get("kwargs", {}):
        raise UserError(f"check: {suite.file}: {place}: row_condition is not served; say the condition in meta.derived")
    try:
        return ExpectationConfiguration(**entry).to_domain_obj()
    except Exception as error:  # whatever the library, or pydantic under it, rejects
        reason = " ".join(str(error).split())
        raise UserError(f"check: {suite.file}: {place}: {reason}") from None


def _expect_features(ranges: list[dict], entries: list[dict]) -> list[dict]:
    """Return what the catalogue expects of its columns: no null where it says so, and the first range that fits.

    An entry of the file on the same column and of the same type replaces it.
    """
    stated = {(entry["type"], entry["kwargs"].get("column")) for entry in entries}
    additions = []
    for feature in catalogue.FEATURES if ranges else ():
        checks = []
        if feature.missing == "never null":
            checks.append((_NOT_NULL, {}, "critical"))
        limits = next((r for r in ranges if feature.unit in r.get("unit", ()) or _matches_name(r, feature.name)), None)
        if limits and limits["kwargs"]:
            checks.append((_RANGE, limits["kwargs"], limits["severity"]))
        additions += [
            {"type": kind, "kwargs": {"column": feature.name, **kwargs}, "severity": severity}
            for kind, kwargs, severity in checks
            if (kind, feature.name) not in stated
        ]
    return additions


def _matches_name(limits: dict, name: str) -> bool:
    return "name" in limits and re.match(limits["name"], name) is not None
