"""quality.quarantine: one row per row that fails an expectation, as text, so that a person sees what is wrong.

The rows stay in their table as well. They are selected by the conditions by which Great Expectations counted them, in one
pass over a table's rows, and only where an expectation failed. They never come to the driver.
"""

from datetime import date
from functools import reduce

import pyarrow.dataset as ds
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.quality.suites import Suite
from jobs.quality.validation import FailedExpectation
from jobs.storage.lake import Lake, union_all
from jobs.storage.table import Table

SCHEMA = """
    `table` STRING NOT NULL COMMENT 'table that was checked',
    day DATE NOT NULL COMMENT 'last day of the refresh that was checked',
    row STRING NOT NULL COMMENT 'the row, JSON, without personal columns',
    expectations ARRAY<STRING> NOT NULL COMMENT 'the expectations it fails: column, and description or type',
    severity STRING NOT NULL COMMENT 'the worst of theirs: critical, warning or info'"""
TABLE = Table("quality.quarantine", "One row per row that fails an expectation.", SCHEMA)
_SEVERITIES = ("critical", "warning", "info")


def select_bad_rows(suite: Suite, columns: list[str], rows: DataFrame, failed: list[FailedExpectation], day: date) -> DataFrame:
    """Return the rows that fail any of these expectations, in the shape of the table.

    `rows` has the columns that the suite adds; `columns` are those of the checked table itself.
    """
    public = [column for column in columns if column not in suite.meta.get("personal", [])]
    labels = F.array(*(F.when(expectation.unexpected, F.lit(expectation.label)) for expectation in failed))
    # Columns first, then a filter: an expectation may look at other rows, which a filter cannot.
    marked = rows.withColumns({f"_{severity}": _fails_any(failed, severity) for severity in _SEVERITIES})
    marked = marked.withColumn("_labels", F.array_compact(labels)).where(F.size("_labels") > 0)
    worst = F.when(F.col("_critical"), "critical").when(F.col("_warning"), "warning").otherwise("info")
    return marked.select(
        F.lit(suite.name).alias("table"),
        F.lit(day).alias("day"),
        F.to_json(F.struct(*public), {"ignoreNullFields": "false"}).alias("row"),
        F.col("_labels").alias("expectations"),
        worst.alias("severity"),
    )


def _fails_any(failed: list[FailedExpectation], severity: str) -> Column:
    """Whether a row fails an expectation of this severity; a condition that is null does not fail."""
    conditions = (F.coalesce(e.unexpected, F.lit(False)) for e in failed if e.severity == severity)
    return reduce(lambda a, b: a | b, conditions, F.lit(False))


def write_bad_rows(lake: Lake, tables: list[str], day: date, bad_rows: list[DataFrame]) -> None:
    """Replace the bad rows of `tables` on the day, in one commit; write nothing where there are none, before and now."""
    n_before = lake.count_by(TABLE.name, ["table"], (ds.field("day") == day) & ds.field("table").isin(tables))
    if bad_rows or n_before:
        names = ", ".join(f"'{table}'" for table in tables)
        frame = union_all(bad_rows) if bad_rows else lake.spark.createDataFrame([], SCHEMA)
        lake.replace(TABLE, frame, f"day = DATE'{day}' AND table IN ({names})")
