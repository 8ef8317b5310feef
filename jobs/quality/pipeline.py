"""The check of a layer: Great Expectations on the rows that a refresh brought and on their figures.

Writes quality.profiles, quality.quarantine and quality.results, then stops the day where a critical expectation failed.
The expectations are in `expectations/<layer>/<table>.json`; jobs/quality/suites.py says how to read a file.
"""

import os
import time
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING

from jobs import catalogue, flow
from jobs.concurrency import run_in_parallel
from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.progress import log
from jobs.quality import drift, profiles, quarantine, results, suites, validation
from jobs.quality._names import KEY_COUNT, PSI
from jobs.quality.profiles import Profile, TableProfiles
from jobs.quality.suites import Suite
from jobs.storage import models
from jobs.storage.lake import Lake

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class TableCheck:
    """The check of one table's rows, from the day `first` on: results, profiles, and the bad rows, None where there are none."""

    first: date | None
    results: list[dict]
    profiles: TableProfiles
    bad_rows: "DataFrame | None"


def preload() -> None:
    """Import Great Expectations, which takes seconds, in a thread while this process waits for something else."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    Thread(target=import_module, args=("great_expectations",), daemon=True).start()


def run(lake: Lake, settings: Settings, layer: str, days: list[date]) -> None:
    """Check every table of `layer` and write quality.profiles, quality.quarantine and quality.results.

    A table that grows by day is checked from the day after its last check (or the first of `days`, if earlier) to the
    last of `days`; its first check is of all rows up to then. A table without days is checked whole every time.
    Raises UserError for a missing or wrong suite file and, once all results are written, for a failed critical one.
    """
    preload()
    last = days[-1]
    last_checked = results.last_checked_days(lake, last)
    layer_suites = [suites.load_suite(f"{layer}.{table}") for table in flow.CHECKED_TABLES[layer]]
    calls = {
        suite.name: partial(check_table, lake, settings, suite, days, last_checked.get(suite.name)) for suite in layer_suites
    }
    checks = run_in_parallel(calls)
    profiles.add_comparisons(lake, [check.profiles for check in checks.values()])
    rows = [
        {"table": table, "day": last, "first_day": check.first, **result}
        for table, check in checks.items()
        for result in sorted([*check.results, *_validate_figures(check.profiles)], key=lambda result: result["position"])
    ]
    bad_rows = [check.bad_rows for check in checks.values() if check.bad_rows is not None]
    by_table = {table: check.profiles.by_day for table, check in checks.items()}
    run_in_parallel(
        {
            quarantine.TABLE.name: partial(quarantine.write_bad_rows, lake, list(checks), last, bad_rows),
            profiles.TABLE.name: partial(profiles.write_profiles, lake, by_table),
            results.TABLE.name: partial(results.write_results, lake, list(checks), last, rows),
        }
    )
    results.raise_for_critical(rows)


def check_table(lake: Lake, settings: Settings, suite: Suite, days: list[date], last_checked: date | None = None) -> TableCheck:
    """Check the rows of a table that came since its last check.

    Raises UserError where an expectation, figure or column cannot be evaluated.
    """
    started = time.monotonic()
    last = days[-1]
    first = min(days[0], last_checked + timedelta(days=1)) if last_checked and suite.by_day else None
    rows = lake.read(suite.name, first, last if suite.by_day else None)
    by_day = profiles.profile_days(lake, suite, rows, first, last)
    results, bad_rows = check_rows(lake, suite, rows, by_day, last)
    new_days = {day for day in by_day if first and day >= first}
    checked_days = sorted({*days, *new_days} if suite.profile_by_day else {last})
    if "drift" in suite.meta:
        _add_drift(lake, settings, suite, by_day, checked_days)
    failed = sum(not result["success"] for result in results)
    log(
        f"check {suite.name:<28} {results[0]['rows_checked']:>12,} rows {time.monotonic() - started:7.1f} s  "
        f"{len(results)} expectations, {failed} failed"
    )
    return TableCheck(first, results, TableProfiles(suite, by_day, checked_days), bad_rows)


def check_rows(
    lake: Lake, suite: Suite, rows: "DataFrame", by_day: dict[date, Profile], day: date
) -> "tuple[list[dict], DataFrame | None]":
    """Evaluate the expectations on rows, whose profiles are given, in one query.

    Returns the results, and the rows that fail an expectation, None where none does.
    """
    n_rows = sum(profile.rows for profile in by_day.values())
    is_unique = profiles.counts_keys(suite) and n_rows == sum(profile.n_keys for profile in by_day.values())
    extended = _add_columns(lake, suite, rows, is_unique)
    results, failed = validation.validate_rows(suite, extended, n_rows)
    return results, quarantine.select_bad_rows(suite, rows.columns, extended, failed, day) if failed else None


def _add_columns(lake: Lake, suite: Suite, rows: "DataFrame", is_unique: bool) -> "DataFrame":
    """Add the columns of the suite: links, rows per key, derived columns."""
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as F

    for name, link in suite.meta.get("links", {}).items():
        rows = _add_link(lake, rows, name, link)
    columns = {}
    if suite.key:
        # The profiles have shown that no key is there twice, or else each key's rows are counted.
        n_rows = F.lit(1) if is_unique else F.expr(f"count(*) OVER (PARTITION BY {', '.join(suite.key)})")
        columns[KEY_COUNT] = n_rows
    columns |= {name: F.expr(sql) for name, sql in suite.meta.get("derived", {}).items()}
    try:
        return rows.withColumns(columns)
    except AnalysisException as error:
        raise UserError(f"check: {suite.file}: meta.derived: {str(error).splitlines()[0]}") from None


def _add_link(lake: Lake, rows: "DataFrame", name: str, link: dict) -> "DataFrame":
    """Add a column that is 1 where the linked table lacks the row's key, 0 where it has it, null where that is not asked."""
    from pyspark.sql import functions as F

    if not lake.count_rows(link["table"]):
        return rows.withColumn(name, F.lit(None).cast("int"))
    columns = link["on"]
    linked = lake.read(link["table"]).select(*(F.col(linked).alias(own) for own, linked in columns.items()))
    keys = linked.distinct().withColumn("_is_linked", F.lit(True))
    is_asked = F.expr(" AND ".join([f"{own} IS NOT NULL" for own in columns] + [link.get("where", "true")]))
    is_missing = F.when(is_asked, F.col("_is_linked").isNull().cast("int"))
    return rows.join(keys, list(columns), "left").withColumn(name, is_missing).drop("_is_linked")


def _add_drift(lake: Lake, settings: Settings, suite: Suite, by_day: dict[date, Profile], days: list[date]) -> None:
    """Add the figures of drift to each of these days whose champion kept a profile of its training data."""
    meta = suite.meta["drift"]
    names, vector = (list(catalogue.VECTOR), "vector")
    if (column := meta["column"]) != vector:
        names, vector = [column], f"array({column}) AS vector"
    for day in days:
        champion = models.champion(settings.models, day)
        training_profile = models.meta(settings.models, champion["version"]).get("profile") if champion else None
        if training_profile and day in by_day:
            customers = lake.read(suite.name, day, day).where(meta["where"]).selectExpr(vector)
            by_day[day].figures |= drift.drift_figures(customers, names, training_profile)


def _validate_figures(table: TableProfiles) -> list[dict]:
    """Return the results of the expectations on the figures of the checked days."""
    days = [table.by_day[day] for day in table.checked_days]
    figures = [{"rows": float(p.rows), **{name: float(figure) for name, figure in p.figures.items()}} for p in days]
    suite = table.suite
    expectations = [e for expectation in suite.figure_expectations for e in _expand_psi(suite, expectation, figures)]
    return validation.validate_figures(suite, expectations, figures) if expectations else []


def _expand_psi(suite: Suite, expectation: "Expectation", figures: list[dict[str, float]]) -> "list[Expectation]":
    """Return an expectation on `psi` as one on each feature's PSI, where the champion kept a profile."""
    names = sorted({name for row in figures for name in row if name.startswith(f"{PSI}_")})
    if expectation.column != PSI or not names:
        return [expectation]
    config = expectation.configuration.to_json_dict()
    return [suites.create_expectation(suite, config | {"kwargs": config["kwargs"] | {"column": name}}) for name in names]
