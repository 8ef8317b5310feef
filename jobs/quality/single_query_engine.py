"""The engine of Great Expectations for Spark, changed to run one query for a suite.

The library's engine counts the rows first, runs another query for the examples of each expectation on a column, and may
distribute the rest over several queries. This engine is given the row count and asks for no examples. It keeps the
conditions by which the library counts unexpected rows, so that the same conditions can select them.
"""

import json
from collections.abc import Mapping
from typing import Any

from great_expectations.execution_engine import SparkDFExecutionEngine
from great_expectations.expectations.expectation import ColumnMapExpectation
from great_expectations.expectations.registry import get_metric_kwargs
from pyspark.sql import Column


class SingleQueryEngine(SparkDFExecutionEngine):
    """Computes all metrics of a suite in one query; set `n_rows`, the number of rows, before validating."""

    n_rows = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._conditions: dict[str, Column] = {}

    def unexpected(self, expectation: ColumnMapExpectation) -> Column:
        """Return the condition that the unexpected rows of an evaluated expectation fulfil."""
        name = f"{expectation.map_metric}.condition"
        kwargs = get_metric_kwargs(name, expectation.configuration)
        return self._conditions[_condition_key(name, kwargs["metric_domain_kwargs"], kwargs["metric_value_kwargs"])]

    def _process_direct_and_bundled_metric_computation_configurations(
        self, metric_fn_direct_configurations, metric_fn_bundle_configurations
    ):
        """Compute metrics as the library does, without those that need no query; keep the conditions."""
        without_query: dict[Any, Any] = {}

        def needs_query(computation) -> bool:
            metric = computation.metric_configuration
            if metric.metric_name.endswith(".unexpected_values"):
                without_query[metric.id] = []
            elif metric.metric_name == "table.row_count":
                without_query[metric.id] = self.n_rows
            else:
                return True
            return False

        direct = [c for c in metric_fn_direct_configurations if needs_query(c)]
        bundle = [c for c in metric_fn_bundle_configurations if needs_query(c)]
        if without_query or direct:
            bundle = []  # the library asks for them again, with more metrics
        values = super()._process_direct_and_bundled_metric_computation_configurations(direct, bundle)
        for computation in direct:
            metric = computation.metric_configuration
            if metric.metric_name.endswith(".condition"):
                key = _condition_key(metric.metric_name, metric.metric_domain_kwargs, metric.metric_value_kwargs)
                self._conditions[key] = values[metric.id][0]
        return without_query | values


def _condition_key(name: str, domain: Mapping, values: Mapping) -> str:
    columns = {key: value for key, value in domain.items() if key.startswith("column")}
    return json.dumps([name, columns, values], sort_keys=True, default=str)
