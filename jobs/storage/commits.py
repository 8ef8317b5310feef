"""Delta tables created and written without Spark: the files first, then one entry of the log that replaces the rows.

Until that entry is written nothing has changed. A process killed before it leaves files that no table names. delta-rs checks
neither NOT NULL nor CHECK, so the rows are checked before they become files.
"""

import atexit
import errno
import json
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.schema import Field, Schema
from deltalake.transaction import AddAction, RemoveAction

from jobs.errors import UserError
from jobs.progress import log
from jobs.storage import delta
from jobs.storage.files import create_if_missing, open_filesystem
from jobs.storage.table import Column, Table

# The partition decides which files hold a row; bounds of all columns would take a fifth of the time of a write.
PROPERTIES = {"delta.dataSkippingNumIndexedCols": "4"}
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # of a partition, in a path
_LONGEST_BOUND = 32  # characters of a text in a file's bounds
_ROWS_PER_GROUP = 65_536  # of a file: each group is read by one thread


@dataclass(frozen=True)
class File:
    """A file of rows that no version of the table names yet; `path` is relative to the table."""

    path: str
    partition: dict[str, str | None]
    n_bytes: int
    n_rows: int
    stats: str

    def to_action(self) -> AddAction:
        """Return the entry of the log that adds the file."""
        return AddAction(self.path, self.n_bytes, self.partition, int(time.time() * 1000), True, self.stats)


def create_table(root: str, table: Table) -> None:
    """Create a table where it is missing, and add the columns that its contract has gained."""
    path = delta.table_path(root, table.name)
    with storage_errors(root, table):
        if not delta.is_written(path):
            create_if_missing(f"{path}/_delta_log/{0:020}.json", _first_entry(table))
            return
        stored = delta.read_columns(path)
        if missing := [column for column in table.fields if column.name not in stored]:
            DeltaTable(path).alter.add_columns(Schema.from_json(_schema_json(missing)).fields)


def set_property(root: str, table: Table, key: str, value: str) -> None:
    """Set a table property that every client can read; write nothing where it is set already."""
    path = delta.table_path(root, table.name)
    if delta.read_properties(path).get(key) != value:
        with storage_errors(root, table):
            DeltaTable(path).alter.set_table_properties({key: value}, raise_if_not_exists=False)


@dataclass
class OpenTable:
    """A table at the version that a commit replaces rows of."""

    root: str
    table: Table
    stored: DeltaTable
    opened_at: float

    def commit(self, files: Collection[File], days: Collection[date | None] | None) -> int:
        """Make `files` the rows of exactly these days, or of the whole table where None; return the number of rows.

        Nothing is written where there are and were no such rows. Raises UserError where the table has changed since it was
        opened.
        """
        if days is not None and self.table.partition is None:
            return self.commit_where(files, ds.field("day").isin(list(days)))
        return self._commit(files, _list_removals(self.stored, self.table, days))

    def commit_where(self, files: Collection[File], where: ds.Expression) -> int:
        """Make `files` the rows of a table without partitions that fulfil `where`; return their number.

        Other rows of the files that hold such rows are written again. Which files may hold one is read from the log.
        """
        kept, paths = [], set()
        for fragment in delta.open_dataset(self.stored).get_fragments(filter=where):
            if fragment.count_rows(filter=where):
                paths.add(fragment.path.lstrip("/"))
                kept.append(fragment.to_table(schema=self.table.arrow_schema, filter=~where | where.is_null()))
        rewritten = write_files(self.root, self.table, pa.concat_tables([self.table.arrow_schema.empty_table(), *kept]))
        removes = [action for action in _list_removals(self.stored, self.table, None) if action.path in paths]
        return self._commit(files, removes, rewritten)

    def append(self, files: Collection[File]) -> None:
        """Add the rows of `files` to those that are there, without a line of progress."""
        self._write_entry([file.to_action() for file in files], sum(file.n_rows for file in files))

    def _commit(self, files: Collection[File], removes: list[RemoveAction], rewritten: Collection[File] = ()) -> int:
        n_rows = sum(file.n_rows for file in files)
        self._write_entry([*(file.to_action() for file in (*files, *rewritten)), *removes], n_rows)
        seconds = time.monotonic() - self.opened_at
        log(f"wrote {self.table.name:<28} {n_rows:>12,} rows {seconds:7.1f} s  version {self.stored.version()}")
        return n_rows

    def _write_entry(self, actions: list[AddAction | RemoveAction], n_rows: int) -> None:
        """Write one entry of the log, unless it would be empty."""
        if actions:
            adds = [action for action in actions if isinstance(action, AddAction)]
            metrics = {"operationMetrics": {"numOutputRows": str(n_rows), "numFiles": str(len(adds))}}
            with storage_errors(self.root, self.table):
                self.stored.create_write_transaction(
                    actions,
                    mode="append",  # what is replaced is removed by name
                    schema=self.stored.schema(),
                    partition_by=[self.table.partition] if self.table.partition else [],
                    commit_properties=CommitProperties(custom_metadata=metrics, max_commit_retries=0),
                )
            self.stored.update_incremental()


def open_for_write(root: str, table: Table) -> OpenTable:
    """Create the table where it is missing and open it: what is committed to it replaces what it holds now."""
    started = time.monotonic()
    create_table(root, table)
    return OpenTable(root, table, DeltaTable(delta.table_path(root, table.name)), started)


def _list_removals(stored: DeltaTable, table: Table, days: Collection[date | None] | None) -> list[RemoveAction]:
    """Return the entries of the log that remove the files of these days, or all."""
    actions = stored.get_add_actions(flatten=True)
    if not actions.num_rows:
        return []
    paths, sizes = actions.column("path").to_pylist(), actions.column("size_bytes").to_pylist()
    keys = actions.column(f"partition.{table.partition}").to_pylist() if table.partition else [None] * len(paths)
    now = int(time.time() * 1000)
    return [
        RemoveAction(path, True, now, size, {table.partition: None if key is None else str(key)} if table.partition else {})
        for path, size, key in zip(paths, sizes, keys, strict=True)
        if days is None or key in set(days)
    ]


def write_files(root: str, table: Table, rows: pa.Table) -> list[File]:
    """Write rows as files of a table, one for each value of its partition, and return them.

    Raises UserError where the rows break the table's contract.
    """
    rows = match_contract(table, rows)
    _check_rows(table, rows)
    with storage_errors(root, table):
        if table.partition is None:
            return [_write_file(root, table, rows, {})] if rows.num_rows else []
        return [
            _write_file(root, table, part.drop_columns([table.partition]), {table.partition: None if key is None else str(key)})
            for key, part in split_by(rows, table.partition)
        ]


def replace_rows(root: str, table: Table, rows: pa.Table, days: Collection[date] | None = None) -> int:
    """Make `rows` the rows of exactly these days, or of the whole table; return the number of rows."""
    opened = open_for_write(root, table)
    return opened.commit(write_files(root, table, rows), days)


def replace_where(root: str, table: Table, rows: pa.Table, where: ds.Expression) -> int:
    """Make `rows` the rows of a table without partitions that fulfil `where`; return their number."""
    opened = open_for_write(root, table)
    return opened.commit_where(write_files(root, table, rows), where)


def discard_files(root: str, table: Table, files: Collection[File]) -> None:
    """Remove files that no version of a table names."""
    filesystem, base = open_filesystem(delta.table_path(root, table.name))
    for file in files:
        filesystem.delete_file(f"{base}/{file.path}")


def match_contract(table: Table, rows: pa.Table) -> pa.Table:
    """Return the columns of the contract, in its order and types. Raises UserError where one is missing or is another."""
    if set(rows.column_names) != set(table.columns):
        missing = [f"{name} is missing" for name in table.columns if name not in rows.column_names]
        missing += [f"{name} is not in the contract" for name in rows.column_names if name not in table.columns]
        raise UserError(f"lake: rows for {table.name} break its contract: {'; '.join(missing)}")
    rows = rows.select(table.columns)
    try:
        return pa.Table.from_arrays(
            [c.cast(f.type) for c, f in zip(rows.columns, table.arrow_schema, strict=True)], table.columns
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        differing = [
            f"{field.name} is {stored.type}, not {field.type}"
            for field, stored in zip(table.arrow_schema, rows.schema, strict=True)
            if field.type != stored.type
        ]
        raise UserError(f"lake: rows for {table.name} break its contract: {'; '.join(differing)}") from None


def split_by(rows: pa.Table, column: str) -> Iterator[tuple[Any, pa.Table]]:
    """Yield each value of a column with its rows, in the order of the values; the order of its rows is kept."""
    values = rows[column].combine_chunks()
    is_sorted = values.null_count == 0 and pc.all(pc.less_equal(values[:-1], values[1:])).as_py() if len(values) else True
    if not is_sorted:
        order = pc.sort_indices(values)
        rows, values = rows.take(order), values.take(order)
    runs = pc.run_end_encode(values)
    start = 0
    for value, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        yield value, rows.slice(start, end - start)
        start = end


def _first_entry(table: Table) -> bytes:
    """Return version 0 of a table: its columns, comments, constraints and properties, as Spark reads them."""
    now = int(time.time() * 1000)
    checks = {f"delta.constraints.{name}": check for name, check in table.checks.items()}
    metadata = {
        "id": str(uuid.uuid4()),
        "description": " ".join(table.about.split()),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": _schema_json(table.fields),
        "partitionColumns": [table.partition] if table.partition else [],
        "configuration": PROPERTIES | checks | table.properties,
        "createdTime": now,
    }
    actions = [
        {"commitInfo": {"timestamp": now, "operation": "CREATE TABLE", "operationParameters": {}}},
        {"metaData": metadata},
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 3 if checks else 2}},
    ]
    return "".join(json.dumps(action) + "\n" for action in actions).encode()


def _schema_json(columns: list[Column]) -> str:
    """Return columns as the log of Delta has them."""
    fields = [Field.from_arrow(pa.field(c.name, c.arrow_type, c.nullable)) for c in columns]
    typed = [json.loads(field.to_json()) for field in fields]
    for field, column in zip(typed, columns, strict=True):
        field["metadata"] = {"comment": column.comment} if column.comment else {}
    return json.dumps({"type": "struct", "fields": typed})


def _check_rows(table: Table, rows: pa.Table) -> None:
    """Raise UserError for the first row that breaks NOT NULL or a CHECK of the table; no cell is quoted."""
    for column in table.fields:
        if not column.nullable and rows[column.name].null_count:
            first = pc.index(pc.is_null(rows[column.name]), True).as_py()
            _raise_broken(table, rows, first, rows[column.name].null_count, f"{column.name} NOT NULL")
    if not table.checks:
        return
    columns = ", ".join(f"NOT ({check}) AS {name}" for name, check in table.checks.items())
    with _open_database().cursor() as connection:  # a connection of its own, because threads write at the same time
        breaks = connection.sql(f"SELECT {columns} FROM rows").to_arrow_table()  # noqa: S608
    for name, check in table.checks.items():
        if pc.any(breaks[name]).as_py():
            n_rows = pc.sum(breaks[name]).as_py()
            _raise_broken(table, rows, pc.index(breaks[name], True).as_py(), n_rows, f"{name} ({check})")


@cache
def _open_database() -> duckdb.DuckDBPyConnection:
    """Open a database in memory, once: that takes longer than the checks of a small day."""
    atexit.register(_open_database.cache_clear)  # DuckDB complains of a database that is open when Python ends
    return duckdb.connect()


def _raise_broken(table: Table, rows: pa.Table, first: int, n_rows: int, rule: str) -> None:
    day = f", day {rows['day'][first]}" if "day" in rows.column_names else ""
    raise UserError(
        f"lake: {table.name}{day}: {n_rows:,} of {rows.num_rows:,} rows break {rule}, the first is row {first + 1};"
        " nothing was written"
    )


def _write_file(root: str, table: Table, rows: pa.Table, partition: dict[str, str | None]) -> File:
    folder = "".join(f"{name}={_NO_VALUE if value is None else value}/" for name, value in partition.items())
    path = f"{folder}part-{uuid.uuid4()}.parquet"
    filesystem, base = open_filesystem(f"{delta.table_path(root, table.name)}/{path}")
    filesystem.create_dir(base.rsplit("/", 1)[0], recursive=True)
    with filesystem.open_output_stream(base) as stream:
        pq.write_table(rows, stream, compression="snappy", write_statistics=False, row_group_size=_ROWS_PER_GROUP)
    n_bytes = filesystem.get_file_info(base).size
    return File(path, partition, n_bytes, rows.num_rows, json.dumps(_measure_file(table, rows)))


def _measure_file(table: Table, rows: pa.Table) -> dict:
    """Return the bounds of a file as the log has them: of the columns that the table's properties name, else of the first."""
    named = table.properties.get("delta.dataSkippingStatsColumns")
    first = rows.column_names[: int((PROPERTIES | table.properties)["delta.dataSkippingNumIndexedCols"])]
    columns = [name for name in (named.split(",") if named else first) if not pa.types.is_nested(rows[name].type)]
    stats: dict = {"numRecords": rows.num_rows, "minValues": {}, "maxValues": {}, "nullCount": {}}
    for name in columns:
        stats["nullCount"][name] = rows[name].null_count
        if pa.types.is_boolean(rows[name].type) or rows[name].null_count == rows.num_rows:
            continue
        bounds = pc.min_max(rows[name]).as_py()
        stats["minValues"][name] = _to_bound(bounds["min"])
        if not (isinstance(bounds["max"], str) and len(bounds["max"]) > _LONGEST_BOUND):
            stats["maxValues"][name] = _to_bound(bounds["max"])
    return stats


def _to_bound(value: Any) -> Any:
    """
    >>> _to_bound(datetime(2024, 3, 1, 9, tzinfo=UTC)), _to_bound(date(2024, 3, 1)), _to_bound("x" * 40) == "x" * 32
    ('2024-03-01T09:00:00.000000Z', '2024-03-01', True)
    """
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, date):
        return str(value)
    if isinstance(value, Decimal):
        return float(value)
    return value[:_LONGEST_BOUND] if isinstance(value, str) else value


@contextmanager
def storage_errors(root: str, table: Table) -> Iterator[None]:
    """Turn a write that the storage or another run refuses into one line."""
    try:
        yield
    except CommitFailedError as error:
        raise UserError(
            f"lake: another run changed table {table.name} in {root} meanwhile, and this one left it so;"
            " run again when it has ended"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"lake: no space is left in {root} (table {table.name} stays as it was); make room and run again"
            ) from error
        raise UserError(f"lake: {root} cannot be written (table {table.name}); choose another root with SHOAL_LAKE") from error
