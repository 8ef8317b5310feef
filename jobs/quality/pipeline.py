"""The check of a layer: Great Expectations on the rows that a refresh brought and on their figures.

Writes quality.profiles, quality.quarantine and quality.results, then stops the day where a critical expectation failed.
The expectations are in `expectations/<layer>/<table>.json`; jobs/quality/suites.py says how to read a file.
"""

import time
from dataclasses import dataclass
from datetime import date, timedelta
from threading import Thread
from typing import TYPE_CHECKING

from jobs import catalogue, flow
from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.progress import log
from jobs.quality import drift, profiles, quarantine, results, suites, validation
from jobs.quality._library import import_library
from jobs.quality._names import KEY_COUNT, PSI
from jobs.quality._rows import CHECKED, Rows, open_rows, quote_name, select, sql_errors
from jobs.quality.profiles import Profile, TableProfiles
from jobs.quality.suites import Suite
from jobs.storage import models
from jobs.storage.commits import File
from jobs.storage.lake import Lake

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation


_EXTENDED = "extended"  # the view of the rows with the columns that the suite adds


@dataclass(frozen=True)
class TableCheck:
    """The check of one table's rows, from the day `first` on: results, profiles, and the files of its bad rows."""

    first: date | None
    results: list[dict]
    profiles: TableProfiles
    bad_rows: list[File]


def preload() -> None:
    """Import Great Expectations, which takes seconds, in a thread while this process reads or waits for something else."""
    Thread(target=import_library, daemon=True).start()


def run(lake: Lake, settings: Settings, layer: str, days: list[date]) -> None:
    """Check every table of `layer` and write quality.profiles, quality.quarantine and quality.results.

    A table that grows by day is checked from the day after its last check (or the first of `days`, if earlier) to the
    last of `days`; its first check is of all rows up to then. A table without days is checked whole every time.
    Raises UserError for a missing or wrong suite file and, once all results are written, for a failed critical one.
    """
    last = days[-1]
    names = [f"{layer}.{table}" for table in flow.CHECKED_TABLES[layer]]
    last_checked = results.last_checked_days(lake, names, last)
    layer_suites = [suites.load_suite(name) for name in names]
    checks = {suite.name: check_table(lake, settings, suite, days, last_checked.get(suite.name)) for suite in layer_suites}
    profiles.add_comparisons(lake, [check.profiles for check in checks.values()])
    rows = [
        {"table": table, "day": last, "first_day": check.first, **result}
        for table, check in checks.items()
        for result in sorted([*check.results, *_validate_figures(check.profiles)], key=lambda result: result["position"])
    ]
    quarantine.commit_bad_rows(lake, names, last, [file for check in checks.values() for file in check.bad_rows])
    profiles.write_profiles(lake, {table: check.profiles.by_day for table, check in checks.items()})
    results.write_results(lake, names, last, rows)
    results.raise_for_critical(rows)


def check_table(lake: Lake, settings: Settings, suite: Suite, days: list[date], last_checked: date | None = None) -> TableCheck:
    """Check the rows of a table that came since its last check.

    Raises UserError where an expectation, figure or column cannot be evaluated.
    """
    started = time.monotonic()
    last = days[-1]
    first = min(days[0], last_checked + timedelta(days=1)) if last_checked and suite.by_day else None
    with open_rows(lake, suite.name, first, last if suite.by_day else None, settings.business_time_zone) as rows:
        by_day = profiles.profile_days(lake, suite, rows, first, last)
        results, bad_rows = check_rows(lake, suite, rows, by_day, last)
        new_days = {day for day in by_day if first and day >= first}
        checked_days = sorted({*days, *new_days} if suite.profile_by_day else {last})
        if "drift" in suite.meta:
            _add_drift(settings, suite, rows, by_day, checked_days)
    failed = sum(not result["success"] for result in results)
    log(
        f"check {suite.name:<28} {results[0]['rows_checked']:>12,} rows {time.monotonic() - started:7.1f} s  "
        f"{len(results)} expectations, {failed} failed"
    )
    return TableCheck(first, results, TableProfiles(suite, by_day, checked_days), bad_rows)


def check_rows(lake: Lake, suite: Suite, rows: Rows, by_day: dict[date, Profile], day: date) -> tuple[list[dict], list[File]]:
    """Evaluate the expectations on rows, whose profiles are given, in one query.

    Returns the results, and the files of the rows that fail an expectation, which no version of quality.quarantine names yet.
    """
    n_rows = sum(profile.rows for profile in by_day.values())
    is_unique = profiles.counts_keys(suite) and n_rows == sum(profile.n_keys for profile in by_day.values())
    _add_columns(lake, suite, rows, is_unique)
    results, failed = validation.validate_rows(suite, rows, _EXTENDED)
    if not failed:
        return results, []
    return results, quarantine.write_bad_rows(lake, quarantine.select_bad_rows(suite, rows, _EXTENDED, failed, day))


def _add_columns(lake: Lake, suite: Suite, rows: Rows, is_unique: bool) -> None:
    """Create the view of the rows with the columns of the suite: links, rows per key, derived columns."""
    links, derived = suite.meta.get("links", {}), suite.meta.get("derived", {})
    if taken := sorted({*links, *derived}.intersection(rows.columns)):
        raise UserError(f"check: {suite.file}: {taken[0]} is a column of {suite.name}; give the added column another name")
    with sql_errors(f"{suite.file}: meta.links"):
        columns = [f"{_link(lake, rows, n, link)} AS {quote_name(name)}" for n, (name, link) in enumerate(links.items())]
        rows.create_view("linked", select(["*", *columns], CHECKED))
    columns = [f"{sql} AS {quote_name(name)}" for name, sql in derived.items()]
    if suite.key:
        # The profiles have shown that no key is there twice, or else each key's rows are counted.
        n_rows = "1" if is_unique else f"count(*) OVER (PARTITION BY {', '.join(map(quote_name, suite.key))})"
        columns.append(f"{n_rows} AS {KEY_COUNT}")
    with sql_errors(f"{suite.file}: meta.derived"):
        rows.create_view(_EXTENDED, select(["*", *columns], "linked"))


def _link(lake: Lake, rows: Rows, n: int, link: dict) -> str:
    """Return what is 1 where the linked table lacks the row's key, 0 where it has it, null where that is not asked."""
    if not lake.count_rows(link["table"]):
        return "NULL::INT"
    view = f"linked_{n}"
    rows.add_table(lake, link["table"], view)
    pairs = [(f"{CHECKED}.{quote_name(own)}", f"{view}.{quote_name(linked)}") for own, linked in link["on"].items()]
    is_asked = " AND ".join([*(f"{own} IS NOT NULL" for own, _ in pairs), f"({link.get('where', 'true')})"])
    is_same = " AND ".join(f"{own} = {linked}" for own, linked in pairs)
    return f"CASE WHEN {is_asked} THEN (NOT EXISTS ({select(['1'], view, is_same)}))::INT END"


def _add_drift(settings: Settings, suite: Suite, rows: Rows, by_day: dict[date, Profile], days: list[date]) -> None:
    """Add the figures of drift to each of these days whose champion kept a profile of its training data."""
    meta = suite.meta["drift"]
    names, vector = (list(catalogue.VECTOR), "vector")
    if (column := meta["column"]) != vector:
        names, vector = [column], f"[{quote_name(column)}]"
    for day in days:
        champion = models.champion(settings.models, day)
        training_profile = models.meta(settings.models, champion["version"]).get("profile") if champion else None
        if training_profile and day in by_day:
            customers = rows.stream(select([vector], CHECKED, f"day = DATE '{day}' AND ({meta['where']})"))
            by_day[day].figures |= drift.drift_figures(customers, names, training_profile)


def _validate_figures(table: TableProfiles) -> list[dict]:
    """Return the results of the expectations on the figures of the checked days."""
    days = [table.by_day[day] for day in table.checked_days]
    figures = [{"rows": float(p.rows), **{name: float(figure) for name, figure in p.figures.items()}} for p in days]
    suite = table.suite
    expectations = [e for expectation in suite.figure_expectations for e in _expand_psi(suite, expectation, figures)]
    return validation.validate_figures(suite, expectations, figures)


def _expand_psi(suite: Suite, expectation: "Expectation", figures: list[dict[str, float]]) -> "list[Expectation]":
    """Return an expectation on `psi` as one on each feature's PSI, where the champion kept a profile."""
    names = sorted({name for row in figures for name in row if name.startswith(f"{PSI}_")})
    if expectation.column != PSI or not names:
        return [expectation]
    config = expectation.configuration.to_json_dict()
    return [suites.create_expectation(suite, config | {"kwargs": config["kwargs"] | {"column": name}}) for name in names]
