"""Great Expectations on the rows of a table and on its figures; the only module that knows how the library works inside."""

import json
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from jobs.errors import UserError
from jobs.quality.suites import Suite

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation
    from pyspark.sql import Column, DataFrame

_SETTING_UP = Lock()  # the library keeps its current context in one place for all threads
_ROW_COUNT = "expect_table_row_count_to_be_between"
_FEW = 10  # days of which a failed figure is shown


@dataclass(frozen=True)
class Broken:
    """A failed expectation on rows: what it is called, how severe it is, and which rows are against it."""

    label: str
    severity: str
    unexpected: "Column"


def of_rows(suite: Suite, rows: "DataFrame", n_rows: int) -> tuple[list[dict], list[Broken]]:
    """What came of each expectation on these rows, as rows of quality.results; and those that rows are against.

    `n_rows` is the number of rows. One Spark query. Raises UserError where an expectation cannot be evaluated on them.
    """
    if not any(expectation.expectation_type == _ROW_COUNT for expectation in suite.of_rows):
        raise UserError(f"check: {suite.file} lacks {_ROW_COUNT}; add it, with severity info if any count will do")
    with _SETTING_UP:
        source = _context().data_sources.add_or_update_spark(suite.name, persist=False)
        batch = _batch(source, rows)
    engine = batch.data.execution_engine
    engine.n_rows = n_rows
    answers = _answers(suite, batch, suite.of_rows, examples=0)
    results = [_result(answer, n_rows) for answer in answers]
    by_position = {expectation.meta["position"]: expectation for expectation in suite.of_rows}
    broken = [
        Broken(label(result), result["severity"], engine.unexpected(by_position[result["position"]]))
        for result in results
        if not result["success"] and result["unexpected_count"]
    ]
    return results, broken


def of_figures(suite: Suite, expectations: "list[Expectation]", figures: list[dict[str, float | None]]) -> list[dict]:
    """What came of each expectation on figures, one dictionary a day, as rows of quality.results. No Spark query."""
    import pandas

    names = sorted({expectation.column for expectation in expectations})
    frame = pandas.DataFrame({name: [row.get(name) for row in figures] for name in names}, dtype="float64")
    with _SETTING_UP:
        batch = _batch(_context().data_sources.add_or_update_pandas(f"{suite.name} figures"), frame)
    results = []
    for answer in _answers(suite, batch, expectations, examples=_FEW):
        result, column = _result(answer, len(figures)), answer["expectation_config"]["kwargs"]["column"]
        values = [value for value in frame[column].tolist() if value == value]  # those that are a number
        shown = answer["result"].get("partial_unexpected_list") or values[-1:]
        if not values:
            result |= {"success": True, "severity": "info"}
        results.append(result | {"observed": ", ".join(f"{v:.6g}" for v in shown) or "not known", "unexpected_share": None})
    return results


def label(result: dict) -> str:
    """An expectation in a few words: its column, and its description or type."""
    words = result["description"] or result["expectation"]
    return f"{result['column']}: {words}" if result["column"] else words


def _batch(source: Any, frame: Any) -> Any:
    definition = source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("rows")
    return definition.get_batch({"dataframe": frame})


def _answers(suite: Suite, batch: Any, expectations: "list[Expectation]", examples: int) -> list[dict]:
    import great_expectations as gx

    asked = gx.ExpectationSuite(name=suite.name, expectations=expectations)
    form = {"result_format": "BASIC", "partial_unexpected_count": examples}
    answers = [answer.to_json_dict() for answer in batch.validate(asked, result_format=form).results]
    for answer in answers:
        message = _exception(answer["exception_info"])
        if message:
            kind = answer["expectation_config"]["type"]
            raise UserError(f"check: {suite.file}: {kind} cannot be evaluated on {suite.name}: {message}")
    return sorted(answers, key=lambda answer: answer["expectation_config"]["meta"]["position"])


def _exception(info: dict) -> str | None:
    """The message of what an expectation raised: the library gives one report, or one for each metric by its id."""
    reports = [info] if "raised_exception" in info else info.values()
    return next((report["exception_message"].splitlines()[0] for report in reports if report["raised_exception"]), None)


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


@cache
def _context():
    import great_expectations as gx
    from great_expectations.datasource.fluent import SparkDatasource

    SparkDatasource.execution_engine_override = _one_query()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def _one_query() -> type:
    """The library's engine for Spark, with one query for a suite.

    Its own counts the rows first, has a query for each expectation on a column besides, for the examples of which none
    are wanted, and may spread the rest over several. This one is told the row count, and keeps the conditions by which
    the library counts unexpected rows, so that the rows can be found by the very same.
    """
    from great_expectations.execution_engine import SparkDFExecutionEngine
    from great_expectations.expectations.registry import get_metric_kwargs

    class OneQuery(SparkDFExecutionEngine):
        n_rows = 0

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._unexpected = {}

        def unexpected(self, expectation: "Expectation") -> "Column":
            """The rows against an expectation that was evaluated."""
            name = f"{expectation.map_metric}.condition"
            asked = get_metric_kwargs(name, expectation.configuration)
            return self._unexpected[_condition(name, asked["metric_domain_kwargs"], asked["metric_value_kwargs"])]

        def _process_direct_and_bundled_metric_computation_configurations(
            self, metric_fn_direct_configurations, metric_fn_bundle_configurations
        ):
            known = {}

            def to_ask(configurations):
                for asked in configurations:
                    metric = asked.metric_configuration
                    if metric.metric_name.endswith(".unexpected_values"):
                        known[metric.id] = []
                    elif metric.metric_name == "table.row_count":
                        known[metric.id] = self.n_rows
                    else:
                        yield asked

            direct, bundle = [*to_ask(metric_fn_direct_configurations)], [*to_ask(metric_fn_bundle_configurations)]
            if known or direct:
                bundle = []  # it is asked for again, with more
            found = super()._process_direct_and_bundled_metric_computation_configurations(direct, bundle)
            for asked in direct:
                metric = asked.metric_configuration
                if metric.metric_name.endswith(".condition"):
                    key = _condition(metric.metric_name, metric.metric_domain_kwargs, metric.metric_value_kwargs)
                    self._unexpected[key] = found[metric.id][0]
            return known | found

    return OneQuery


def _condition(name: str, domain: dict, values: dict) -> str:
    columns = {key: value for key, value in domain.items() if key.startswith("column")}
    return json.dumps([name, columns, values], sort_keys=True, default=str)
