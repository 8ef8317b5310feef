"""Rows of stored tables as Arrow, read without Spark, from the files that the log names."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.storage import delta
from jobs.storage.files import open_filesystem
from jobs.storage.table import Table


@dataclass(frozen=True)
class Rows:
    """Rows of a stored table, such as an input of a kernel.

    `columns` and `days` are all where None. `only` keeps the rows whose key is in it. `key` is a column, or makes the key of
    each row out of `columns`. Of a table whose partition is another date than the day, `days` are values of the partition.
    """

    table: Table
    key: str | Callable[[pa.Table], pa.Array]
    columns: tuple[str, ...] | None = None
    days: Collection[date | None] | None = None
    only: pa.Array | None = None

    @property
    def schema(self) -> pa.Schema:
        """The columns that the kernel is given."""
        names = self.table.columns if self.columns is None else self.columns
        return pa.schema([self.table.arrow_schema.field(name) for name in names])


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
    return sorted(file for file in files if rows.days is None or partition is None or file.day in set(rows.days))


def read_rows(root: str, rows: Rows) -> pa.Table:
    """Return these rows, in the order of the files; none where the table was not written."""
    return read_files(root, rows, list_files(root, rows))


def read_files(root: str, rows: Rows, files: list[StoredFile]) -> pa.Table:
    """Return these rows out of the files, in the order of the files."""
    parts = [_read_file(root, rows, file) for file in files]
    return pa.concat_tables([rows.schema.empty_table(), *parts])


def _read_file(root: str, rows: Rows, file: StoredFile) -> pa.Table:
    filesystem, base = open_filesystem(f"{delta.table_path(root, rows.table.name)}/{file.path}")
    beside = [rows.key] if rows.only is not None and isinstance(rows.key, str) else []
    beside += ["day"] if rows.days is not None and rows.table.partition is None else []
    needed = {*rows.schema.names, *beside}
    with filesystem.open_input_file(base) as stream, pq.ParquetFile(stream) as parquet:
        stored = parquet.read([name for name in parquet.schema_arrow.names if name in needed])
    columns = {}
    for name in (name for name in rows.table.columns if name in needed):
        kind = rows.table.arrow_schema.field(name).type
        if name in stored.column_names:
            columns[name] = stored[name].cast(kind)
        elif name == rows.table.partition:
            columns[name] = pa.array([file.day], kind).take(pa.array([0] * stored.num_rows, pa.int32()))
        else:
            columns[name] = pa.nulls(stored.num_rows, kind)  # the table has gained the column since
    part = pa.table(columns)
    if rows.days is not None and rows.table.partition is None:
        part = part.filter(pc.field("day").isin(list(rows.days)))
    if rows.only is not None:
        part = part.filter(pc.is_in(find_keys(rows, part), rows.only))
    return part.select(rows.schema.names).cast(rows.schema)


def find_keys(rows: Rows, part: pa.Table) -> pa.Array:
    """Return the key of each row."""
    return part[rows.key] if isinstance(rows.key, str) else rows.key(part)
