"""Great Expectations on the rows of a table and on its figures."""

import json
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from jobs.errors import UserError, hide_values
from jobs.quality.suites import Suite

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation
    from pyspark.sql import Column, DataFrame

_CONTEXT_LOCK = Lock()  # the library keeps its current context in one place for all threads
_ROW_COUNT = "expect_table_row_count_to_be_between"
_SHOWN_DAYS = 10  # days of which a failed figure is shown


@dataclass(frozen=True)
class FailedExpectation:
    """An expectation on rows that failed: its label, its severity, and the condition that its unexpected rows fulfil."""

    label: str
    severity: str
    unexpected: "Column"


def validate_rows(suite: Suite, rows: "DataFrame", n_rows: int) -> tuple[list[dict], list[FailedExpectation]]:
    """Return the result of each expectation on rows, in the columns of quality.results, and those with unexpected rows.

    `n_rows` is the number of rows. One Spark query. Raises UserError where an expectation cannot be evaluated on them.
    """
    if not any(expectation.expectation_type == _ROW_COUNT for expectation in suite.row_expectations):
        raise UserError(f"check: {suite.file} lacks {_ROW_COUNT}; add it, with severity info if any count will do")
    with _CONTEXT_LOCK:
        source = _context().data_sources.add_or_update_spark(suite.name, persist=False)
        batch = _batch(source, rows)
    engine = batch.data.execution_engine
    engine.n_rows = n_rows
    by_position = {expectation.meta["position"]: expectation for expectation in suite.row_expectations}
    answers = _validate(suite, batch, suite.row_expectations, examples=0)
    results = [_to_result(answer, by_position[_position(answer)], n_rows) for answer in answers]
    failed = [
        FailedExpectation(label(result), result["severity"], engine.unexpected(by_position[result["position"]]))
        for result in results
        if not result["success"] and result["unexpected_count"]
    ]
    return results, failed


def validate_figures(suite: Suite, expectations: "list[Expectation]", figures: list[dict[str, float | None]]) -> list[dict]:
    """Return the result of each expectation on figures, in the columns of quality.results.

    `figures` has one dictionary a day. The library's pandas engine evaluates them, without a Spark query.
    """
    import pandas

    names = sorted({expectation.column for expectation in expectations})
    frame = pandas.DataFrame({name: [row.get(name) for row in figures] for name in names}, dtype="float64")
    with _CONTEXT_LOCK:
        batch = _batch(_context().data_sources.add_or_update_pandas(f"{suite.name} figures"), frame)
    # one place may have an expectation for each of several figures
    by_figure = {(e.meta["position"], e.configuration.kwargs.get("column")): e for e in expectations}
    results = []
    for answer in _validate(suite, batch, expectations, examples=_SHOWN_DAYS):
        expectation = by_figure[_position(answer), answer["expectation_config"]["kwargs"].get("column")]
        result = _to_result(answer, expectation, len(figures))
        values = [value for value in frame[expectation.column].tolist() if value == value]  # without NaN
        shown = answer["result"].get("partial_unexpected_list") or values[-1:]
        if not values:
            result |= {"success": True, "severity": "info"}
        results.append(result | {"observed": ", ".join(f"{v:.6g}" for v in shown) or "not known", "unexpected_share": None})
    return results


def label(result: dict) -> str:
    """Return an expectation in a few words: its column, and its description or type."""
    words = result["description"] or result["expectation"]
    return f"{result['column']}: {words}" if result["column"] else words


def named_columns(expectation: "Expectation") -> str | None:
    """Return the columns, column or figure that an expectation is about; None where it is about the whole table."""
    columns = getattr(expectation, "columns", None)
    return ", ".join(columns) if columns else getattr(expectation, "column", None)


def _batch(source: Any, frame: Any) -> Any:
    definition = source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("rows")
    return definition.get_batch({"dataframe": frame})


def _validate(suite: Suite, batch: Any, expectations: "list[Expectation]", examples: int) -> list[dict]:
    """Return the library's answers in the order of the suite, each with up to this many examples of unexpected values."""
    import great_expectations as gx

    library_suite = gx.ExpectationSuite(name=suite.name, expectations=expectations)
    result_format = {"result_format": "BASIC", "partial_unexpected_count": examples}
    answers = [answer.to_json_dict() for answer in batch.validate(library_suite, result_format=result_format).results]
    for answer in answers:
        message = _exception_message(answer["exception_info"])
        if message:
            kind = answer["expectation_config"]["type"]
            raise UserError(f"check: {suite.file}: {kind} cannot be evaluated on {suite.name}: {message}")
    return sorted(answers, key=_position)


def _position(answer: dict) -> int:
    return answer["expectation_config"]["meta"]["position"]


def _exception_message(info: dict) -> str | None:
    """Return what an expectation raised: the library gives one report, or one for each metric by its id."""
    reports = [info] if "raised_exception" in info else info.values()
    return next(
        (hide_values(report["exception_message"]).splitlines()[0] for report in reports if report["raised_exception"]), None
    )


def _to_result(answer: dict, expectation: "Expectation", rows_checked: int) -> dict:
    config, result = answer["expectation_config"], answer["result"]
    kwargs = {name: value for name, value in config["kwargs"].items() if name != "batch_id"}
    observed, unexpected = result.get("observed_value"), result.get("unexpected_count")
    return {
        "position": _position(answer),
        "expectation": config["type"],
        "column": named_columns(expectation),
        "severity": config["severity"],
        # No rows have no sum or mean; whether there must be rows is for the row count to say.
        "success": answer["success"] or (rows_checked == 0 and observed is None and unexpected is None),
        "observed": None if observed is None else str(observed),
        "unexpected_count": unexpected,
        "unexpected_share": None if unexpected is None else unexpected / max(rows_checked, 1),
        "rows_checked": rows_checked,
        "description": config.get("description"),
        "kwargs": json.dumps(kwargs, sort_keys=True),
    }


@cache
def _context():
    import great_expectations as gx
    from great_expectations.datasource.fluent import SparkDatasource

    from jobs.quality.single_query_engine import SingleQueryEngine

    SparkDatasource.execution_engine_override = SingleQueryEngine
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context
