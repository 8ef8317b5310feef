"""The rows of a mapping's files in the shape of its bronze table, a batch at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from jobs import business_day
from jobs.bronze import _reading
from jobs.bronze._columns import FileGroup
from jobs.bronze._days import DATING_COLUMNS, TIME_COLUMNS, find_days
from jobs.bronze._sql import open_connection
from jobs.bronze._time_zones import append_offsets, complete_days
from jobs.bronze._values import evaluate_condition, evaluate_texts
from jobs.bronze._whole import LookupFiles, WholeFiles
from jobs.config.settings import Settings
from jobs.config.source_mapping import COLUMNS, TableMapping, choose_delivery
from jobs.storage.table import Table

# What the tallies among the rows count: rows of a file that were read, and rows of a file and day that `where` leaves out.
TALLIES = ("_n_read", "_n_left_out")
_VERSION_COLUMNS = ("order_id", "shop", "line_id", "line_no", "ordered_at", "updated_at")  # of orders
_BATCH_BYTES = 16 << 20  # small files are mapped together


def to_mapped_schema(table: Table) -> pa.Schema:
    """Return the columns of a table, and TALLIES, which only tallies have."""
    return pa.schema([*((f.name, f.type) for f in table.arrow_schema), *((tally, pa.int64()) for tally in TALLIES)])


@dataclass(frozen=True)
class FileMapper:
    """Reads the files of one mapping and applies its expressions.

    `lookups` are the files of its look-ups, `day` is the last day that is landed, `secret` the key under which personal fields
    are hashed. With `most_rows` only so many rows of each file are read.
    """

    settings: Settings
    root: str
    source: str
    table: Table
    mapping: TableMapping
    lookups: tuple[LookupFiles, ...]
    secret: str
    day: date
    landed_at: datetime
    most_rows: int | None = None

    def map_files(self, group: FileGroup) -> Iterator[pa.Table]:
        """Yield the rows of a group's files in the table's shape, and tallies of the rows read and left out."""
        with open_connection() as connection:
            for raw, unused in self._read_tables(connection, group):
                requested, left_out = self._split_rows(connection, raw)
                parts = [self._add_columns(self._map_rows(connection, requested)), self._tally(raw, "_n_read")]
                if self._lands_left_out:
                    parts.append(self._add_columns(self._map_left_out(connection, left_out)))
                else:
                    parts.append(self._tally(self._date_rows(connection, left_out), "_n_left_out"))
                if unused.num_rows:
                    parts += [self._tally(unused, "_n_read"), self._tally(self._date_unused(unused), "_n_left_out")]
                yield pa.concat_tables(parts)

    @property
    def _delivery(self) -> str:
        return choose_delivery(self.mapping)[0] if self.mapping.table == "orders" else ""

    @property
    def _lands_left_out(self) -> bool:
        """Whether rows that `where` leaves out are landed too, because they take earlier versions of their order away."""
        return self._delivery == "snapshots"

    def _read_tables(self, connection: duckdb.DuckDBPyConnection, group: FileGroup) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Yield the rows that expressions are applied to, and those of the file that are made into none."""
        if not self.mapping.is_whole:
            for raw in _gather_batches(batch for name in group.files for batch in self._read_batches(group, name)):
                yield raw, raw.slice(0, 0)
            return
        whole_files = WholeFiles(connection, self.root, self.mapping, self.lookups, self.secret)
        for name in group.files:
            if batches := list(self._read_batches(group, name)):
                yield whole_files.make_rows(pa.Table.from_batches(batches).combine_chunks(), name)

    def _read_batches(self, group: FileGroup, name: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file, its columns named as the mapping spells them, and those that it lacks as nulls."""
        n_left = self.most_rows
        for batch in _reading.read_rows(self.root, name, group.reading, group.used, self.secret):
            if n_left is not None:
                batch = batch.slice(0, n_left)
                n_left -= batch.num_rows
            n_used = len(group.used)
            absent = [pa.nulls(batch.num_rows, pa.string()) for _ in group.absent]
            columns = [*batch.columns[:n_used], *absent, *batch.columns[n_used:]]
            yield pa.RecordBatch.from_arrays(columns, names=[*group.names, *group.absent, *batch.schema.names[n_used:]])
            if n_left == 0:
                return

    def _split_rows(self, connection: duckdb.DuckDBPyConnection, raw: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Return the rows that `where` requests, malformed ones too, and those that it leaves out."""
        if not self.mapping.where:
            return raw, raw.slice(0, 0)
        is_malformed = pc.is_valid(pc.map_lookup(raw["_extra"], pa.scalar(_reading.MALFORMED), "first"))
        is_requested = pc.or_(is_malformed, evaluate_condition(connection, raw, self.mapping.where))
        return raw.filter(is_requested), raw.filter(pc.invert(is_requested))

    def _map_rows(self, connection: duckdb.DuckDBPyConnection, raw: pa.Table) -> pa.Table:
        """Return raw rows in the table's shape."""
        return self._add_origin(raw, self._evaluate(connection, raw, list(COLUMNS[self.mapping.table])), is_left_out=False)

    def _map_left_out(self, connection: duckdb.DuckDBPyConnection, raw: pa.Table) -> pa.Table:
        """Return rows of orders that are left out in the table's shape, with what says which order they are a version of."""
        return self._add_origin(raw, self._evaluate(connection, raw, list(_VERSION_COLUMNS)), is_left_out=True)

    def _add_origin(self, raw: pa.Table, texts: dict[str, pa.ChunkedArray], is_left_out: bool) -> pa.Table:
        n = raw.num_rows
        columns = texts | {
            "_extra": pa.nulls(n, raw.schema.field("_extra").type) if is_left_out else raw["_extra"],
            "_source": pa.repeat(self.source, n),
            "_file": raw["_file"],
            "_row": raw["_row"],
            "_file_day": self._file_days(raw),
            "_landed_at": pa.repeat(pa.scalar(self.landed_at, pa.timestamp("us", tz="UTC")), n),
        }
        if self.mapping.table == "orders":
            is_true = pa.repeat(True, n) if is_left_out else pa.nulls(n, pa.bool_())
            columns |= {"_delivery": pa.repeat(self._delivery, n), "_left_out": is_true}
        return self._add_day(pa.table(columns))

    def _evaluate(self, connection: duckdb.DuckDBPyConnection, raw: pa.Table, columns: list[str]) -> dict[str, pa.ChunkedArray]:
        """Return these of our columns as text; local times have the offset of the mapping's time zone, and days the time at
        which they begin in the shop's.
        """
        texts = evaluate_texts(connection, raw, self.mapping, columns)
        times = [column for column in TIME_COLUMNS.get(self.mapping.table, ()) if column in texts]
        if self.settings.business_time_zone != business_day.UTC:
            texts |= {column: complete_days(texts[column], self.settings.business_time_zone) for column in times}
        if self.mapping.time_zone != business_day.UTC:
            texts |= {column: append_offsets(texts[column], self.mapping.time_zone) for column in times}
        return texts

    def _date_rows(self, connection: duckdb.DuckDBPyConnection, raw: pa.Table) -> pa.Table:
        """Return the files and days of raw rows; no other column of them is computed."""
        texts = self._evaluate(connection, raw, list(DATING_COLUMNS[self.mapping.table]))
        return self._add_day(pa.table(texts | {"_file": raw["_file"], "_file_day": self._file_days(raw)}))

    def _date_unused(self, raw: pa.Table) -> pa.Table:
        """Return the files and days of rows of a file that are made into none: the days of the files."""
        texts = {column: pa.nulls(raw.num_rows, pa.string()) for column in DATING_COLUMNS[self.mapping.table]}
        return self._add_day(pa.table(texts | {"_file": raw["_file"], "_file_day": self._file_days(raw)}))

    def _file_days(self, raw: pa.Table) -> pa.Array:
        """Return the day that the name of each row's file states."""
        if self.mapping.file_day is None:
            return pa.nulls(raw.num_rows, pa.date32())
        names = raw["_file"].combine_chunks().dictionary_encode()
        days = pa.array([self.mapping.file_day_of(name) for name in names.dictionary.to_pylist()], pa.date32())
        return days.take(names.indices)

    def _add_day(self, rows: pa.Table) -> pa.Table:
        landed_on = business_day.find_day(self.landed_at, self.settings.business_time_zone)
        days = find_days(rows, self.mapping.table, self.settings, self.day, landed_on)
        return rows.append_column("day", days)

    def _tally(self, rows: pa.Table, tally: str) -> pa.Table:
        """Return the number of rows by file, and by day where the rows have one."""
        by = [column for column in ("_file", "day") if column in rows.column_names]
        counts = rows.select(by).group_by(by).aggregate([([], "count_all")])
        return self._add_columns(counts.rename_columns({**dict(zip(by, by, strict=True)), "count_all": tally}))

    def _add_columns(self, rows: pa.Table) -> pa.Table:
        """Return rows with all columns of to_mapped_schema, nulls in those that they lack."""
        schema = to_mapped_schema(self.table)
        columns = {
            f.name: rows[f.name].cast(f.type) if f.name in rows.column_names else pa.nulls(rows.num_rows, f.type) for f in schema
        }
        return pa.table(columns, schema)


def _gather_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield the rows of batches in tables of some megabytes."""
    gathered: list[pa.RecordBatch] = []
    n_bytes = 0
    for batch in batches:
        gathered.append(batch)
        n_bytes += batch.nbytes
        if n_bytes >= _BATCH_BYTES:
            yield pa.Table.from_batches(gathered).combine_chunks()
            gathered, n_bytes = [], 0
    if gathered:
        yield pa.Table.from_batches(gathered).combine_chunks()
