"""quality.omissions: one row per day and table of scores or marts that a day lacks in whole or in part, and why.

A shop without enough orders, or an outcome that hardly ever comes true, has no model. The rest of the day goes on, and
marts.refreshes repeats what is missing.
"""

from collections.abc import Mapping
from datetime import date

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    day DATE NOT NULL COMMENT 'day of the refresh',
    `table` STRING NOT NULL COMMENT 'table that lacks rows, or whose rows claim less than they could',
    reason STRING NOT NULL COMMENT 'what is left out of it, and why'"""
TABLE = Table("quality.omissions", __doc__.split("\n\n")[0], SCHEMA)


def write_omissions(lake: Lake, day: date, reasons: Mapping[str, str | None]) -> None:
    """Replace what is left out of these tables on the day; `reasons` are by table, None where it lacks nothing."""
    rows = [{"day": day, "table": table, "reason": reason} for table, reason in sorted(reasons.items()) if reason]
    if rows or lake.exists(TABLE.name):
        is_replaced = (ds.field("day") == day) & ds.field("table").isin(list(reasons))
        lake.replace_where(TABLE, pa.Table.from_pylist(rows, TABLE.arrow_schema), is_replaced)


def read_omissions(lake: Lake, day: date) -> list[str]:
    """Return what is left out of the day, a text for each table in order."""
    if not lake.exists(TABLE.name):
        return []
    rows = lake.read_small_table(TABLE.name, ["table", "reason"], ds.field("day") == day)
    return sorted(f"{row['table']}: {row['reason']}" for row in rows)
