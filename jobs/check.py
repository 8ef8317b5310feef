"""The check of a layer: Great Expectations on the rows that a refresh brought, written to quality.results.

A suite lies in `expectations/<layer>/<table>.json` in the form in which the library stores suites. Its `meta.rows` says
which rows it is about: `days` for a table that grows by day, `table` for one that is always written whole; and
`meta.derived` names columns by SQL, windows included, that are added to the rows before the suite sees them: how often
a key occurs, or what two columns say of each other. So all that is expected of a table is answered by one pass.
"""

import json
import os
import time
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, partial
from importlib import import_module
from threading import Lock, Thread
from typing import TYPE_CHECKING

import pyarrow.dataset as ds

from jobs import flow
from jobs.errors import UserError
from jobs.lake import Lake, Table, log, side_by_side
from jobs.settings import HOME, Settings

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from pyspark.sql import DataFrame

SUITES = HOME / "expectations"
SCHEMA = """
    `table` STRING NOT NULL COMMENT 'table that was checked',
    day DATE NOT NULL COMMENT 'last day of the refresh that was checked',
    position INT NOT NULL COMMENT 'place of the expectation in its suite, from 1',
    expectation STRING NOT NULL COMMENT 'type of the expectation, as Great Expectations names it',
    `column` STRING COMMENT 'column or columns it is about; null where it is about the whole table',
    severity STRING NOT NULL COMMENT 'critical stops the day, warning is logged, info only observes',
    success BOOLEAN NOT NULL COMMENT 'whether the rows are as expected',
    observed STRING COMMENT 'what was found, where the expectation is about one figure',
    unexpected_count BIGINT COMMENT 'rows that are not as expected; null where it is about one figure',
    unexpected_share DOUBLE COMMENT 'unexpected_count by rows checked, 0 to 1',
    rows_checked BIGINT NOT NULL COMMENT 'rows that were checked',
    first_day DATE COMMENT 'first day whose rows were checked; null: all up to day, or the whole table',
    description STRING COMMENT 'what is expected, in words, where the type does not say it',
    kwargs STRING NOT NULL COMMENT 'arguments of the expectation, JSON'"""
TABLE = Table("quality.results", "One row per expectation of a suite and day on which it was run.", SCHEMA)

# Counts without examples, see _two_queries.
_COUNTS = {"result_format": "BASIC", "partial_unexpected_count": 0}
_SETTING_UP = Lock()  # the library keeps its current context in one place for all threads
_ROW_COUNT = "expect_table_row_count_to_be_between"


@dataclass(frozen=True)
class Suite:
    """A suite file: the library's suite with each expectation's place in `meta.position`, and the rows it is about."""

    name: str
    file: str
    by_day: bool
    derived: dict[str, str]
    suite: "ExpectationSuite"


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
    suites = [load(f"{layer}.{table}") for table in flow.TABLES[layer]]

    def checked(suite: Suite) -> list[dict]:
        started = time.monotonic()
        before = earlier.get(suite.name)
        first = min(days[0], before + timedelta(days=1)) if before and suite.by_day else None
        rows = lake.read(suite.name, first, last if suite.by_day else None)
        found = [{"table": suite.name, "day": last, "first_day": first, **result} for result in validated(suite, rows)]
        failed = sum(not result["success"] for result in found)
        log(
            f"check {suite.name:<28} {found[0]['rows_checked']:>12,} rows {time.monotonic() - started:7.1f} s  "
            f"{len(found)} expectations, {failed} failed"
        )
        return found

    by_table = side_by_side({suite.name: partial(checked, suite) for suite in suites})
    results = [result for found in by_table.values() for result in found]
    frame = lake.spark.createDataFrame([tuple(result[c] for c in TABLE.columns) for result in results], SCHEMA)
    names = ", ".join(f"'{suite.name}'" for suite in suites)
    lake.replace(TABLE, frame.coalesce(1), f"day = DATE'{last}' AND table IN ({names})")
    _judge(results)


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
    about = raw.get("meta", {}).get("rows")
    if about not in ("days", "table"):
        raise UserError(f"check: {file}: meta.rows is {about!r}; write 'days' or 'table'")
    if not raw.get("expectations"):
        raise UserError(f"check: {file} has no expectations; state at least one")
    import great_expectations as gx
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    made = []
    for position, one in enumerate(raw["expectations"], start=1):
        placed = {**one, "meta": {**(one.get("meta") or {}), "position": position}}
        try:
            # one by one: given to a suite as it is, a wrong entry would be logged and left out
            made.append(ExpectationConfiguration(**placed).to_domain_obj())
        except Exception as error:  # whatever the library, or pydantic under it, finds wrong with the entry
            reason = " ".join(str(error).split())
            raise UserError(f"check: {file}: expectation {position}, type {one.get('type')!r}: {reason}") from None
    suite = gx.ExpectationSuite(name=raw.get("name", name), expectations=made, meta=raw["meta"])
    return Suite(name, file, about == "days", raw["meta"].get("derived", {}), suite)


def validated(suite: Suite, rows: "DataFrame") -> list[dict]:
    """What came of each expectation on these rows, in the order of the suite: quality.results from `position` on.

    Raises UserError where an expectation or a derived column cannot be evaluated on them.
    """
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as F

    try:
        rows = rows.withColumns({name: F.expr(sql) for name, sql in suite.derived.items()})
    except AnalysisException as error:
        raise UserError(f"check: {suite.file}: meta.derived: {str(error).splitlines()[0]}") from None
    with _SETTING_UP:
        source = _context().data_sources.add_or_update_spark(suite.name, persist=False)
        definition = source.add_dataframe_asset(suite.name).add_batch_definition_whole_dataframe("rows")
        batch = definition.get_batch({"dataframe": rows})
    found = [answer.to_json_dict() for answer in batch.validate(suite.suite, result_format=_COUNTS).results]
    found.sort(key=lambda answer: answer["expectation_config"]["meta"]["position"])
    for answer in found:
        message = _exception(answer["exception_info"])
        if message:
            kind = answer["expectation_config"]["type"]
            raise UserError(f"check: {suite.file}: {kind} cannot be evaluated on {suite.name}: {message}")
    counts = [a["result"]["observed_value"] for a in found if a["expectation_config"]["type"] == _ROW_COUNT]
    if not counts:
        raise UserError(f"check: {suite.file} lacks {_ROW_COUNT}; add it, with severity info if any count will do")
    return [_result(answer, counts[0]) for answer in found]


@cache
def _context():
    import great_expectations as gx
    from great_expectations.datasource.fluent import SparkDatasource

    SparkDatasource.execution_engine_override = _two_queries()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def _two_queries() -> type:
    """The library's engine for Spark, with two queries for a suite: the row count, which it wants first, and all else.

    Its own has a query for each expectation on a column besides, for the examples of which none are wanted, and may
    spread the rest over several.
    """
    from great_expectations.execution_engine import SparkDFExecutionEngine

    class TwoQueries(SparkDFExecutionEngine):
        def _process_direct_and_bundled_metric_computation_configurations(
            self, metric_fn_direct_configurations, metric_fn_bundle_configurations
        ):
            examples, direct = {}, []
            for asked in metric_fn_direct_configurations:
                metric = asked.metric_configuration
                if metric.metric_name.endswith(".unexpected_values"):
                    examples[metric.id] = []
                else:
                    direct.append(asked)
            # what is not answered now is asked for again, with more to bundle
            bundle = [] if direct else metric_fn_bundle_configurations
            return examples | super()._process_direct_and_bundled_metric_computation_configurations(direct, bundle)

    return TwoQueries


def _result(answer: dict, rows_checked: int) -> dict:
    config, result = answer["expectation_config"], answer["result"]
    kwargs = {name: value for name, value in config["kwargs"].items() if name != "batch_id"}
    observed, unexpected = result.get("observed_value"), result.get("unexpected_count")
    return {
        "position": config["meta"]["position"],
        "expectation": config["type"],
        "column": kwargs.get("column"),
        "severity": config["severity"],
        # no rows have no sum or mean; whether there must be rows is the row count's to say
        "success": answer["success"] or (rows_checked == 0 and observed is None and unexpected is None),
        "observed": None if observed is None else str(observed),
        "unexpected_count": unexpected,
        "unexpected_share": None if unexpected is None else unexpected / max(rows_checked, 1),
        "rows_checked": rows_checked,
        "description": config.get("description"),
        "kwargs": json.dumps(kwargs, sort_keys=True),
    }


def _exception(info: dict) -> str | None:
    """The message of what an expectation raised: the library gives one report, or one for each metric by its id."""
    reports = [info] if "raised_exception" in info else info.values()
    return next((report["exception_message"].splitlines()[0] for report in reports if report["raised_exception"]), None)


def _last_checks(lake: Lake, day: date) -> dict[str, date]:
    """The last day before `day` for which each table was checked, so that a rerun checks the same rows again."""
    checked = lake.count(TABLE.name, ["table", "day"], ds.field("day") < day)
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
        raise UserError(f"check: {_told(critical[0])}{others}; see quality.results")


def _told(result: dict) -> str:
    about = f"{result['column']}: " if result["column"] else ""
    words = f" ({result['description']})" if result["description"] else ""
    if result["unexpected_count"] is None:
        found = f"observed {result['observed']}"
    else:
        found = f"{result['unexpected_count']:,} of {result['rows_checked']:,} rows unexpected"
    return f"{result['table']}, day {result['day']}: {about}{result['expectation']}{words}: {found}, {result['kwargs']}"
