"""Great Expectations on the rows of a table and on its figures.

The library says what each expectation must know, its metrics, and decides by the answers. One query of DuckDB gives them all.
"""

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from jobs.errors import UserError
from jobs.quality import _metrics
from jobs.quality._rows import CHECKED, Rows, explain, open_arrow_rows
from jobs.quality.suites import Suite

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.expectations.expectation import Expectation
    from great_expectations.validator.metric_configuration import MetricConfiguration

_ROW_COUNT = "expect_table_row_count_to_be_between"
_SHOWN_DAYS = 10  # days of which a failed figure is shown


@dataclass(frozen=True)
class FailedExpectation:
    """An expectation on rows that failed: its label, its severity, and the condition that its unexpected rows fulfil."""

    label: str
    severity: str
    unexpected: str


def validate_rows(suite: Suite, rows: Rows, view: str = CHECKED) -> tuple[list[dict], list[FailedExpectation]]:
    """Return the result of each expectation on rows, in the columns of quality.results, and those with unexpected rows.

    One query. Raises UserError where an expectation cannot be evaluated.
    """
    if not any(expectation.expectation_type == _ROW_COUNT for expectation in suite.row_expectations):
        raise UserError(f"check: {suite.file} lacks {_ROW_COUNT}; add it, with severity info if any count will do")
    answers = _validate(suite, rows, suite.row_expectations, view, examples=0)
    n_rows = next(a.result["observed_value"] for e, a in answers if e.expectation_type == _ROW_COUNT)
    results, failed = [], []
    for expectation, answer in answers:
        result = _to_result(answer, expectation, n_rows)
        results.append(result)
        if not result["success"] and result["unexpected_count"]:
            failed.append(FailedExpectation(label(result), result["severity"], _unexpected_rows(expectation)))
    return results, failed


def validate_figures(suite: Suite, expectations: "list[Expectation]", figures: list[dict[str, float | None]]) -> list[dict]:
    """Return the result of each expectation on figures, in the columns of quality.results.

    `figures` has one dictionary a day.
    """
    if not expectations:
        return []
    names = sorted({expectation.column for expectation in expectations})
    columns = {name: [row.get(name) for row in figures] for name in names}
    table = pa.table({name: pa.array(values, pa.float64()) for name, values in columns.items()})
    with open_arrow_rows(table) as rows:
        answers = _validate(suite, rows, expectations, CHECKED, examples=_SHOWN_DAYS)
    results = []
    for expectation, answer in answers:
        result = _to_result(answer, expectation, len(figures))
        values = [value for value in columns[expectation.column] if value is not None]
        shown = answer.result.get("partial_unexpected_list") or values[-1:]
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


def _validate(
    suite: Suite, rows: Rows, expectations: "list[Expectation]", view: str, examples: int
) -> "list[tuple[Expectation, ExpectationValidationResult]]":
    """Return each expectation with the library's answer, which has up to so many examples of unexpected values."""
    metrics = {id(expectation): _needed_metrics(expectation, examples) for expectation in expectations}
    try:
        needed = {metric.id: metric for of_expectation in metrics.values() for metric in of_expectation}
        values = _metrics.compute_metrics(rows, list(needed.values()), view, examples)
    except (_metrics.MetricError, duckdb.Error):
        for expectation in expectations:
            _raise_if_failing(suite, rows, expectation, metrics[id(expectation)], view)
        raise
    return [(e, e.metrics_validate(values, _result_format(examples))) for e in expectations]


def _raise_if_failing(
    suite: Suite, rows: Rows, expectation: "Expectation", metrics: "list[MetricConfiguration]", view: str
) -> None:
    """Raise UserError where this expectation alone cannot be evaluated."""
    try:
        _metrics.compute_metrics(rows, metrics, view)
    except (_metrics.MetricError, duckdb.Error) as error:
        reason = explain(error) if isinstance(error, duckdb.Error) else error
        kind, about = expectation.expectation_type, named_columns(expectation)
        place = f"{kind} of {about}" if about else kind
        raise UserError(f"check: {suite.file}: {place} cannot be evaluated on {suite.name}: {reason}") from None


def _needed_metrics(expectation: "Expectation", examples: int) -> "list[MetricConfiguration]":
    dependencies = expectation.get_validation_dependencies(runtime_configuration=_result_format(examples))
    return dependencies.get_metric_configurations()


def _unexpected_rows(expectation: "Expectation") -> str:
    """Return the condition by which the unexpected rows were counted."""
    name = expectation.map_metric
    metric = next(m for m in _needed_metrics(expectation, examples=0) if m.metric_name == f"{name}.unexpected_count")
    return _metrics.unexpected_rows(name, expectation.column, metric.metric_value_kwargs)


def _result_format(examples: int) -> dict:
    return {"result_format": {"result_format": "BASIC", "partial_unexpected_count": examples}}


def _to_result(answer: "ExpectationValidationResult", expectation: "Expectation", rows_checked: int) -> dict:
    config = expectation.configuration
    observed, unexpected = answer.result.get("observed_value"), answer.result.get("unexpected_count")
    return {
        "position": config.meta["position"],
        "expectation": config.type,
        "column": named_columns(expectation),
        "severity": config.severity.value,
        # No rows have no sum or mean; whether there must be rows is for the row count to say.
        "success": bool(answer.success) or (rows_checked == 0 and observed is None and unexpected is None),
        "observed": None if observed is None else _to_text(observed),
        "unexpected_count": unexpected,
        "unexpected_share": None if unexpected is None else unexpected / max(rows_checked, 1),
        "rows_checked": rows_checked,
        "description": config.description,
        "kwargs": json.dumps(config.kwargs, sort_keys=True),
    }


def _to_text(observed: object) -> str:
    """
    >>> _to_text(Decimal("5.0000")), _to_text(7), _to_text(date(2024, 3, 1))
    ('5.0', '7', '2024-03-01')
    """
    if isinstance(observed, date):
        return observed.isoformat()
    return str(float(observed) if isinstance(observed, Decimal) else observed)
