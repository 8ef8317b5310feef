"""The rows of a mapping's files in the shape of its bronze table, a batch at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from jobs.bronze import _reading
from jobs.bronze._columns import FileGroup
from jobs.bronze._days import DATING_COLUMNS, find_days
from jobs.bronze._sql import open_connection
from jobs.bronze._values import evaluate_condition, evaluate_texts
from jobs.config.settings import MAX_UNPACKED_GIB, Clean
from jobs.config.source_mapping import COLUMNS, TableMapping
from jobs.storage.table import Table

# What the tallies among the rows count: rows of a file that were read, and rows of a file and day that `where` leaves out.
TALLIES = ("_n_read", "_n_left_out")
_BATCH_BYTES = 16 << 20  # small files are mapped together


@dataclass(frozen=True)
class FileMapper:
    """Reads the files of one mapping and applies its expressions.

    `day` is the last day that is landed, `secret` the key under which personal fields are hashed. A compressed file may become
    `max_gib` GiB.
    """

    settings: Clean
    root: str
    source: str
    table: Table
    mapping: TableMapping
    secret: str
    day: date
    landed_at: datetime
    max_gib: float = MAX_UNPACKED_GIB

    @property
    def schema(self) -> pa.Schema:
        """The columns of the table, and TALLIES, which only tallies have."""
        return pa.schema([*((f.name, f.type) for f in self.table.arrow_schema), *((tally, pa.int64()) for tally in TALLIES)])

    def map_files(self, group: FileGroup) -> Iterator[pa.Table]:
        """Yield the rows of a group's files in the table's shape, and tallies of the rows read and left out."""
        with open_connection() as connection:
            for raw in _gather_batches(self._read_batches(group)):
                requested, left_out = self.split_rows(connection, raw)
                yield pa.concat_tables(
                    [
                        self._add_columns(self.map_rows(connection, requested)),
                        self._tally(raw, "_n_read"),
                        self._tally(self._date_rows(connection, left_out), "_n_left_out"),
                    ]
                )

    def map_first_rows(self, group: FileGroup, n: int) -> pa.Table:
        """Return in the table's shape those of the first `n` rows of a group's first file that are requested."""
        batch = next(self._read_batches(group), None)
        if batch is None:
            return self.schema.empty_table()
        with open_connection() as connection:
            requested, _ = self.split_rows(connection, pa.Table.from_batches([batch]).slice(0, n))
            return self.map_rows(connection, requested)

    def split_rows(self, connection: duckdb.DuckDBPyConnection, raw: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Return the rows that `where` requests, malformed ones too, and those that it leaves out."""
        if not self.mapping.where:
            return raw, raw.slice(0, 0)
        is_malformed = pc.is_valid(pc.map_lookup(raw["_extra"], pa.scalar(_reading.MALFORMED), "first"))
        is_requested = pc.or_(is_malformed, evaluate_condition(connection, raw, self.mapping.where))
        return raw.filter(is_requested), raw.filter(pc.invert(is_requested))

    def map_rows(self, connection: duckdb.DuckDBPyConnection, raw: pa.Table) -> pa.Table:
        """Return raw rows in the table's shape."""
        texts = evaluate_texts(connection, raw, self.mapping, list(COLUMNS[self.mapping.table]))
        columns = texts | {
            "_extra": raw["_extra"],
            "_source": pa.repeat(self.source, raw.num_rows),
            "_file": raw["_file"],
            "_row": raw["_row"],
            "_file_day": self._file_days(raw),
            "_landed_at": pa.repeat(pa.scalar(self.landed_at, pa.timestamp("us", tz="UTC")), raw.num_rows),
        }
        return self._add_day(pa.table(columns))

    def _date_rows(self, connection: duckdb.DuckDBPyConnection, raw: pa.Table) -> pa.Table:
        """Return the files and days of raw rows; no other column of them is computed."""
        texts = evaluate_texts(connection, raw, self.mapping, list(DATING_COLUMNS[self.mapping.table]))
        return self._add_day(pa.table(texts | {"_file": raw["_file"], "_file_day": self._file_days(raw)}))

    def _read_batches(self, group: FileGroup) -> Iterator[pa.RecordBatch]:
        for name in group.files:
            yield from _reading.read_rows(self.root, name, self.mapping, group.used, self.secret, self.max_gib)

    def _file_days(self, raw: pa.Table) -> pa.Array:
        """Return the day that the name of each row's file states."""
        if self.mapping.file_day is None:
            return pa.nulls(raw.num_rows, pa.date32())
        names = raw["_file"].combine_chunks().dictionary_encode()
        days = pa.array([self.mapping.file_day_of(name) for name in names.dictionary.to_pylist()], pa.date32())
        return days.take(names.indices)

    def _add_day(self, rows: pa.Table) -> pa.Table:
        days = find_days(rows, self.mapping.table, self.settings, self.day, self.landed_at.date())
        return rows.append_column("day", days)

    def _tally(self, rows: pa.Table, tally: str) -> pa.Table:
        """Return the number of rows by file, and by day where the rows have one."""
        by = [column for column in ("_file", "day") if column in rows.column_names]
        counts = rows.select(by).group_by(by).aggregate([([], "count_all")])
        return self._add_columns(counts.rename_columns({**dict(zip(by, by, strict=True)), "count_all": tally}))

    def _add_columns(self, rows: pa.Table) -> pa.Table:
        """Return rows with all columns of `schema`, nulls in those that they lack."""
        columns = {
            f.name: rows[f.name].cast(f.type) if f.name in rows.column_names else pa.nulls(rows.num_rows, f.type)
            for f in self.schema
        }
        return pa.table(columns, self.schema)


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
