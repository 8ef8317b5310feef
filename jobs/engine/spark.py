"""The Spark runner: the tasks of Spark read files, exchange buckets as Arrow streams in one shuffle, and write files.

A row of what the tasks exchange is a part of a table as an Arrow stream. Spark moves the bytes and never looks into them. Only
what Spark Connect serves is used, so the session may be in process, submitted to a cluster, or of a server.
"""

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from itertools import groupby
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.engine.tasks import (
    COLLECT,
    KEEP,
    LZ4,
    ROWS_PER_FILE,
    Call,
    Input,
    Kernel,
    Output,
    Part,
    Result,
    Tables,
    Write,
    list_parts,
    split_by_key,
)
from jobs.engine.workers import user_errors
from jobs.storage.commits import File, split_by, write_files
from jobs.storage.table import Table

_BLOBS = "kind STRING, name STRING, bucket INT, day DATE, content BINARY"
_BLOB_SCHEMA = pa.schema(
    [("kind", pa.string()), ("name", pa.string()), ("bucket", pa.int32()), ("day", pa.date32()), ("content", pa.binary())]
)
_BLOB_BYTES = 8 << 20
_FILE, _DAYS = "file", "days"  # kinds of blobs beside COLLECT and KEEP: a written file, rows to be gathered by day


@dataclass
class _Blobs:
    """Rows in buckets: the blobs of one name in a frame."""

    frame: DataFrame
    schema: pa.Schema
    n_buckets: int


class SparkRunner:
    """Carries kernels to rows in the tasks of a Spark session."""

    name = "spark"

    def __init__(self, spark: SparkSession, root: str):
        """`root` is the lake, which every worker reads and writes."""
        self._spark = spark
        self.root = root
        self._persisted: list[DataFrame] = []

    def read(self, inputs: Mapping[str, Input], n_buckets: int) -> dict[str, _Blobs]:
        """Return the rows of each input in buckets by their key."""
        return {name: _Blobs(self._split(input, n_buckets), input.schema, n_buckets) for name, input in inputs.items()}

    def run(self, kernel: Kernel, inputs: Mapping[str, _Blobs], outputs: Mapping[str, Output]) -> Result:
        """Run a kernel on each bucket of `inputs`, which read and earlier results gave, and treat its outputs as named."""
        n_buckets = next(iter(inputs.values())).n_buckets
        if n_buckets == 1:  # its task has the rows of each day together already
            outputs = {n: Write(output.table) if isinstance(output, Write) else output for n, output in outputs.items()}
        named = [blobs.frame.withColumn("name", F.lit(name)) for name, blobs in inputs.items()]
        buckets = _distribute(reduce(DataFrame.union, named), n_buckets, "bucket")
        run = _BucketTask(self.root, kernel, {name: blobs.schema for name, blobs in inputs.items()}, dict(outputs))
        blobs = buckets.mapInArrow(run, _BLOBS)
        gathered = {name: output.table for name, output in outputs.items() if isinstance(output, Write) and output.gather}
        if gathered or KEEP in outputs.values():
            self._persisted.append(blobs.persist(StorageLevel.DISK_ONLY))
        result = self._collect(blobs, outputs)
        if gathered:
            by_day = blobs.where(F.col("kind") == _DAYS).repartition(n_buckets, "name", "day")
            in_order = by_day.sortWithinPartitions("name", "day", "bucket")
            for row in self._fetch(in_order.mapInArrow(_GatherTask(self.root, gathered), _BLOBS)):
                result.files[row["name"]].append(pickle.loads(row["content"]))  # noqa: S301 - of our own task
        for name in (name for name, output in outputs.items() if output == KEEP):
            of_name = blobs.where((F.col("kind") == KEEP) & (F.col("name") == name))
            result.kept[name] = _Blobs(of_name, result.collected.pop(f"{KEEP} {name}").schema, n_buckets)
        result.files = {name: sorted(files, key=lambda file: file.path) for name, files in result.files.items()}
        return result

    def run_calls(self, calls: Sequence[Call], outputs: Mapping[str, Output]) -> Result:
        """Run each call in a task of its own, and collect or write its outputs as named."""
        tasks = self._to_tasks(calls, len(calls))
        return self._collect(tasks.mapInArrow(_CallTask(self.root, dict(outputs)), _BLOBS), outputs)

    def close(self) -> None:
        """Release what the session keeps for the runner."""
        for frame in self._persisted:
            frame.unpersist()
        self._persisted.clear()

    def _split(self, input: Input, n_buckets: int) -> DataFrame:
        parts = list_parts(self.root, input)
        n_tasks = 1 if n_buckets == 1 else len(parts)  # the rows of one bucket are read where they are worked on
        return self._to_tasks(parts, n_tasks).mapInArrow(_SplitTask(self.root, n_buckets), _BLOBS)

    def _to_tasks(self, values: Sequence[Part] | Sequence[Call], n_tasks: int) -> DataFrame:
        """Return a frame of these values in so many tasks."""
        rows = [(n, pickle.dumps(value)) for n, value in enumerate(values)]
        tasks = self._spark.createDataFrame(rows, "task INT, value BINARY")
        return _distribute(tasks, max(1, n_tasks), "task")

    def _collect(self, blobs: DataFrame, outputs: Mapping[str, Output]) -> Result:
        """Return what the tasks collected and wrote. The columns of kept outputs come along, with no rows."""
        tables: dict[str, list[tuple[int, pa.Table]]] = {}
        result = Result(files={name: [] for name, output in outputs.items() if isinstance(output, Write)})
        for row in self._fetch(blobs.where(F.col("kind").isin(COLLECT, _FILE))):
            if row["kind"] == _FILE:
                result.files[row["name"]].append(pickle.loads(row["content"]))  # noqa: S301 - of our own task
            else:
                tables.setdefault(row["name"], []).append((row["bucket"], _from_ipc(row["content"])))
        for name, parts in tables.items():
            result.collected[name] = pa.concat_tables([table for _, table in sorted(parts, key=lambda part: part[0])])
        return result

    def _fetch(self, blobs: DataFrame) -> list[dict]:
        with user_errors():
            return blobs.toArrow().to_pylist()


def _distribute(frame: DataFrame, n: int, column: str) -> DataFrame:
    """Return the rows of each of the `n` values of a column in a partition of their own; all in one need no shuffle."""
    return frame.coalesce(1) if n == 1 else frame.repartitionById(n, column)


@dataclass(frozen=True)
class _SplitTask:
    """Reads parts of an input and yields the rows of each bucket."""

    root: str
    n_buckets: int

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for content in batch.column("value").to_pylist():
                part: Part = pickle.loads(content)  # noqa: S301 - of our own driver
                for rows in part.read(self.root):
                    buckets = split_by_key(part.input, rows, self.n_buckets) if self.n_buckets > 1 else [rows]
                    for bucket, some in enumerate(buckets):
                        if some.num_rows:
                            yield from _to_blobs("input", "", bucket, some)


@dataclass(frozen=True)
class _BucketTask:
    """Runs the kernel on the bucket of a partition and yields its outputs."""

    root: str
    kernel: Kernel
    schemas: dict[str, pa.Schema]
    outputs: dict[str, Output]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parts: dict[str, list[pa.Table]] = {name: [schema.empty_table()] for name, schema in self.schemas.items()}
        bucket = 0
        for batch in batches:
            for row in batch.to_pylist():
                bucket = row["bucket"]
                parts[row["name"]].append(_from_ipc(row["content"]).cast(self.schemas[row["name"]]))
        tables: Tables = {name: pa.concat_tables(parts.pop(name)) for name in self.schemas}
        rows_by_name = self.kernel(tables)
        del tables
        for name, output in self.outputs.items():
            yield from _treat(self.root, name, output, bucket, rows_by_name.pop(name))


@dataclass(frozen=True)
class _CallTask:
    """Runs calls and yields their outputs."""

    root: str
    outputs: dict[str, Output]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for n, content in zip(batch.column("task").to_pylist(), batch.column("value").to_pylist(), strict=True):
                call: Call = pickle.loads(content)  # noqa: S301 - of our own driver
                rows_by_name = call.run(self.root)
                for name, output in self.outputs.items():
                    yield from _treat(self.root, name, output, n, rows_by_name.pop(name))


def _treat(root: str, name: str, output: Output, bucket: int, rows: pa.Table) -> Iterator[pa.RecordBatch]:
    if output == COLLECT:
        yield from _to_blobs(COLLECT, name, bucket, rows)
    elif output == KEEP:
        yield from _to_blobs(COLLECT, f"{KEEP} {name}", bucket, rows.slice(0, 0))
        yield from _to_blobs(KEEP, name, bucket, rows)
    elif output.gather:
        for day, part in split_by(rows, "day"):
            yield from _to_blobs(_DAYS, name, bucket, part, day)
    else:
        yield from _to_file_blobs(name, write_files(root, output.table, rows))


@dataclass(frozen=True)
class _GatherTask:
    """Writes each day of the tables out of the blobs of all buckets, which come in the order of name, day and bucket.

    A day of very many rows becomes several files.
    """

    root: str
    tables: dict[str, Table]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = (row for batch in batches for row in batch.to_pylist())
        for (name, _), blobs in groupby(rows, key=lambda row: (row["name"], row["day"])):
            for portion in _read_portions(blobs):
                yield from _to_file_blobs(name, write_files(self.root, self.tables[name], portion))


def _read_portions(blobs: Iterable[dict]) -> Iterator[pa.Table]:
    """Yield the rows of blobs, so many at once as fit into memory."""
    tables: list[pa.Table] = []
    for blob in blobs:
        tables.append(_from_ipc(blob["content"]))
        if sum(table.num_rows for table in tables) >= ROWS_PER_FILE:
            yield pa.concat_tables(tables)
            tables = []
    if tables:
        yield pa.concat_tables(tables)


def _to_blobs(kind: str, name: str, bucket: int, rows: pa.Table, day: date | None = None) -> Iterator[pa.RecordBatch]:
    """Yield rows as blobs of some megabytes, at least one, so that the columns of no rows come along."""
    size = max(1, rows.num_rows // max(1, rows.nbytes // _BLOB_BYTES))
    for start in range(0, max(1, rows.num_rows), size):
        yield _to_batch(kind, name, bucket, day, _to_ipc(rows.slice(start, size)))


def _to_file_blobs(name: str, files: list[File]) -> Iterator[pa.RecordBatch]:
    for file in files:
        yield _to_batch(_FILE, name, 0, None, pickle.dumps(file))


def _to_batch(kind: str, name: str, bucket: int, day: date | None, content: bytes) -> pa.RecordBatch:
    columns: list[list[Any]] = [[kind], [name], [bucket], [day], [content]]
    return pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, _BLOB_SCHEMA, strict=True)], schema=_BLOB_SCHEMA)


def _to_ipc(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=LZ4) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()


def _from_ipc(content: bytes) -> pa.Table:
    return pa.ipc.open_stream(content).read_all()
