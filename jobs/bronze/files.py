"""bronze.files: one row per landed file and table, so that a file is landed once and a changed one replaces its rows.

`days` says how many rows of each day the file brought: what the later steps find out from is which days have changed.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime

import pyarrow.dataset as ds

from jobs.lake import Lake, Table, quoted
from jobs.source import Mapping

SCHEMA = """
    source STRING NOT NULL COMMENT 'source',
    `table` STRING NOT NULL COMMENT 'bronze table the file was landed in',
    file STRING NOT NULL COMMENT 'name relative to the input folder',
    sha256 STRING NOT NULL COMMENT 'checksum of the content',
    bytes BIGINT COMMENT 'size of the file',
    modified_ns BIGINT COMMENT 'when the file last changed, ns since 1970',
    mapping STRING COMMENT 'fingerprint of the mapping it was landed with',
    days ARRAY<STRUCT<day: DATE, n_rows: BIGINT>> COMMENT 'rows landed, by day',
    landed_at TIMESTAMP COMMENT 'when, UTC'"""
TABLE = Table("bronze.files", __doc__.splitlines()[0], SCHEMA)


def landed(lake: Lake, source: str, table: str) -> dict[str, dict]:
    """The files already landed in `table`: name -> its row."""
    columns = ["file", "sha256", "bytes", "modified_ns", "mapping"]
    rows = lake.look_up(TABLE, columns, (ds.field("source") == source) & (ds.field("table") == table))
    return {row["file"]: row for row in rows}


def record(lake: Lake, source: str, new: dict[Mapping, dict[str, dict]], landed_at: datetime) -> None:
    """Remember these files as landed, by mapping; the last write of a landing."""
    rows = []
    new = {mapping: found for mapping, found in new.items() if found}
    for mapping, found in new.items():
        days: dict[str, list[tuple[date, int]]] = {name: [] for name in found}
        ours = (ds.field("_source") == source) & ds.field("_file").isin(list(found))
        for (name, day), n_rows in sorted(lake.count(f"bronze.{mapping.table}", ["_file", "day"], ours).items()):
            days[name].append((day, n_rows))
        rows += [
            (
                source,
                f"bronze.{mapping.table}",
                n,
                f["sha256"],
                f["bytes"],
                f["modified_ns"],
                mapping.fingerprint(),
                days[n],
                landed_at,
            )
            for n, f in found.items()
        ]
    if rows:
        where = (f"(source = '{source}' AND table = 'bronze.{m.table}' AND file IN ({listed(f)}))" for m, f in new.items())
        lake.replace(TABLE, lake.spark.createDataFrame(rows, SCHEMA), " OR ".join(where))


def listed(names: Iterable[str]) -> str:
    """Texts as a list of SQL literals."""
    return ", ".join(map(quoted, sorted(names)))


def days(lake: Lake, tables: Iterable[str]) -> dict[date, dict]:
    """Every landed day: {"n_rows": {table: rows}, "files": [checksums and mappings, sorted]}."""
    found: dict[date, dict] = {}
    columns = ["table", "file", "sha256", "mapping", "days"]
    for row in lake.look_up(TABLE, columns, ds.field("table").isin(list(tables))):
        for of_day in row["days"]:
            entry = found.setdefault(of_day["day"], {"n_rows": Counter(), "files": []})
            entry["n_rows"][row["table"]] += of_day["n_rows"]
            entry["files"].append(f"{row['table']}:{row['file']}:{row['sha256']}:{row['mapping']}")
    for entry in found.values():
        entry["files"].sort()
    return found
