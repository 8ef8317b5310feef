"""quality.quarantine: the rows behind each failed expectation, as text, so that a person sees what is wrong.

The rows stay in their table as well. Found by the very conditions by which Great Expectations counted them, in one
pass over a table's rows, and only where it found some; they never come to the driver.
"""

from datetime import date
from functools import reduce

import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.quality.suites import Suite
from jobs.quality.validation import Broken
from jobs.storage.lake import Lake, union_all
from jobs.storage.table import Table

SCHEMA = """
    `table` STRING NOT NULL COMMENT 'table that was checked',
    day DATE NOT NULL COMMENT 'last day of the refresh that was checked',
    row STRING NOT NULL COMMENT 'the row, JSON, without personal columns',
    expectations ARRAY<STRING> NOT NULL COMMENT 'what it is against: column, and description or type of the expectation',
    severity STRING NOT NULL COMMENT 'the worst of theirs: critical, warning or info'"""
TABLE = Table("quality.quarantine", "One row per row that is against a failed expectation.", SCHEMA)
_SEVERITIES = ("critical", "warning", "info")


def bad_rows(suite: Suite, columns: list[str], rows: DataFrame, broken: list[Broken], day: date) -> DataFrame:
    """The rows that are against any of these, as quality.quarantine; `columns` are those of the table itself."""
    shown = [column for column in columns if column not in suite.meta.get("personal", [])]
    against = F.array(*(F.when(one.unexpected, F.lit(one.label)) for one in broken))
    # first a column, then a filter: an expectation may look at other rows, which a filter cannot
    marked = rows.withColumns({f"_{severity}": _any(broken, severity) for severity in _SEVERITIES})
    marked = marked.withColumn("_against", F.array_compact(against)).where(F.size("_against") > 0)
    worst = F.when(F.col("_critical"), "critical").when(F.col("_warning"), "warning").otherwise("info")
    return marked.select(
        F.lit(suite.name).alias("table"),
        F.lit(day).alias("day"),
        F.to_json(F.struct(*shown), {"ignoreNullFields": "false"}).alias("row"),
        F.col("_against").alias("expectations"),
        worst.alias("severity"),
    )


def _any(broken: list[Broken], severity: str):
    """Whether a row is against an expectation of this severity; a comparison with null is not against it."""
    conditions = (F.coalesce(one.unexpected, F.lit(False)) for one in broken if one.severity == severity)
    return reduce(lambda a, b: a | b, conditions, F.lit(False))


def record(lake: Lake, tables: list[str], day: date, found: list[DataFrame]) -> None:
    """Make these the bad rows of `tables` on the day, in one commit; none where there were none and are none."""
    old = lake.count_by(TABLE.name, ["table"], (ds.field("day") == day) & ds.field("table").isin(tables))
    if found or old:
        listed = ", ".join(f"'{table}'" for table in tables)
        frame = union_all(found) if found else lake.spark.createDataFrame([], SCHEMA)
        lake.replace(TABLE, frame, f"day = DATE'{day}' AND table IN ({listed})")
