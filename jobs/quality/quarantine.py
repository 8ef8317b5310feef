"""quality.quarantine: one row per row that fails an expectation, as text, so that a person sees what is wrong.

The rows stay in their table as well. They are selected by the conditions by which the expectations counted them, in one
pass over a table's rows, and only where an expectation failed. A batch of them is in memory at a time.
"""

from collections.abc import Iterator
from datetime import date

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.quality._json_rows import to_json_rows
from jobs.quality._rows import Rows, quote_name, quote_text, select
from jobs.quality.suites import Suite
from jobs.quality.validation import FailedExpectation
from jobs.storage import commits
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    `table` STRING NOT NULL COMMENT 'table that was checked',
    day DATE NOT NULL COMMENT 'last day of the refresh that was checked',
    row STRING NOT NULL COMMENT 'the row, JSON, without personal columns',
    expectations ARRAY<STRING> NOT NULL COMMENT 'the expectations it fails: column, and description or type',
    severity STRING NOT NULL COMMENT 'the worst of theirs: critical, warning or info'"""
TABLE = Table("quality.quarantine", "One row per row that fails an expectation.", SCHEMA)
_SEVERITIES = ("critical", "warning", "info")
_ADDED = ("_labels", "_severity")


def select_bad_rows(suite: Suite, rows: Rows, view: str, failed: list[FailedExpectation], day: date) -> Iterator[pa.Table]:
    """Yield the rows of a view that fail any of these expectations, in the shape of the table."""
    public = [column for column in rows.columns if column not in suite.meta.get("personal", [])]
    # Columns first, then a filter: an expectation may look at other rows, which a filter cannot.
    flags = {expectation: f"_fails_{n}" for n, expectation in enumerate(failed)}
    marked = select(["*", *(f"coalesce({e.unexpected}, false) AS {flag}" for e, flag in flags.items())], view)
    labels = ", ".join(f"CASE WHEN {flag} THEN {quote_text(e.label)} END" for e, flag in flags.items())
    worst = " ".join(f"WHEN {flag} THEN '{s}'" for s in _SEVERITIES for e, flag in flags.items() if e.severity == s)
    added = f"list_filter([{labels}], lambda label: label IS NOT NULL) AS _labels, CASE {worst} END AS _severity"
    for batch in rows.stream(select([*map(quote_name, public), added], f"({marked})", " OR ".join(flags.values()))):
        texts = to_json_rows(batch.select(public))
        constants = [pa.repeat(suite.name, len(texts)), pa.repeat(pa.scalar(day), len(texts))]
        yield pa.table([*constants, texts, *map(batch.column, _ADDED)], TABLE.columns)


def write_bad_rows(lake: Lake, bad_rows: Iterator[pa.Table]) -> list[commits.File]:
    """Write the rows as files that no version of the table names yet."""
    return [file for rows in bad_rows for file in commits.write_files(lake.root, TABLE, rows)]


def commit_bad_rows(lake: Lake, tables: list[str], day: date, files: list[commits.File]) -> None:
    """Replace the bad rows of `tables` on the day, in one commit; write nothing where there are none, before and now."""
    is_replaced = (ds.field("day") == day) & ds.field("table").isin(tables)
    if files or lake.count_by(TABLE.name, ["table"], is_replaced):
        lake.open_for_write(TABLE).commit_where(files, is_replaced)
