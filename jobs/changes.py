"""Whose segment is another at the end of one day than at the end of an earlier one, from marts.segment_changes without Spark."""

import os
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import csv, parquet

from jobs import lake, text_table
from jobs.errors import UserError
from jobs.settings import Settings

COLUMNS = ["customer_id", "change", "from_segment_id", "to_segment_id", "day"]
WRITERS = {".csv": csv.write_csv, ".parquet": parquet.write_table}


def between(settings: Settings, since: date, day: date | None) -> tuple[pa.Table, date]:
    """COLUMNS of the customers whose segment at the end of `day`, None: the latest published one, is another than at the end
    of `since`, and that day. A `since` before the first known day has nobody in a segment.

    Raises UserError where `day` is not published or not after `since`.
    """
    runs = lake.read_arrow(settings.lake, "marts.refreshes", ["day"])["day"]
    day = day or pc.max(runs).as_py()
    if day not in runs.to_pylist():
        raise UserError(f"changes: {day} is not published in {settings.lake}; run first: shoal refresh --day {day}")
    if since >= day:
        raise UserError(f"changes: --since {since} is not before {day}; name an earlier day")
    within = (ds.field("day") > since) & (ds.field("day") <= day)
    return net(lake.read_arrow(settings.lake, "marts.segment_changes", where=within)), day


def net(steps: pa.Table) -> pa.Table:
    """marts.segment_changes of consecutive days -> COLUMNS of who is elsewhere after them; `day` is that of the last change."""
    in_order = steps.sort_by([("customer_id", "ascending"), ("day", "ascending")])
    with_nulls = pc.ScalarAggregateOptions(skip_nulls=False)
    ends = [("from_segment_id", "first", with_nulls), ("to_segment_id", "last", with_nulls), ("day", "last", with_nulls)]
    rows = in_order.group_by("customer_id", use_threads=False).aggregate(ends)
    rows = rows.rename_columns(["customer_id", *(name for name, *_ in ends)])
    was, is_now = rows["from_segment_id"], rows["to_segment_id"]
    change = pc.if_else(was.is_null(), "added", pc.if_else(is_now.is_null(), "removed", "changed"))
    # A customer of neither end came and went; of both, it may be back.
    elsewhere = pc.fill_null(pc.not_equal(was, is_now), pc.xor(was.is_null(), is_now.is_null()))
    return rows.append_column("change", change).select(COLUMNS).filter(elsewhere)


def as_text(rows: pa.Table, since: date, day: date) -> str:
    """How many were added, changed and removed, by pair of segments, as a table for the terminal."""
    pairs = rows.group_by(["change", "from_segment_id", "to_segment_id"]).aggregate([([], "count_all")])
    pairs = pairs.sort_by([("count_all", "descending"), ("from_segment_id", "ascending"), ("to_segment_id", "ascending")])
    lines = [["" if value is None else str(value) for value in row.values()] for row in pairs.to_pylist()]
    table = text_table.aligned([["change", "from", "to", "customers"], *lines], left={0})
    return "\n".join([*table, "", f"from the end of {since} to the end of {day}: {rows.num_rows:,} customers"])


def write(rows: pa.Table, out: Path) -> None:
    """The rows as a .csv or .parquet file, whole or not at all; raises UserError where it cannot be written."""
    if out.suffix not in WRITERS:
        raise UserError(f"changes: {out}: write to a file that ends in {' or '.join(WRITERS)}")
    part = out.with_name(f".{out.name}.new")
    try:
        WRITERS[out.suffix](rows, part)
        os.replace(part, out)
    except OSError as error:
        raise UserError(f"changes: {out} cannot be written ({error}); choose another file with --out") from error
