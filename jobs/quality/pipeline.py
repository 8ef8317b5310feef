"""The check of a layer: Great Expectations on the rows that a refresh brought and on their figures.

Writes quality.profiles, quality.quarantine and quality.results, then stops the day where a critical expectation failed.
What is expected stands in `expectations/<layer>/<table>.json`; jobs/quality/suites.py says how to read one.
"""

import os
import time
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING

import pyarrow.dataset as ds

from jobs import catalogue, flow
from jobs.concurrency import run_in_parallel
from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.progress import log
from jobs.quality import drift, profiles, quarantine, suites, validation
from jobs.quality.profiles import Profile
from jobs.quality.suites import PSI, Suite
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.storage.table import Table

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation
    from pyspark.sql import DataFrame

SCHEMA = """
    `table` STRING NOT NULL COMMENT 'table that was checked',
    day DATE NOT NULL COMMENT 'last day of the refresh that was checked',
    position INT NOT NULL COMMENT 'place of the expectation in its suite, from 1; one place may speak of several figures',
    expectation STRING NOT NULL COMMENT 'type of the expectation, as Great Expectations names it',
    `column` STRING COMMENT 'column, columns or figure it is about; null where it is about the whole table',
    severity STRING NOT NULL COMMENT 'critical stops the day, warning is logged, info only observes',
    success BOOLEAN NOT NULL COMMENT 'whether the rows are as expected',
    observed STRING COMMENT 'what was found, where the expectation is about one figure; or: not known',
    unexpected_count BIGINT COMMENT 'rows, or days of a figure, that are not as expected; null where it is about one figure',
    unexpected_share DOUBLE COMMENT 'unexpected_count by rows checked, 0 to 1; null for figures',
    rows_checked BIGINT NOT NULL COMMENT 'rows, or days of a figure, that were checked',
    first_day DATE COMMENT 'first day whose rows were checked; null: all up to day, or the whole table',
    description STRING COMMENT 'what is expected, in words, where the type does not say it',
    kwargs STRING NOT NULL COMMENT 'arguments of the expectation, JSON'"""
TABLE = Table("quality.results", "One row per expectation of a suite and day on which it was run.", SCHEMA)


@dataclass(frozen=True)
class Checked:
    """What one table's rows and figures showed: results, profiles by day, which of those to judge, and the bad rows."""

    suite: Suite
    first: date | None
    results: list[dict]
    profiles: dict[date, Profile]
    judged: list[date]
    bad_rows: "DataFrame | None"


def preload() -> None:
    """Begin to import Great Expectations, which takes seconds, beside whatever else this process waits for."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    Thread(target=import_module, args=("great_expectations",), daemon=True).start()


def run(lake: Lake, settings: Settings, layer: str, days: list[date]) -> None:
    """Check every table of `layer` and write quality.results.

    A table that grows by day is checked from the day after its last check (or the first of `days`, if earlier) to the
    last of `days`; its first check is of all rows up to then. A table without days is checked whole every time.
    Raises UserError for a missing or wrong suite file and, once all results are written, for a failed critical one.
    """
    preload()
    last = days[-1]
    earlier = _last_checks(lake, last)
    loaded = [suites.load(f"{layer}.{table}") for table in flow.TABLES[layer]]
    calls = {suite.name: partial(checked, lake, settings, suite, days, earlier.get(suite.name)) for suite in loaded}
    tables = list(run_in_parallel(calls).values())
    profiles.compare(lake, [(one.suite, one.profiles, one.judged) for one in tables])
    results = [
        {"table": one.suite.name, "day": last, "first_day": one.first, **result}
        for one in tables
        for result in sorted([*one.results, *_of_figures(one)], key=lambda result: result["position"])
    ]
    frame = lake.spark.createDataFrame([tuple(result[c] for c in TABLE.columns) for result in results], SCHEMA)
    names = [suite.name for suite in loaded]
    listed = ", ".join(f"'{name}'" for name in names)
    bad = [one.bad_rows for one in tables if one.bad_rows is not None]
    run_in_parallel(
        {
            quarantine.TABLE.name: partial(quarantine.record, lake, names, last, bad),
            profiles.TABLE.name: partial(profiles.record, lake, {one.suite.name: one.profiles for one in tables}),
            TABLE.name: partial(lake.replace, TABLE, frame.coalesce(1), f"day = DATE'{last}' AND table IN ({listed})"),
        }
    )
    _judge(results)


def checked(lake: Lake, settings: Settings, suite: Suite, days: list[date], before: date | None = None) -> Checked:
    """Look at the rows of a table that came since its last check, on the day `before`.

    Raises UserError where an expectation, figure or column cannot be evaluated.
    """
    started = time.monotonic()
    last = days[-1]
    first = min(days[0], before + timedelta(days=1)) if before and suite.by_day else None
    rows = lake.read(suite.name, first, last if suite.by_day else None)
    found = profiles.measured(lake, suite, rows, first, last)
    results, bad_rows = examined(lake, suite, rows, found, last)
    since = {day for day in found if first and day >= first}
    judged = sorted({*days, *since} if suite.profile_by_day else {last})
    if "drift" in suite.meta:
        _add_drift(lake, settings, suite, found, judged)
    failed = sum(not result["success"] for result in results)
    log(
        f"check {suite.name:<28} {results[0]['rows_checked']:>12,} rows {time.monotonic() - started:7.1f} s  "
        f"{len(results)} expectations, {failed} failed"
    )
    return Checked(suite, first, results, found, judged, bad_rows)


def examined(
    lake: Lake, suite: Suite, rows: "DataFrame", found: dict[date, Profile], last: date
) -> "tuple[list[dict], DataFrame | None]":
    """All that is expected of rows, in one query, given their profiles; and the rows behind what failed, if anything did."""
    n_rows = sum(profile.rows for profile in found.values())
    is_unique = profiles.keyed(suite) and n_rows == sum(profile.n_keys for profile in found.values())
    wide = _with_columns(lake, suite, rows, is_unique)
    results, broken = validation.of_rows(suite, wide, n_rows)
    return results, quarantine.bad_rows(suite, rows.columns, wide, broken, last) if broken else None


def _with_columns(lake: Lake, suite: Suite, rows: "DataFrame", is_unique: bool) -> "DataFrame":
    """The rows with the columns that the suite makes: copies, links, derived."""
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as F

    for name, link in suite.meta.get("links", {}).items():
        ours = list(link["on"])
        if not lake.count_rows(link["table"]):
            rows = rows.withColumn(name, F.lit(None).cast("int"))
            continue
        theirs = lake.read(link["table"]).select(*(F.col(column).alias(own) for own, column in link["on"].items()))
        known = theirs.distinct().withColumn("_known", F.lit(True))
        concerned = F.expr(" AND ".join([f"{column} IS NOT NULL" for column in ours] + [link.get("where", "true")]))
        missing = F.when(concerned, F.col("_known").isNull().cast("int"))
        rows = rows.join(known, ours, "left").withColumn(name, missing).drop("_known")
    # that no key is there twice is known without looking at each row's
    copies = F.lit(1) if is_unique else F.expr(f"count(*) OVER (PARTITION BY {', '.join(suite.key)})")
    derived = {name: F.expr(sql) for name, sql in suite.meta.get("derived", {}).items()}
    try:
        return rows.withColumns(({suites.COPIES: copies} if suite.key else {}) | derived)
    except AnalysisException as error:
        raise UserError(f"check: {suite.file}: meta.derived: {str(error).splitlines()[0]}") from None


def _add_drift(lake: Lake, settings: Settings, suite: Suite, found: dict[date, Profile], judged: list[date]) -> None:
    """Add the figures of drift to each judged day whose champion kept a profile of its training data."""
    meta = suite.meta["drift"]
    names, vector = (list(catalogue.VECTOR), "vector")
    if (column := meta["column"]) != vector:
        names, vector = [column], f"array({column}) AS vector"
    for day in judged:
        champion = models.champion(settings.models, day)
        trained_on = models.meta(settings.models, champion["version"]).get("profile") if champion else None
        if trained_on and day in found:
            customers = lake.read(suite.name, day, day).where(meta["where"]).selectExpr(vector)
            found[day].figures |= drift.of(customers, names, trained_on)


def _of_figures(one: Checked) -> list[dict]:
    """What came of the expectations on the figures of the judged days."""
    figures = [{"rows": float(p.rows), **{n: float(f) for n, f in p.figures.items()}} for p in map(one.profiles.get, one.judged)]
    expectations = [each for expectation in one.suite.of_figures for each in _by_feature(one.suite, expectation, figures)]
    return validation.of_figures(one.suite, expectations, figures) if expectations else []


def _by_feature(suite: Suite, expectation: "Expectation", figures: list[dict[str, float]]) -> "list[Expectation]":
    """An expectation on `psi` is one on every feature's, where the champion kept a profile."""
    names = sorted({name for row in figures for name in row if name.startswith(f"{PSI}_")})
    if expectation.column != PSI or not names:
        return [expectation]
    config = expectation.configuration.to_json_dict()
    return [suites.made(suite, config | {"kwargs": config["kwargs"] | {"column": name}}) for name in names]


def _last_checks(lake: Lake, day: date) -> dict[str, date]:
    """The last day before `day` for which each table was checked, so that a rerun checks the same rows again."""
    checked = lake.count_by(TABLE.name, ["table", "day"], ds.field("day") < day)
    return dict(sorted(checked))  # of a table's days the last stays


def _judge(results: list[dict]) -> None:
    """Log failed warnings; raise UserError for failed criticals."""
    failed = [result for result in results if not result["success"]]
    for result in failed:
        if result["severity"] == "warning":
            log(f"warn  {_told(result)}")
    critical = [result for result in failed if result["severity"] == "critical"]
    if critical:
        others = f" ({len(critical) - 1} more)" if len(critical) > 1 else ""
        of_rows = "; the rows are in quality.quarantine" if critical[0]["unexpected_share"] else ""
        raise UserError(f"check: {_told(critical[0])}{others}; see quality.results{of_rows}")


def _told(result: dict) -> str:
    about = f"{result['column']}: " if result["column"] else ""
    words = f" ({result['description']})" if result["description"] else ""
    if result["unexpected_share"] is None:
        found = f"observed {result['observed']}"
    else:
        found = f"{result['unexpected_count']:,} of {result['rows_checked']:,} rows unexpected"
    return f"{result['table']}, day {result['day']}: {about}{result['expectation']}{words}: {found}, {result['kwargs']}"
