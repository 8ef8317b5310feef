"""Rows of stored tables as Arrow, read without Spark, from the files that the log names."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from jobs.concurrency import count_threads
from jobs.storage import delta
from jobs.storage.files import open_filesystem
from jobs.storage.table import Table


@dataclass(frozen=True)
class Rows:
    """Rows of a stored table, such as an input of a kernel.

    `columns` and `days` are all where None. `key` is a column, or makes the key of each row out of `columns`. `only` keeps the
    rows whose key, a column, is in it, and `where` those that fulfil a condition. Of a table whose partition is another date
    than the day, `days` are values of that. `scan` says that a kernel that gets all of them takes a Scan too.
    """

    table: Table
    key: str | Callable[[pa.Table], pa.Array]
    columns: tuple[str, ...] | None = None
    days: Collection[date | None] | None = None
    only: pa.Array | None = None
    scan: bool = False
    where: pc.Expression | None = None

    @property
    def schema(self) -> pa.Schema:
        """The columns that the kernel is given."""
        names = self.table.columns if self.columns is None else self.columns
        return pa.schema([self.table.arrow_schema.field(name) for name in names])


# Spark writes timestamps as INT96, which reads as nanoseconds.
_FORMAT = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(coerce_int96_timestamp_unit="us"))


_SPECIAL = set("*?['")  # in a path, DuckDB takes these for a pattern or the end of a text


class StoredFile(NamedTuple):
    """A file of a stored table."""

    path: str
    day: date | None
    n_rows: int


def list_files(root: str, rows: Rows) -> list[StoredFile]:
    """Return the files that hold these rows, from the log alone; none where the table was not written."""
    stored = delta.open_if_written(root, rows.table.name)
    if stored is None:
        return []
    actions = stored.get_add_actions(flatten=True)
    if not actions.num_rows:
        return []
    paths, n_rows = actions.column("path").to_pylist(), actions.column("num_records").to_pylist()
    partition = rows.table.partition
    days = actions.column(f"partition.{partition}").to_pylist() if partition else [None] * len(paths)
    files = map(StoredFile, paths, days, n_rows)
    days_read = None if rows.days is None or partition is None else set(rows.days)
    return sorted(file for file in files if days_read is None or file.day in days_read)


@dataclass(frozen=True)
class Scan:
    """Stored rows that DuckDB reads itself from their Parquet files, only the columns that a query asks for."""

    schema: pa.Schema
    paths: tuple[str, ...]
    partition: str | None

    def to_sql(self, empty: str) -> str:
        """Return the query of the rows, times as UTC without a zone. `empty` is a table of no rows with these columns."""
        files = ", ".join(f"'{path}'" for path in self.paths)
        hive = f", hive_partitioning = true, hive_types = {{'{self.partition}': DATE}}" if self.partition else ""
        columns = ", ".join(
            f'make_timestamp(epoch_us("{f.name}")) AS "{f.name}"' if pa.types.is_timestamp(f.type) else f'"{f.name}"'
            for f in self.schema
        )
        return f"""SELECT {columns} FROM (
    FROM read_parquet([{files}], union_by_name = true{hive}) UNION ALL BY NAME FROM {empty})"""  # noqa: S608


def scan_rows(root: str, rows: Rows) -> "pa.Table | Scan":
    """Return these rows as a scan, or read where DuckDB could not find their files by name."""
    filesystem, base = open_filesystem(delta.table_path(root, rows.table.name))
    paths = tuple(f"{base}/{file.path}" for file in list_files(root, rows))
    is_filtered = rows.only is not None or rows.where is not None or (rows.days is not None and rows.table.partition is None)
    if not paths or is_filtered or not isinstance(filesystem, LocalFileSystem) or _SPECIAL & set("".join(paths)):
        return read_rows(root, rows)
    return Scan(rows.schema, paths, rows.table.partition)


def read_rows(root: str, rows: Rows) -> pa.Table:
    """Return these rows, in the order of the files; none where the table was not written."""
    return read_files(root, rows, list_files(root, rows))


def read_files(root: str, rows: Rows, files: list[StoredFile]) -> pa.Table:
    """Return these rows out of the files, in the order of the files. Columns that a file lacks are null."""
    filesystem, base = open_filesystem(delta.table_path(root, rows.table.name))
    schema, partition = rows.table.arrow_schema, rows.table.partition
    dataset = ds.dataset(
        [f"{base}/{file.path}" for file in files],
        schema=schema,
        format=_FORMAT,
        filesystem=filesystem,
        partitioning=ds.partitioning(pa.schema([schema.field(partition)]), flavor="hive") if partition else None,
    )
    conditions = [pc.field("day").isin(list(rows.days))] if rows.days is not None and partition is None else []
    conditions += [pc.field(rows.key).isin(rows.only)] if rows.only is not None else []
    conditions += [rows.where] if rows.where is not None else []
    condition = reduce(pc.Expression.__and__, conditions) if conditions else None
    table = dataset.to_table(columns=rows.schema.names, filter=condition, use_threads=count_threads() > 1)
    return table.cast(rows.schema)


def find_keys(rows: Rows, part: pa.Table) -> pa.Array:
    """Return the key of each row."""
    return part[rows.key] if isinstance(rows.key, str) else rows.key(part)
