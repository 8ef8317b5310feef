"""`shoal changes`: which customers' segments differ between the ends of two days, from marts.segment_changes."""

import os
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import csv, parquet

from jobs.cli.text_table import align_columns
from jobs.errors import UserError
from jobs.storage.delta import read_arrow

COLUMNS = ["customer_id", "change", "from_segment_id", "to_segment_id", "day"]
WRITERS = {".csv": csv.write_csv, ".parquet": parquet.write_table}


def print_changes(lake: str, since: date, day: date | None, out: Path | None) -> None:
    """Print how many customers were added, changed and removed; write a row of each to `out`, where it is named."""
    changes, day = read_changes(lake, since, day)
    if out:
        write_changes(changes, out)
    print(format_changes(changes, since, day))


def read_changes(lake: str, since: date, day: date | None) -> tuple[pa.Table, date]:
    """Return COLUMNS of the customers whose segment at the end of `day` differs from that at the end of `since`, and `day`.

    `day` is the latest published day where it is None. Before the first known day no customer is in a segment.
    Raises UserError where `day` is not published or not after `since`.
    """
    published = read_arrow(lake, "marts.refreshes", ["day"])["day"]
    day = day or pc.max(published).as_py()
    if day not in published.to_pylist():
        raise UserError(f"changes: {day} is not published in {lake}; run first: shoal refresh --day {day}")
    if since >= day:
        raise UserError(f"changes: --since {since} is not before {day}; name an earlier day")
    between = (ds.field("day") > since) & (ds.field("day") <= day)
    return net_changes(read_arrow(lake, "marts.segment_changes", where=between)), day


def net_changes(steps: pa.Table) -> pa.Table:
    """Return COLUMNS of the customers that changes of consecutive days move in all; `day` is that of the last change."""
    ordered = steps.sort_by([("customer_id", "ascending"), ("day", "ascending")])
    with_nulls = pc.ScalarAggregateOptions(skip_nulls=False)
    ends = [("from_segment_id", "first", with_nulls), ("to_segment_id", "last", with_nulls), ("day", "last", with_nulls)]
    rows = ordered.group_by("customer_id", use_threads=False).aggregate(ends)
    rows = rows.rename_columns(["customer_id", *(name for name, *_ in ends)])
    first, last = rows["from_segment_id"], rows["to_segment_id"]
    change = pc.if_else(first.is_null(), "added", pc.if_else(last.is_null(), "removed", "changed"))
    # A customer without a segment at either end came and went; one with the same segment at both has come back to it.
    differs = pc.fill_null(pc.not_equal(first, last), pc.xor(first.is_null(), last.is_null()))
    return rows.append_column("change", change).select(COLUMNS).filter(differs)


def format_changes(changes: pa.Table, since: date, day: date) -> str:
    """Return the number of customers by change and pair of segments as a table for the terminal."""
    pairs = changes.group_by(["change", "from_segment_id", "to_segment_id"]).aggregate([([], "count_all")])
    pairs = pairs.sort_by([("count_all", "descending"), ("from_segment_id", "ascending"), ("to_segment_id", "ascending")])
    lines = [["" if value is None else str(value) for value in row.values()] for row in pairs.to_pylist()]
    table = align_columns([["change", "from", "to", "customers"], *lines], left={0})
    return "\n".join([*table, "", f"from the end of {since} to the end of {day}: {changes.num_rows:,} customers"])


def write_changes(changes: pa.Table, out: Path) -> None:
    """Write the rows as a .csv or .parquet file, whole or not at all. Raises UserError where it cannot be written."""
    if out.suffix not in WRITERS:
        raise UserError(f"changes: {out}: write to a file that ends in {' or '.join(WRITERS)}")
    temporary = out.with_name(f".{out.name}.new")
    try:
        WRITERS[out.suffix](changes, temporary)
        os.replace(temporary, out)
    except OSError as error:
        raise UserError(f"changes: {out} cannot be written ({error}); choose another file with --out") from error
