"""Files that were landed and are not in the input any more, and files whose rows are taken out again."""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from jobs.bronze import files
from jobs.bronze._new_files import with_stored_columns
from jobs.config.source_files import list_names
from jobs.errors import UserError
from jobs.progress import log
from jobs.storage.lake import Lake
from jobs.storage.table import Table

_SHOWN_NAMES = 3


def log_missing_files(lake: Lake, root: str, source: str, tables: list[str]) -> None:
    """Log how many landed files of each table are no longer under `root`, and how many that are there were forgotten."""
    names = set(list_names(root))
    for table in tables:
        registered = files.read_register(lake, source, table)
        forgotten = {name for name, row in registered.items() if row["mapping"] == files.FORGOTTEN}
        if missing := sorted(set(registered) - forgotten - names):
            log(f"gone  {table:<28} {len(missing):>12,} landed files are no longer in the input ({_shorten(missing)}); their rows"
                " stay, `shoal source forget FILE` takes them out")  # fmt: skip
        if left := sorted(forgotten & names):
            log(f"left  {table:<28} {len(left):>12,} forgotten files are in the input and not landed ({_shorten(left)})")


def _shorten(names: list[str]) -> str:
    """
    >>> _shorten(["a", "b"]), _shorten(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more


def forget_file(lake: Lake, source: str, file: str, tables: dict[str, Table], forgotten_at: datetime) -> None:
    """Take the rows of a file out of bronze `tables`, by their full names; the same content is not landed again.

    Later layers follow when they next run, because the file's days have other inputs. Raises UserError where the file was
    never landed in any of the tables.
    """
    rows = _find_rows(lake, source, file, tables)
    for row in rows:
        table = with_stored_columns(lake, tables[row["table"]])
        n_rows = _remove_rows(lake, table, source, row)
        files.forget_file(lake, row, forgotten_at)
        log(f"took  {table.name:<28} {n_rows:>12,} rows of {file} out")


def remember_file(lake: Lake, source: str, file: str, tables: dict[str, Table]) -> None:
    """Undo forget_file: the next landing lands the file where it is in the input. Raises UserError where it is not forgotten."""
    rows = [row for row in _find_rows(lake, source, file, tables) if row["mapping"] == files.FORGOTTEN]
    if not rows:
        raise UserError(f"source forget: file {file} is not forgotten; its rows are in {', '.join(sorted(tables))}")
    for row in rows:
        files.remove_file(lake, row)
        log(f"back  {row['table']:<28} {file} is landed again by the next `land` where it is in the input")


def _find_rows(lake: Lake, source: str, file: str, tables: dict[str, Table]) -> list[dict]:
    rows = [row for row in files.read_file(lake, source, file) if row["table"] in tables]
    if not rows:
        names = "bronze.files lists the landed files by the name under INPUT"
        raise UserError(f"source forget: no file {file} of source {source} was landed in {', '.join(sorted(tables))}; {names}")
    return rows


def _remove_rows(lake: Lake, table: Table, source: str, row: dict) -> int:
    """Remove the rows of a file, a day at a time. Returns their number."""
    days = sorted({pair["day"] for pair in row["days"] or ()})
    parts = [[day] for day in days] if table.partition else [None]
    n_removed = 0
    for part in parts:
        stored = lake.read_arrow(table, days=part)
        kept = stored.filter(pc.invert(_is_of_file(stored, source, row["file"])))
        lake.replace_rows(table, kept, part)
        n_removed += stored.num_rows - kept.num_rows
    return n_removed


def _is_of_file(rows: pa.Table, source: str, file: str) -> pa.ChunkedArray:
    return pc.and_(pc.equal(rows["_source"], source), pc.equal(rows["_file"], file))
