"""bronze.files: one row per landed file and table, so that a file is landed once and a changed one replaces its rows.

`days` says how many rows of each day the file brought: what the later steps find out from is which days have changed.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime
from typing import TYPE_CHECKING

import pyarrow.dataset as ds

from jobs.config.source_mapping import TableMapping
from jobs.quality import reconciliation
from jobs.storage.lake import Lake
from jobs.storage.table import Table, quote_sql

if TYPE_CHECKING:
    from jobs.bronze._landing import Landed

SCHEMA = """
    source STRING NOT NULL COMMENT 'source',
    `table` STRING NOT NULL COMMENT 'bronze table the file was landed in',
    file STRING NOT NULL COMMENT 'name relative to the input folder',
    sha256 STRING NOT NULL COMMENT 'checksum of the content',
    bytes BIGINT COMMENT 'size of the file',
    modified_ns BIGINT COMMENT 'when the file last changed, ns since 1970',
    mapping STRING COMMENT 'fingerprint of the mapping it was landed with',
    days ARRAY<STRUCT<day: DATE, n_rows: BIGINT>> COMMENT 'rows landed, by day',
    landed_at TIMESTAMP COMMENT 'when, UTC',
    columns ARRAY<STRING> COMMENT 'columns of the file, in its order',
    left_out ARRAY<STRUCT<day: DATE, n_rows: BIGINT>> COMMENT 'rows the mapping leaves out (where), by day'"""
TABLE = Table("bronze.files", __doc__.splitlines()[0], SCHEMA)


def landed(lake: Lake, source: str, table: str) -> dict[str, dict]:
    """The files already landed in `table`: name -> its row."""
    columns = ["file", "sha256", "bytes", "modified_ns", "mapping", "columns"]
    rows = lake.read_small_table(TABLE, columns, (ds.field("source") == source) & (ds.field("table") == table))
    return {row["file"]: row for row in rows}


def record(lake: Lake, source: str, new: "dict[TableMapping, Landed]", landed_at: datetime) -> None:
    """Account for the rows of these files, by mapping, and remember the files as landed; the last writes of a landing.

    Raises UserError where rows that were read are neither in the table nor left out by the mapping.
    """
    new = {mapping: landed for mapping, landed in new.items() if landed.files}
    rows, accounts = [], {}
    for mapping, landed in new.items():
        table = f"bronze.{mapping.table}"
        days: dict[str, list[tuple[date, int]]] = {name: [] for name in landed.files}
        ours = (ds.field("_source") == source) & ds.field("_file").isin(list(landed.files))
        for (name, day), n_rows in sorted(lake.count_by(table, ["_file", "day"], ours).items()):
            days[name].append((day, n_rows))
        found = [
            {"source": source, "table": table, "file": name, "mapping": mapping.fingerprint(), "days": days[name],
             "landed_at": landed_at, **entry}
            for name, entry in landed.files.items()
        ]  # fmt: skip
        rows += [tuple(row[c] for c in TABLE.columns) for row in found]
        accounts[table] = _accounts(lake, table, found, landed.n_read)
    reconciliation.write_accounts(lake, accounts)
    if rows:
        where = (f"(source = '{source}' AND table = 'bronze.{m.table}' AND file IN ({listed(f.files)}))" for m, f in new.items())
        lake.replace(TABLE, lake.spark.createDataFrame(rows, SCHEMA), " OR ".join(where))


def _accounts(lake: Lake, table: str, new: list[dict], n_read: int) -> list[reconciliation.Account]:
    """The account of each day that these files have rows of now, or had before: read = in the table + left out.

    Rows that were read and came to no day count on the last of the days.
    """
    columns = ["source", "file", "sha256", "mapping", "days", "left_out"]
    before = {(r["source"], r["file"]): r for r in lake.read_small_table(TABLE, columns, ds.field("table") == table)}
    now = before | {(row["source"], row["file"]): row for row in new}
    touched = {
        day for key in {(r["source"], r["file"]) for r in new} for f in (before, now) for day in _by_day(f.get(key), _BOTH)
    }
    lost = n_read - sum(sum(_by_day(row, _BOTH).values()) for row in new)
    if lost and not touched:
        touched = {new[0]["landed_at"].date()}
    stored = lake.count_by(table, ["day"], ds.field("day").isin(sorted(touched))) if touched else {}
    kept, left_out, parts = Counter(), Counter(), {}
    for row in now.values():
        kept.update(_by_day(row, ["days"]))
        left_out.update(_by_day(row, ["left_out"]))
        for day in _by_day(row, _BOTH):
            parts.setdefault(day, []).append(f"{row['file']}:{row['sha256']}:{row['mapping']}")
    return [
        reconciliation.Account(
            day,
            kept[day] + left_out[day] + (lost if day == max(touched) else 0),
            stored.get((day,), 0),
            reconciliation.fingerprint_inputs(*sorted(parts.get(day, []))),
            {"left_out": left_out[day]} if left_out[day] else {},
        )
        for day in sorted(touched)
    ]


_BOTH = ["days", "left_out"]


def _by_day(row: dict | None, names: list[str]) -> Counter:
    """The rows of a file by day, of one or both of its lists."""
    pairs = (pair for name in names for pair in (row or {}).get(name) or ())
    found: Counter = Counter()
    for pair in pairs:
        day, n_rows = pair.values() if isinstance(pair, dict) else pair
        found[day] += n_rows
    return found


def listed(names: Iterable[str]) -> str:
    """Texts as a list of SQL literals."""
    return ", ".join(map(quote_sql, sorted(names)))


def days(lake: Lake, tables: Iterable[str]) -> dict[date, dict]:
    """Every landed day: {"n_rows": {table: rows}, "files": [checksums and mappings, sorted]}."""
    found: dict[date, dict] = {}
    columns = ["table", "file", "sha256", "mapping", "days"]
    for row in lake.read_small_table(TABLE, columns, ds.field("table").isin(list(tables))):
        for of_day in row["days"]:
            entry = found.setdefault(of_day["day"], {"n_rows": Counter(), "files": []})
            entry["n_rows"][row["table"]] += of_day["n_rows"]
            entry["files"].append(f"{row['table']}:{row['file']}:{row['sha256']}:{row['mapping']}")
    for entry in found.values():
        entry["files"].sort()
    return found
