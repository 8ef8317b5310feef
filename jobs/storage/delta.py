"""Delta tables read without Spark: from their log where that is enough, else as Arrow.

A table lies at `<root>/<layer>/<table>`. A folder without a commit is a table that was not written yet.
"""

from collections import Counter
from collections.abc import Collection
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyarrow import fs

from jobs.errors import UserError
from jobs.storage.files import open_filesystem


def table_path(root: str, name: str) -> str:
    """Return where the table `<layer>.<table>` of a lake lies."""
    return f"{root}/{name.replace('.', '/')}"


def is_written(path: str) -> bool:
    """Return whether the Delta table at `path` has a commit. A process killed before the first commit leaves a folder."""
    filesystem, base = open_filesystem(path)
    selector = fs.FileSelector(f"{base}/_delta_log", allow_not_found=True)
    return any(_is_commit(info.base_name) for info in filesystem.get_file_info(selector))


def open_table(root: str, name: str, version: int | None = None) -> DeltaTable:
    """Open a table of a lake, at its newest version where none is given. Raises UserError where it was not written."""
    table = open_if_written(root, name, version)
    if table is None:
        raise UserError(f"lake: table {name} does not exist in {root}; run the step that writes it first")
    return table


def open_if_written(root: str, name: str, version: int | None = None) -> DeltaTable | None:
    """Open a table of a lake, at its newest version where none is given; return None where it was not written."""
    path = table_path(root, name)
    return DeltaTable(path, version=version) if is_written(path) else None


def open_dataset(table: DeltaTable) -> ds.Dataset:
    """Return the rows of a Delta table as a dataset that reads through Arrow's own file system.

    The default reads through a file system that calls Python from Arrow's threads: a process that ends meanwhile is
    aborted.
    """
    filesystem, base = open_filesystem(table.table_uri)
    return table.to_pyarrow_dataset(filesystem=fs.SubTreeFileSystem(base, filesystem))


def read_arrow(
    root: str,
    name: str,
    columns: list[str] | None = None,
    day: date | None = None,
    version: int | None = None,
    where: ds.Expression | None = None,
) -> pa.Table:
    """Return a table, one day of it, or its rows `where`, as Arrow. Raises UserError where it was not written."""
    rows = open_dataset(open_table(root, name, version))
    return rows.to_table(columns=columns, filter=where if day is None else ds.field("day") == day)


def sum_by(
    root: str, name: str, by: list[str], columns: list[str], where: ds.Expression | None = None
) -> dict[tuple, tuple[Decimal, ...]]:
    """Return the sums of `columns` for each combination of `by`, at constant memory; empty where it was not written."""
    sums: dict[tuple, tuple[Decimal, ...]] = {}
    if (table := open_if_written(root, name)) is None:
        return sums
    for batch in open_dataset(table).to_batches(columns=[*by, *columns], filter=where):
        grouped = pa.Table.from_batches([batch]).group_by(by).aggregate([(column, "sum") for column in columns])
        for row in grouped.to_pylist():
            key = tuple(row[column] for column in by)
            before = sums.get(key, (Decimal(0),) * len(columns))
            sums[key] = tuple(a + (row[f"{column}_sum"] or 0) for a, column in zip(before, columns, strict=True))
    return sums


def count_by(root: str, name: str, by: list[str], where: ds.Expression | None = None) -> Counter:
    """Return the number of rows for each combination of `by`, at constant memory; empty where it was not written."""
    counts: Counter = Counter()
    if (table := open_if_written(root, name)) is None:
        return counts
    for batch in open_dataset(table).to_batches(columns=by, filter=where):
        grouped = pa.Table.from_batches([batch]).group_by(by).aggregate([([], "count_all")])
        keys = zip(*(grouped[column].to_pylist() for column in by), strict=True)
        counts.update(dict(zip(keys, grouped["count_all"].to_pylist(), strict=True)))
    return counts


def list_days(root: str, name: str) -> list[date]:
    """Return the days that a table partitioned by day has rows of, in order, from its log alone."""
    if (table := open_if_written(root, name)) is None:
        return []
    files = table.get_add_actions(flatten=True)
    return sorted(set(files.column("partition.day").to_pylist()) - {None}) if files.num_rows else []


def count_rows(root: str, name: str, days: Collection[date] | None = None) -> int:
    """Return the number of rows of a table, or of `days` of one partitioned by day, from its log alone."""
    if days is not None:
        n_rows = count_rows_by_day(root, name)
        return sum(n_rows[day] for day in set(days))
    table = open_if_written(root, name)
    return 0 if table is None else sum(table.get_add_actions(flatten=True).column("num_records").to_pylist())


def count_rows_by_day(root: str, name: str) -> Counter:
    """Return the number of rows of each day of a table partitioned by day, from its log alone."""
    counts: Counter = Counter()
    if (table := open_if_written(root, name)) is not None and (files := table.get_add_actions(flatten=True)).num_rows:
        for day, n_rows in zip(files.column("partition.day").to_pylist(), files.column("num_records").to_pylist(), strict=True):
            counts[day] += n_rows
    return counts


def summarize_table(root: str, name: str) -> tuple[int, int, date | None] | None:
    """Return (version, rows, latest day or None) of a table from its log, or None where it was not written."""
    if (table := open_if_written(root, name)) is None:
        return None
    files = table.get_add_actions(flatten=True)
    column = next((c for c in ("partition.day", "max.day") if c in files.schema.names), None)
    newest = max((day for day in files.column(column).to_pylist() if day), default=None) if column else None
    return table.version(), sum(files.column("num_records").to_pylist()), newest


def read_properties(path: str) -> dict[str, str]:
    """Return the table properties of the Delta table at `path`."""
    return DeltaTable(path).metadata().configuration


def read_columns(path: str) -> set[str]:
    """Return the names of the columns of the Delta table at `path`."""
    return {column.name for column in DeltaTable(path).schema().fields}


def read_version(path: str) -> int:
    """Return the newest version of the Delta table at `path`, from its log."""
    filesystem, base = open_filesystem(path)
    names = (info.base_name for info in filesystem.get_file_info(fs.FileSelector(f"{base}/_delta_log")))
    return max(int(name[:20]) for name in names if name.endswith(".json") and _is_commit(name))


def _is_commit(name: str) -> bool:
    """
    >>> [_is_commit(f"{0:020}.{end}") for end in ("json", "checkpoint.parquet", "crc")], _is_commit("_last_checkpoint")
    ([True, True, False], False)
    """
    number, _, ending = name.partition(".")
    return len(number) == 20 and number.isdigit() and (ending == "json" or ending.startswith("checkpoint."))
