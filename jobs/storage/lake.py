"""The one place where Delta tables are created, read or written with Spark.

A write replaces exactly the days or the rows it is about, in one commit, so that every step can be run again. Tables
stay at Delta reader version 1, so that every client reads them.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from functools import cached_property, reduce, wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, runtime_checkable

import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import DataFrame, SparkSession

from jobs.errors import UserError
from jobs.progress import log
from jobs.storage import commits, delta
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table, days_predicate

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
Cache = Callable[[DataFrame], DataFrame]

_SHUFFLE_PARTITIONS = "spark.sql.shuffle.partitions"
_ROWS_PER_PARTITION = 250_000  # of events in cleaning: 25 MB on the wire, 125 MB in memory
_REFUSALS = (
    "Permission denied", "AccessDeniedException", "Read-only file system", "Mkdirs failed", "CANNOT_CREATE_LOG_PATH",
    "ParentNotDirectory", "Not a directory",
)  # fmt: skip
_NO_SPACE = "No space left"
_CONFLICTS = ("DELTA_CONCURRENT_", "DELTA_METADATA_CHANGED", "DELTA_PROTOCOL_CHANGED")


@runtime_checkable
class Session(Protocol):
    """A Spark session that is opened when it is first used, such as jobs.engine.lazy_session.LazySession."""

    def begin(self) -> None:
        """Start to open the session beside what is being done."""

    def open(self) -> SparkSession:
        """Return the session, once it is open."""

    @property
    def is_begun(self) -> bool:
        """Whether the session is open or about to be."""


class Lake:
    """The Delta tables under one root, and a Spark session for those who need one."""

    def __init__(self, spark: SparkSession | Session | None, root: str):
        """`spark` may be None where only the methods are called that need no Spark job."""
        self._spark = spark
        self.root = root

    @property
    def spark(self) -> SparkSession | None:
        """The Spark session, which is opened now where it was not before."""
        return self._spark.open() if isinstance(self._spark, Session) else self._spark

    @property
    def has_session(self) -> bool:
        """Whether a Spark session is open or about to be."""
        return self._spark.is_begun if isinstance(self._spark, Session) else self._spark is not None

    def begin_session(self) -> None:
        """Start to open the Spark session where it is not open yet, for somebody who will need it in a while."""
        if isinstance(self._spark, Session):
            self._spark.begin()

    @cached_property
    def _least_partitions(self) -> int:
        """The number of shuffle partitions with which the session was opened."""
        return int(self.spark.conf.get(_SHUFFLE_PARTITIONS))

    def set_shuffle_partitions(self, rows: int) -> None:
        """Set the number of shuffle partitions so that a task can hold its part of `rows` in memory."""
        partitions = max(self._least_partitions, -(-rows // _ROWS_PER_PARTITION))
        self.spark.conf.set(_SHUFFLE_PARTITIONS, str(partitions))

    def path(self, name: str) -> str:
        """Return where the table `<layer>.<table>` lies."""
        return delta.table_path(self.root, name)

    def exists(self, name: str) -> bool:
        """Return whether a table was written."""
        return delta.is_written(self.path(name))

    def read(self, table: Table | str, start: date | None = None, end: date | None = None) -> DataFrame:
        """Return all rows of a table, or those of the days from `start` to `end`, both included.

        A Table that was never written reads as empty. A bare name must exist, else UserError is raised.
        """
        name = table if isinstance(table, str) else table.name
        if not self.exists(name):
            if isinstance(table, Table):
                return self.spark.createDataFrame([], schema=table.schema)
            raise UserError(f"lake: table {name} does not exist in {self.root}; run the step that writes it first")
        frame = self.spark.read.format("delta").load(self.path(name))
        if start is not None:
            frame = frame.where(frame.day >= start)
        if end is not None:
            frame = frame.where(frame.day <= end)
        return frame

    def read_small_table(
        self, table: Table | str, columns: list[str] | None = None, where: ds.Expression | None = None
    ) -> list[dict]:
        """Return the rows of a small table as dictionaries, without a Spark job; none where it was never written."""
        name = table if isinstance(table, str) else table.name
        stored = delta.open_if_written(self.root, name)
        return [] if stored is None else delta.open_dataset(stored).to_table(columns=columns, filter=where).to_pylist()

    def read_arrow(self, table: Table, columns: list[str] | None = None) -> pa.Table:
        """Return a table, or columns of it, as Arrow; no rows where it was never written."""
        return read_rows(self.root, Rows(table, "", columns and tuple(columns)))

    def open_for_write(self, table: Table) -> commits.OpenTable:
        """Create the table where it is missing and open it: what is committed to it replaces what it holds now."""
        return commits.open_for_write(self.root, table)

    def replace_rows(self, table: Table, rows: pa.Table, days: Collection[date] | None = None) -> int:
        """Make `rows` the rows of exactly these days, or of the whole table, without Spark; return the number of rows."""
        return commits.replace_rows(self.root, table, rows, days)

    def replace_where(self, table: Table, rows: pa.Table, where: ds.Expression) -> int:
        """Make `rows` the rows that fulfil `where` of a table without partitions; return their number."""
        return commits.replace_where(self.root, table, rows, where)

    def discard(self, table: Table, files: Collection[commits.File]) -> None:
        """Remove files that no version of the table names."""
        commits.discard_files(self.root, table, files)

    def days(self, name: str) -> list[date]:
        """Return the days that a table partitioned by day has rows of, in order, from its log alone."""
        return delta.list_days(self.root, name)

    def count_rows(self, name: str, days: Collection[date] | None = None) -> int:
        """Return the number of rows of a table, or of `days` of one partitioned by day, from its log alone."""
        return delta.count_rows(self.root, name, days)

    def count_by(self, name: str, by: list[str], where: ds.Expression | None = None) -> Counter:
        """Return the number of rows for each combination of `by`, without a Spark job and at constant memory."""
        return delta.count_by(self.root, name, by, where)

    def version(self, name: str) -> int:
        """Return the newest version of a table."""
        return delta.read_last_commit(self.path(name))[0]

    def properties(self, name: str) -> dict[str, str]:
        """Return the table properties of a table."""
        return delta.read_properties(self.path(name))

    def replace_days(self, table: Table, frame: DataFrame, days: Iterable[date]) -> int:
        """Make `frame` the table's rows of exactly these days; return the number of rows written."""
        days = sorted(set(days))
        return self.replace(table, frame, days_predicate(days), gather=len(days) > 1) if days else 0

    def replace(self, table: Table, frame: DataFrame, where: str | None = None, gather: bool = True) -> int:
        """Make `frame` the rows that fulfil the SQL predicate `where`, or the whole table; return the rows written.

        With `gather` the rows of a partition are put together before they are written, so that it gets few files.
        Raises UserError where the frame differs from the contract or holds a row outside `where`.
        """
        started = time.monotonic()
        self.create(table)
        frame = _match_contract(table, frame)
        if table.partition and gather:
            frame = frame.hint("rebalance", table.partition)  # one file a day unless a day is large
        before, _ = delta.read_last_commit(self.path(table.name))
        writer = frame.write.format("delta").mode("overwrite")
        if where is not None:
            writer = writer.option("replaceWhere", where)
        with self._storage_errors(table):
            writer.save(self.path(table.name))
        version, rows = delta.read_last_commit(self.path(table.name))
        rows = rows if version > before else 0  # no rows in the place of none are no commit
        log(f"wrote {table.name:<28} {rows:>12,} rows {time.monotonic() - started:7.1f} s  version {version}")
        return rows

    def create(self, table: Table) -> None:
        """Create the table where it is missing; add columns that the contract has gained."""
        commits.create_table(self.root, table)

    def set_property(self, table: Table, key: str, value: str) -> None:
        """Set a table property that clients without Spark can read too; write nothing where it is set already."""
        commits.set_property(self.root, table, key, value)

    @contextmanager
    def _storage_errors(self, table: Table) -> Iterator[None]:
        """Turn a write that the storage refuses into one line; Spark has no error type for it that Connect keeps."""
        try:
            yield
        except Exception as error:
            message = str(error)
            if any(conflict in message for conflict in _CONFLICTS):
                raise UserError(
                    f"lake: another run changed table {table.name} in {self.root} meanwhile, and this one left it so; "
                    "run again when it has ended"
                ) from error
            if _NO_SPACE in message:
                raise UserError(
                    f"lake: no space is left in {self.root} (table {table.name} stays as it was); make room and run again"
                ) from error
            if any(refusal in message for refusal in _REFUSALS):
                raise UserError(
                    f"lake: {self.root} cannot be written (table {table.name}); choose another root with SHOAL_LAKE"
                ) from error
            raise


def _match_contract(table: Table, frame: DataFrame) -> DataFrame:
    """Return the frame's columns in the contract's order. Raises UserError where names or types differ."""
    declared = {column.name: column.sql_type for column in table.fields}
    actual = {column.name: column.dataType.simpleString() for column in frame.schema}
    problems = [f"{name} is missing" for name in declared if name not in actual]
    problems += [f"{name} is not in the contract" for name in actual if name not in declared]
    problems += [f"{n} is {actual[n]}, not {declared[n]}" for n in declared if n in actual and actual[n] != declared[n]]
    if problems:
        raise UserError(f"lake: rows for {table.name} break its contract: {'; '.join(problems)}")
    return frame.select(*declared)


def union_all(frames: list[DataFrame]) -> DataFrame:
    """Return all rows of frames that have the same columns."""
    return reduce(lambda first, second: first.unionByName(second), frames)


def with_cached_frames(
    function: Callable[Concatenate[Cache, _Arguments], _Result],
) -> Callable[_Arguments, _Result]:
    """Give a function, as its first argument, `cache(frame)`, and release all cached frames when it has ended.

    The frame cached last is released first: a frame that is read after its source was released is computed again.
    """

    @wraps(function)
    def with_cache(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with ExitStack() as stack:

            def cache(frame: DataFrame) -> DataFrame:
                stack.callback(frame.persist().unpersist)
                return frame

            return function(cache, *args, **kwargs)

    return with_cache
