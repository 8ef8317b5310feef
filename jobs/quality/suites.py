"""The suites of expectations: `expectations/<layer>/<table>.json`, in the form in which Great Expectations stores suites.

One file says all that is expected of a table. An expectation on a column of the table, or on one of `meta.derived`, is
about its rows; one on a figure is about its row of quality.profiles. What the file's `meta` may hold:

rows        `days`: the rows that a refresh brought are checked; `table`: all rows, every time
profile     `days` or `table`: one row of figures a day, or one for the whole table; as `rows` where it is missing
key         columns that occur together once: makes the column `copies`, how often a row's key is there
derived     columns by SQL, windows included: what two columns say of each other
links       columns that are 1 where a row's columns are not in another table, null where that table is empty, or the
            row is not one of those that `where` asks for
figures     SQL aggregates; `as_of` is the refreshed day. There always are: rows, volume, days_behind (see profiles.py)
beside      aggregates of another table's rows, by `day`: what this table's rows were made from
balances    sums of figures with a sign, `<table>.<figure>` for those of another table on the same day; 0 where they match
drift       which rows (`where`) to hold against the champion's training data, and of which `column` of them (`vector`, the
            features): the figures of `psi`, by feature, and `out_of_range`
catalogue   ranges of feature columns by name or unit, so that a new feature of the catalogue is expected too
personal    columns that quality.quarantine must not repeat
"""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs import catalogue
from jobs.config.settings import HOME
from jobs.errors import UserError

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

SUITES = HOME / "expectations"
COPIES = "copies"
PSI, OUT_OF_RANGE = "psi", "out_of_range"
ALWAYS = ("rows", "volume", "days_behind")
_RANGE = "expect_column_values_to_be_between"
_META = {
    "rows", "profile", "key", "derived", "links", "figures", "beside", "balances", "drift", "catalogue", "personal",
}  # fmt: skip


@dataclass(frozen=True)
class Suite:
    """A suite file: what is expected of rows and of figures, with each expectation's place in `meta.position`."""

    name: str
    file: str
    meta: dict
    of_rows: "list[Expectation]"
    of_figures: "list[Expectation]"

    @property
    def by_day(self) -> bool:
        return self.meta["rows"] == "days"

    @property
    def profile_by_day(self) -> bool:
        return self.meta.get("profile", self.meta["rows"]) == "days"

    @property
    def key(self) -> list[str]:
        return self.meta.get("key", [])

    @property
    def figures(self) -> set[str]:
        """The names that an expectation may have in place of a column to be about quality.profiles."""
        beside = (name for other in self.meta.get("beside", {}).values() for name in other["figures"])
        return {*ALWAYS, *self.meta.get("figures", {}), *beside, *self.meta.get("balances", {}), PSI, OUT_OF_RANGE}


def load(name: str) -> Suite:
    """The suite of a table; raises UserError where its file is missing or the library does not accept it."""
    path = SUITES / f"{name.replace('.', '/')}.json"
    file = f"expectations/{path.relative_to(SUITES)}"
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"check: {file} does not exist; every table of a checked layer needs a suite") from None
    except ValueError as error:
        raise UserError(f"check: {file} is not JSON: {error}") from None
    meta = raw.get("meta", {})
    if meta.get("rows") not in ("days", "table"):
        raise UserError(f"check: {file}: meta.rows is {meta.get('rows')!r}; write 'days' or 'table'")
    if unknown := set(meta) - _META:
        raise UserError(f"check: {file}: meta.{min(unknown)} is not known; known: {', '.join(sorted(_META))}")
    typed = raw.get("expectations")
    if not typed:
        raise UserError(f"check: {file} has no expectations; state at least one")
    suite = Suite(name, file, meta, [], [])
    for position, one in enumerate([*typed, *_of_features(meta.get("catalogue", []), typed)], start=1):
        expectation = made(suite, {**one, "meta": {**(one.get("meta") or {}), "position": position}})
        about = one["kwargs"].get("column") in suite.figures
        (suite.of_figures if about else suite.of_rows).append(expectation)
    return suite


def made(suite: Suite, raw: dict) -> "Expectation":
    """The library's expectation of one entry.

    One by one: given to the library's suite as it is, a wrong entry would be logged and left out.
    """
    import great_expectations  # noqa: F401  whole first: preload() may be importing it in another thread
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    place = f"expectation {raw['meta']['position']}, type {raw.get('type')!r}"
    if "row_condition" in raw.get("kwargs", {}):
        raise UserError(f"check: {suite.file}: {place}: row_condition is not served; say the condition in meta.derived")
    try:
        return ExpectationConfiguration(**raw).to_domain_obj()
    except Exception as error:  # whatever the library, or pydantic under it, finds wrong with the entry
        reason = " ".join(str(error).split())
        raise UserError(f"check: {suite.file}: {place}: {reason}") from None


def _of_features(ranges: list[dict], typed: list[dict]) -> list[dict]:
    """What the catalogue says of its columns: never null, and the first range that fits. What the file types itself wins."""
    stated = {(one["type"], one["kwargs"].get("column")) for one in typed}
    entries = []
    for feature in catalogue.FEATURES if ranges else ():
        expected = []
        if feature.missing == "never null":
            expected.append(("expect_column_values_to_not_be_null", {}, "critical"))
        fits = next((r for r in ranges if feature.unit in r.get("unit", ()) or _named(r, feature.name)), None)
        if fits and fits["kwargs"]:
            expected.append((_RANGE, fits["kwargs"], fits["severity"]))
        entries += [
            {"type": kind, "kwargs": {"column": feature.name, **kwargs}, "severity": severity}
            for kind, kwargs, severity in expected
            if (kind, feature.name) not in stated
        ]
    return entries


def _named(fits: dict, name: str) -> bool:
    return "name" in fits and re.match(fits["name"], name) is not None
