"""bronze.files: one row per landed file and table, so that a file is landed once and a changed one replaces its rows.

`days` has the number of rows of each day that the file brought. The later steps compare it to find the days that changed.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.quality import reconciliation
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    source STRING NOT NULL COMMENT 'source',
    `table` STRING NOT NULL COMMENT 'bronze table the file was landed in',
    file STRING NOT NULL COMMENT 'name relative to the input folder',
    sha256 STRING NOT NULL COMMENT 'checksum of the content',
    bytes BIGINT COMMENT 'size of the file',
    modified_ns BIGINT COMMENT 'when the file last changed, ns since 1970',
    mapping STRING COMMENT 'fingerprint of the mappings it was landed with; forgotten: its rows were taken out',
    days ARRAY<STRUCT<day: DATE, n_rows: BIGINT>> COMMENT 'rows landed, by day',
    landed_at TIMESTAMP COMMENT 'when, UTC',
    columns ARRAY<STRING> COMMENT 'columns of the file, in its order',
    left_out ARRAY<STRUCT<day: DATE, n_rows: BIGINT>> COMMENT 'rows the mapping leaves out (where), by day'"""
TABLE = Table("bronze.files", __doc__.splitlines()[0], SCHEMA)
FORGOTTEN = "forgotten"  # in the place of a mapping's fingerprint
_ALL_ROWS = ["days", "left_out"]  # the columns that count the rows of a file, landed and left out


@dataclass(frozen=True)
class LandedFiles:
    """The files that were landed in one table: a row of bronze.files by name; and the rows read, by each mapping of the file."""

    files: dict[str, dict] = field(default_factory=dict)
    n_read: int = 0


def read_register(lake: Lake, source: str, table: str) -> dict[str, dict]:
    """Return the files that were landed in `table` before: their rows of bronze.files by name."""
    columns = ["file", "sha256", "bytes", "modified_ns", "mapping", "columns", "days"]
    rows = lake.read_small_table(TABLE, columns, (ds.field("source") == source) & (ds.field("table") == table))
    return {row["file"]: row for row in rows}


def register_files(lake: Lake, source: str, files_by_table: dict[str, LandedFiles], landed_at: datetime) -> None:
    """Account for the rows of these files, by table, and register the files: the last writes of a landing.

    Raises UserError where rows that were read are neither in the table nor left out by the mapping.
    """
    rows, accounts = [], {}
    for name, landed in files_by_table.items():
        table = f"bronze.{name}"
        shared = {"source": source, "table": table, "landed_at": landed_at}
        entries = [{**shared, "file": file, **entry} for file, entry in landed.files.items()]
        accounts[table] = _account_days(lake, table, entries, landed.n_read) if entries else []
        rows += entries
    reconciliation.write_accounts(lake, accounts)
    if rows:
        _write_rows(lake, rows)


def read_file(lake: Lake, source: str, file: str) -> list[dict]:
    """Return the rows of bronze.files about one file, a row for each table that it was landed in."""
    return lake.read_small_table(TABLE, where=(ds.field("source") == source) & (ds.field("file") == file))


def forget_file(lake: Lake, row: dict, forgotten_at: datetime) -> None:
    """Account for the days that a file, a row of bronze.files, had rows of, and register that its rows were taken out."""
    row = {**row, "mapping": FORGOTTEN, "days": [], "left_out": [], "landed_at": forgotten_at}
    reconciliation.write_accounts(lake, {row["table"]: _account_days(lake, row["table"], [row], 0)})
    _write_rows(lake, [row])


def remove_file(lake: Lake, row: dict) -> None:
    """Take a row out of bronze.files, so that the file is landed as if it were new."""
    _write_rows(lake, [], removed=[row])


def _write_rows(lake: Lake, rows: list[dict], removed: Iterable[dict] = ()) -> None:
    """Register files in the place of what was registered of them before, and take out the rows `removed`."""
    keys = {(row["source"], row["table"], row["file"]) for row in (*rows, *removed)}
    stored = lake.read_arrow(TABLE)
    stored_keys = zip(*(stored[column].to_pylist() for column in ("source", "table", "file")), strict=True)
    others = stored.filter(pa.array([key not in keys for key in stored_keys], pa.bool_()))
    lake.replace_rows(TABLE, pa.concat_tables([others, pa.Table.from_pylist(rows, TABLE.arrow_schema)]))


def _account_days(lake: Lake, table: str, new: list[dict], n_read: int) -> list[reconciliation.Account]:
    """Account for each day that these files have rows of now, or had before: rows read = rows in the table + left out.

    Rows that were read and have no day count on the last of the days.
    """
    columns = ["source", "file", "sha256", "mapping", "days", "left_out"]
    rows = lake.read_small_table(TABLE, columns, ds.field("table") == table)
    before = {(row["source"], row["file"]): row for row in rows}
    now = before | {(row["source"], row["file"]): row for row in new}
    keys = {(row["source"], row["file"]) for row in new}
    days = {day for key in keys for files in (before, now) for day in _count_by_day(files.get(key), _ALL_ROWS)}
    lost = n_read - sum(sum(_count_by_day(row, _ALL_ROWS).values()) for row in new)
    if lost and not days:
        days = {new[0]["landed_at"].date()}
    stored = lake.count_by(table, ["day"], ds.field("day").isin(sorted(days))) if days else {}
    kept, left_out, inputs = Counter(), Counter(), {}
    for row in now.values():
        kept.update(_count_by_day(row, ["days"]))
        left_out.update(_count_by_day(row, ["left_out"]))
        for day in _count_by_day(row, _ALL_ROWS):
            inputs.setdefault(day, []).append(f"{row['file']}:{row['sha256']}:{row['mapping']}")
    return [
        reconciliation.Account(
            day,
            kept[day] + left_out[day] + (lost if day == max(days) else 0),
            stored.get((day,), 0),
            reconciliation.fingerprint_inputs(*sorted(inputs.get(day, []))),
            {"left_out": left_out[day]} if left_out[day] else {},
        )
        for day in sorted(days)
    ]


def _count_by_day(row: dict | None, columns: list[str]) -> Counter:
    """Return the rows of a file by day, added up over these columns of its row."""
    counts: Counter = Counter()
    for pair in (pair for column in columns for pair in (row or {}).get(column) or ()):
        day, n_rows = pair.values() if isinstance(pair, dict) else pair
        counts[day] += n_rows
    return counts


def count_registered_rows(lake: Lake, table: str) -> Counter:
    """Return the number of rows of a bronze table by day, of all sources, as registered."""
    counts: Counter = Counter()
    for row in lake.read_small_table(TABLE, ["days"], ds.field("table") == table):
        counts.update(_count_by_day(row, ["days"]))
    return counts


def read_days(lake: Lake, tables: Iterable[str]) -> dict[date, dict]:
    """Return every landed day: {"n_rows": {table: rows}, "files": [names, checksums and mappings, sorted]}."""
    days: dict[date, dict] = {}
    columns = ["table", "file", "sha256", "mapping", "days"]
    for row in lake.read_small_table(TABLE, columns, ds.field("table").isin(list(tables))):
        for day in row["days"]:
            entry = days.setdefault(day["day"], {"n_rows": Counter(), "files": []})
            entry["n_rows"][row["table"]] += day["n_rows"]
            entry["files"].append(f"{row['table']}:{row['file']}:{row['sha256']}:{row['mapping']}")
    for entry in days.values():
        entry["files"].sort()
    return days
