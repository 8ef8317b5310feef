"""`shoal changes`: whose segments, and sides of a threshold, differ between the ends of two days."""

import os
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from jobs.activation._changes import (
    CROSSINGS,
    SEGMENT_CHANGES,
    choose_period,
    read_crossings,
    read_holdouts,
    read_segment_changes,
)
from jobs.cli.text_table import align_columns
from jobs.config.activation import load_activation
from jobs.config.settings import Settings
from jobs.errors import UserError

COLUMNS = [*dict.fromkeys([*SEGMENT_CHANGES.names, *CROSSINGS.names]), "holdout"]
_FORMULA = r"^([=+\-@\t\r])"  # a cell that begins so is a formula to a spreadsheet (OWASP, CSV injection)


def print_changes(settings: Settings, since: date, day: date | None, out: Path | None) -> None:
    """Print how many customers changed, and crossed a threshold; write a row of each change to `out`, where it is named."""
    period = choose_period(settings.lake, since, day)
    changes = read_segment_changes(settings.lake, period)
    thresholds = load_activation(settings.activation).thresholds
    crossings = read_crossings(settings.lake, thresholds, period)
    if out:
        write_changes(combine_changes(changes, crossings, read_holdouts(settings.lake)), out)
    print(format_changes(changes, period.since, period.day))
    if thresholds:
        print(f"\n{format_crossings(crossings)}")


def combine_changes(changes: pa.Table, crossings: pa.Table, holdouts: set[str]) -> pa.Table:
    """Return COLUMNS of both; what a row lacks is null. `holdouts` are the customers whom no campaign may reach."""
    rows = pa.concat_tables([changes, crossings], promote_options="default")
    is_held_out = pc.is_in(rows["customer_id"], value_set=pa.array(sorted(holdouts), pa.string()))
    return rows.append_column("holdout", is_held_out).select(COLUMNS)


def format_changes(changes: pa.Table, since: date, day: date) -> str:
    """Return the number of customers by change and pair of segments as a table for the terminal."""
    pairs = changes.group_by(["change", "from_segment_id", "to_segment_id"]).aggregate([([], "count_all")])
    pairs = pairs.sort_by([("count_all", "descending"), ("from_segment_id", "ascending"), ("to_segment_id", "ascending")])
    lines = [["" if value is None else str(value) for value in row.values()] for row in pairs.to_pylist()]
    table = align_columns([["change", "from", "to", "customers"], *lines], left={0})
    return "\n".join([*table, "", f"from the end of {since} to the end of {day}: {changes.num_rows:,} customers"])


def format_crossings(crossings: pa.Table) -> str:
    """Return the number of customers by threshold and side as a table for the terminal."""
    sides = crossings.group_by(["threshold", "change"]).aggregate([([], "count_all")])
    rows = sides.sort_by([("threshold", "ascending"), ("change", "descending")]).to_pylist()
    lines = [[row["threshold"], row["change"], str(row["count_all"])] for row in rows]
    return "\n".join(align_columns([["threshold", "change", "customers"], *lines], left={0, 1}))


def write_changes(changes: pa.Table, out: Path) -> None:
    """Write the rows as a .csv or .parquet file, whole or not at all. Raises UserError where it cannot be written.

    In a .csv file a text that a spreadsheet would take for a formula begins with an apostrophe. A .parquet file has it as it is.
    """
    if out.suffix not in WRITERS:
        raise UserError(f"changes: {out}: write to a file that ends in {' or '.join(WRITERS)}")
    temporary = out.with_name(f".{out.name}.new")
    try:
        WRITERS[out.suffix](changes, temporary)
        os.replace(temporary, out)
    except OSError as error:
        raise UserError(f"changes: {out} cannot be written ({error}); choose another file with --out") from error


def _write_csv(rows: pa.Table, path: Path) -> None:
    texts = [field.name for field in rows.schema if pa.types.is_string(field.type)]
    for name in texts:
        escaped = pc.replace_substring_regex(rows[name], _FORMULA, r"'\1")
        rows = rows.set_column(rows.column_names.index(name), name, escaped)
    csv.write_csv(rows, path)


WRITERS = {".csv": _write_csv, ".parquet": parquet.write_table}
