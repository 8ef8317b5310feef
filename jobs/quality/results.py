"""quality.results: one row per expectation of a suite and day on which it was evaluated."""

from datetime import date, timedelta

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.errors import UserError
from jobs.progress import log
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    `table` STRING NOT NULL COMMENT 'table that was checked',
    day DATE NOT NULL COMMENT 'last day of the refresh that was checked',
    position INT NOT NULL COMMENT 'place of the expectation in its suite, from 1; several figures may share one place',
    expectation STRING NOT NULL COMMENT 'type of the expectation, as the suite names it',
    `column` STRING COMMENT 'column, columns or figure it is about; null where it is about the whole table',
    severity STRING NOT NULL COMMENT 'critical stops the day, warning is logged, info only observes',
    success BOOLEAN NOT NULL COMMENT 'whether the rows are as expected',
    observed STRING COMMENT 'observed value, where the expectation is about one figure; or: not known',
    unexpected_count BIGINT COMMENT 'rows, or days of a figure, that are not as expected; null where it is about one figure',
    unexpected_share DOUBLE COMMENT 'unexpected_count by rows checked, 0 to 1; null for figures',
    rows_checked BIGINT NOT NULL COMMENT 'rows, or days of a figure, that were checked',
    first_day DATE COMMENT 'first day whose rows were checked; null: all up to day, or the whole table',
    description STRING COMMENT 'what is expected, in words, where the type does not say it',
    kwargs STRING NOT NULL COMMENT 'arguments of the expectation, JSON'"""
TABLE = Table("quality.results", __doc__, SCHEMA)
_LATELY_DAYS = 35


def last_checked_days(lake: Lake, tables: list[str], before: date) -> dict[str, date]:
    """Return the last day before `before` on which each table was checked, so that a rerun checks the same rows again.

    Older results are read only for a table that was not checked lately.
    """
    lately = ds.field("day") >= before - timedelta(days=_LATELY_DAYS)
    days: dict[str, date] = {}
    for period in (lately, ~lately):
        if missing := [table for table in tables if table not in days]:
            checks = lake.count_by(TABLE.name, ["table", "day"], period & (ds.field("day") < before))
            days |= {table: day for table, day in sorted(checks) if table in missing}  # a later day replaces an earlier one
    return days


def write_results(lake: Lake, tables: list[str], day: date, results: list[dict]) -> None:
    """Replace the results of these tables on the day."""
    rows = pa.Table.from_pylist(results, TABLE.arrow_schema)
    lake.replace_where(TABLE, rows, (ds.field("day") == day) & ds.field("table").isin(tables))


def raise_for_critical(results: list[dict]) -> None:
    """Log each failed warning; raise UserError where a critical expectation failed."""
    failed = [result for result in results if not result["success"]]
    for result in failed:
        if result["severity"] == "warning":
            log(f"warn  {describe_failure(result)}")
    critical = [result for result in failed if result["severity"] == "critical"]
    if critical:
        more = f" ({len(critical) - 1} more)" if len(critical) > 1 else ""
        where = "; the rows are in quality.quarantine" if critical[0]["unexpected_share"] else ""
        raise UserError(f"check: {describe_failure(critical[0])}{more}; see quality.results{where}")


def describe_failure(result: dict) -> str:
    """Return a failed expectation in one line: table, day, column, what was expected and what was observed."""
    column = f"{result['column']}: " if result["column"] else ""
    description = f" ({result['description']})" if result["description"] else ""
    if result["unexpected_share"] is None:
        observation = f"observed {result['observed']}"
    else:
        observation = f"{result['unexpected_count']:,} of {result['rows_checked']:,} rows unexpected"
    return (
        f"{result['table']}, day {result['day']}: {column}{result['expectation']}{description}: {observation}, {result['kwargs']}"
    )
