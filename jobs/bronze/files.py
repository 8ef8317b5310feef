"""bronze.files: one row per landed file and table, so that a file is landed once and a changed one replaces its rows.

`days` says how many rows of each day the file brought: what the later steps find out from is which days have changed.
"""

from collections.abc import Iterable
from datetime import date, datetime

from pyspark.sql import functions as F

from jobs.lake import Lake, Table
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
    rows = lake.read(TABLE).where((F.col("source") == source) & (F.col("table") == table)).drop("days").collect()
    return {row.file: row.asDict() for row in rows}


def record(lake: Lake, source: str, table: Table, mapping: Mapping, new: dict[str, dict], landed_at: datetime) -> None:
    """Remember `new` files as landed in `table`; the last write of a landing."""
    names = list(new)
    counts = (
        lake.read(table.name)
        .where((F.col("_source") == source) & F.col("_file").isin(names))
        .groupBy("_file", "day")
        .count()
        .collect()
    )
    days: dict[str, list[tuple[date, int]]] = {n: [] for n in names}
    for row in sorted(counts, key=lambda r: r.day):
        days[row._file].append((row.day, row["count"]))
    rows = [
        (source, table.name, n, f["sha256"], f["bytes"], f["modified_ns"], mapping.fingerprint(), days[n], landed_at)
        for n, f in new.items()
    ]
    from jobs.bronze._landing import _of_files

    where = _of_files(source, names).replace("_source", "source").replace("_file", "file") + f" AND table = '{table.name}'"
    lake.replace(TABLE, lake.spark.createDataFrame(rows, SCHEMA), where)


def days(lake: Lake, tables: Iterable[str]) -> dict[date, dict]:
    """Every landed day: {"n_rows": {table: rows}, "files": [checksums and mappings, sorted]}."""
    found: dict[date, dict] = {}
    for row in lake.read(TABLE).where(F.col("table").isin(list(tables))).collect():
        for day, n_rows in row.days:
            entry = found.setdefault(day, {"n_rows": {}, "files": []})
            entry["n_rows"][row.table] = entry["n_rows"].get(row.table, 0) + n_rows
            entry["files"].append(f"{row.table}:{row.file}:{row.sha256}:{row.mapping}")
    for entry in found.values():
        entry["files"].sort()
    return found
