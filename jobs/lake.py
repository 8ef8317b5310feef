"""The one place where Delta tables are created, read or written.

A table lies at `<root>/<layer>/<table>`. A write replaces exactly the days or the rows it is about, in one commit, so
that every step can be run again. Tables stay at Delta reader version 1, so that every client reads them.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property, reduce, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import pyarrow as pa
from pyarrow import fs

from jobs.errors import UserError

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    from deltalake import DeltaTable
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType


_Key = TypeVar("_Key", bound=Hashable)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
Keep = Callable[["DataFrame"], "DataFrame"]

# Which files hold a row is decided by the day; bounds of all columns would be a fifth of the time to write them.
_PROPERTIES = {"delta.dataSkippingNumIndexedCols": "4"}
_PARTITIONS = "spark.sql.shuffle.partitions"
_ROWS_PER_PARTITION = 250_000  # of events with all that cleaning adds: 25 MB as they are sent, 125 MB at work
_MOST_RUNS = 8
_AT_ONCE = 2
_REFUSALS = (
    "Permission denied", "AccessDeniedException", "Read-only file system", "Mkdirs failed", "CANNOT_CREATE_LOG_PATH",
    "ParentNotDirectory", "Not a directory",
)  # fmt: skip
_NO_SPACE = "No space left"
_CONFLICTS = ("DELTA_CONCURRENT_", "DELTA_METADATA_CHANGED", "DELTA_PROTOCOL_CHANGED")


@dataclass(frozen=True)
class Table:
    """A table's contract: what BI sees and what every write is held to.

    `schema` is DDL with a comment per column; `checks` are CHECK constraints by name; `partition` is a column or None.
    """

    name: str
    about: str
    schema: str
    partition: str | None = None
    checks: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The names in the schema, in order; what stands inside brackets or quotes is a type or a comment."""
        bare = re.sub(r"'[^']*'", "", self.schema)
        while (inner := re.sub(r"<[^<>]*>|\([^()]*\)", "", bare)) != bare:
            bare = inner
        return [part.split()[0].strip("`") for part in bare.split(",")]


class Lake:
    """The Delta tables under one root, through one Spark session."""

    def __init__(self, spark: "SparkSession", root: str):
        self.spark = spark
        self.root = root

    @cached_property
    def _partitions(self) -> int:
        """Of a shuffle, as the session was opened."""
        return int(self.spark.conf.get(_PARTITIONS))

    def spread(self, rows: int) -> None:
        """Let shuffles from now on have so many partitions that a task can hold its part of `rows` in memory."""
        self.spark.conf.set(_PARTITIONS, str(max(self._partitions, -(-rows // _ROWS_PER_PARTITION))))

    def path(self, name: str) -> str:
        return f"{self.root}/{name.replace('.', '/')}"

    def exists(self, name: str) -> bool:
        filesystem, path = _at(self.path(name))
        return filesystem.get_file_info(f"{path}/_delta_log").type == fs.FileType.Directory

    def read(self, table: "Table | str", start: date | None = None, end: date | None = None) -> "DataFrame":
        """All rows, or those of the days from `start` to `end`, both included.

        A Table that was never written reads as empty; a bare name must exist, else UserError.
        """
        name = table if isinstance(table, str) else table.name
        if not self.exists(name):
            if isinstance(table, Table):
                return self.spark.createDataFrame([], schema=self._declared(table))
            raise UserError(f"lake: table {name} does not exist in {self.root}; run the step that writes it first")
        frame = self.spark.read.format("delta").load(self.path(name))
        if start is not None:
            frame = frame.where(frame.day >= start)
        if end is not None:
            frame = frame.where(frame.day <= end)
        return frame

    def look_up(self, table: "Table | str", columns: list[str] | None = None, where: "ds.Expression | None" = None) -> list[dict]:
        """Rows of a small table as dictionaries, without a Spark job; none where it was never written."""
        name = table if isinstance(table, str) else table.name
        if not self.exists(name):
            return []
        return dataset(_delta(self.path(name))).to_table(columns=columns, filter=where).to_pylist()

    def days(self, name: str) -> list[date]:
        """The days that a table partitioned by day has rows of, in order, from its log alone."""
        if not self.exists(name):
            return []
        files = _delta(self.path(name)).get_add_actions(flatten=True)
        return sorted(set(files.column("partition.day").to_pylist())) if files.num_rows else []

    def n_rows(self, name: str, days: Collection[date] | None = None) -> int:
        """How many rows a table has, or how many of these days one partitioned by day has, from its log alone."""
        if not self.exists(name):
            return 0
        files = _delta(self.path(name)).get_add_actions(flatten=True)
        rows = files.column("num_records").to_pylist()
        if days is None or not rows:
            return sum(rows)
        return sum(n for day, n in zip(files.column("partition.day").to_pylist(), rows, strict=True) if day in days)

    def count(self, name: str, by: list[str], where: "ds.Expression | None" = None) -> dict[tuple, int]:
        """The number of rows for each combination of `by`, without a Spark job and at constant memory."""
        counts: Counter = Counter()
        if self.exists(name):
            for batch in dataset(_delta(self.path(name))).to_batches(columns=by, filter=where):
                found = pa.Table.from_batches([batch]).group_by(by).aggregate([([], "count_all")])
                counts.update(
                    dict(zip(zip(*(found[c].to_pylist() for c in by), strict=True), found["count_all"].to_pylist(), strict=True))
                )
        return counts

    def replace_days(self, table: Table, frame: "DataFrame", days: Iterable[date]) -> int:
        """Make `frame` the table's rows of exactly these days; returns the number of rows written."""
        days = sorted(set(days))
        return self.replace(table, frame, in_days(days), gather=len(days) > 1) if days else 0

    def replace(self, table: Table, frame: "DataFrame", where: str | None = None, gather: bool = True) -> int:
        """Make `frame` the rows that fulfil the SQL predicate `where`, or the whole table; returns the rows written.

        The rows of a partition are put together before they are written, so that it gets few files, unless `gather` is false.
        Raises UserError where the frame differs from the contract or holds a row outside `where`.
        """
        started = time.monotonic()
        self.create(table)
        frame = self._conform(table, frame)
        if table.partition and gather:
            frame = frame.hint("rebalance", table.partition)  # one file a day unless a day is large
        before, _ = last_commit(self.path(table.name))
        writer = frame.write.format("delta").mode("overwrite")
        if where is not None:
            writer = writer.option("replaceWhere", where)
        with self._writing(table):
            writer.save(self.path(table.name))
        version, rows = last_commit(self.path(table.name))
        rows = rows if version > before else 0  # no rows in the place of none are no commit
        log(f"wrote {table.name:<28} {rows:>12,} rows {time.monotonic() - started:7.1f} s  version {version}")
        return rows

    def create(self, table: Table) -> None:
        """Create the table where it is missing; add columns the contract has gained."""
        if not self.exists(table.name):
            checks = {f"delta.constraints.{name}": check for name, check in table.checks.items()}
            properties = _PROPERTIES | checks | table.properties
            clauses = [f"CREATE TABLE IF NOT EXISTS delta.`{self.path(table.name)}` ({table.schema}) USING delta"]
            if table.partition:
                clauses.append(f"PARTITIONED BY ({table.partition})")
            clauses.append(f"COMMENT {quoted(' '.join(table.about.split()))}")
            pairs = ", ".join(f"{quoted(k)} = {quoted(v)}" for k, v in properties.items())
            clauses.append(f"TBLPROPERTIES ({pairs})")
            with self._writing(table):
                self.spark.sql(" ".join(clauses))
            return
        have = {field.name for field in _delta(self.path(table.name)).schema().fields}
        new = [f for f in self._declared(table) if f.name not in have]
        if new:
            columns = ", ".join(
                f"{f.name} {f.dataType.simpleString()} COMMENT {quoted(f.metadata.get('comment', ''))}" for f in new
            )
            with self._writing(table):
                self.spark.sql(f"ALTER TABLE delta.`{self.path(table.name)}` ADD COLUMNS ({columns})")

    @contextmanager
    def _writing(self, table: Table) -> Iterator[None]:
        """Turns what the storage says when it refuses a write into one line; Spark has no type for it that Connect keeps."""
        try:
            yield
        except Exception as error:
            said = str(error)
            if any(conflict in said for conflict in _CONFLICTS):
                raise UserError(
                    f"lake: another run changed table {table.name} in {self.root} meanwhile, and this one left it so; "
                    "run again when it has ended"
                ) from error
            if _NO_SPACE in said:
                raise UserError(
                    f"lake: no space is left in {self.root} (table {table.name} stays as it was); make room and run again"
                ) from error
            if any(refusal in said for refusal in _REFUSALS):
                raise UserError(
                    f"lake: {self.root} cannot be written (table {table.name}); choose another root with SHOAL_LAKE"
                ) from error
            raise

    def set_property(self, table: Table, key: str, value: str) -> None:
        """Set a table property that clients without Spark can read too; nothing is written where it holds already."""
        if read_properties(self.path(table.name)).get(key) != value:
            with self._writing(table):
                self.spark.sql(f"ALTER TABLE delta.`{self.path(table.name)}` SET TBLPROPERTIES ({quoted(key)} = {quoted(value)})")

    def version(self, name: str) -> int:
        return last_commit(self.path(name))[0]

    def _declared(self, table: Table) -> "StructType":
        from pyspark.sql.types import StructType

        return StructType.fromDDL(table.schema)

    def _conform(self, table: Table, frame: "DataFrame") -> "DataFrame":
        wanted = {f.name: f.dataType.simpleString() for f in self._declared(table)}
        got = {f.name: f.dataType.simpleString() for f in frame.schema}
        wrong = [f"{n} is missing" for n in wanted if n not in got]
        wrong += [f"{n} is not in the contract" for n in got if n not in wanted]
        wrong += [f"{n} is {got[n]}, not {wanted[n]}" for n in wanted if n in got and got[n] != wanted[n]]
        if wrong:
            raise UserError(f"lake: rows for {table.name} break its contract: {'; '.join(wrong)}")
        return frame.select(*wanted)


def read_arrow(
    root: str,
    name: str,
    columns: list[str] | None = None,
    day: date | None = None,
    version: int | None = None,
    where: "ds.Expression | None" = None,
) -> pa.Table:
    """A table, or one day of it, or the rows `where`, as Arrow, without Spark. Raises UserError where it does not exist."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    path = f"{root}/{name.replace('.', '/')}"
    try:
        table = DeltaTable(path, version=version)
    except TableNotFoundError:
        raise UserError(f"lake: table {name} does not exist in {root}; run the step that writes it first") from None
    import pyarrow.dataset as ds

    return dataset(table).to_table(columns=columns, filter=where if day is None else ds.field("day") == day)


def sums(
    root: str, name: str, by: list[str], of: list[str], where: "ds.Expression | None" = None
) -> dict[tuple, tuple[Decimal, ...]]:
    """The sums of the columns `of` for each combination of `by`, without Spark and at constant memory.

    None where the table was never written.
    """
    from deltalake import DeltaTable

    path = f"{root}/{name.replace('.', '/')}"
    found: dict[tuple, tuple[Decimal, ...]] = {}
    if not DeltaTable.is_deltatable(path):
        return found
    for batch in dataset(DeltaTable(path)).to_batches(columns=[*by, *of], filter=where):
        grouped = pa.Table.from_batches([batch]).group_by(by).aggregate([(c, "sum") for c in of])
        for row in grouped.to_pylist():
            key = tuple(row[c] for c in by)
            so_far = found.get(key, (Decimal(0),) * len(of))
            found[key] = tuple(a + (row[f"{c}_sum"] or 0) for a, c in zip(so_far, of, strict=True))
    return found


def read_properties(path: str) -> dict[str, str]:
    """The table properties of the Delta table at `path`."""
    return _delta(path).metadata().configuration


def last_commit(path: str) -> tuple[int, int]:
    """(version, rows written) of the newest commit of the Delta table at `path`, from its log, without a Spark job."""
    filesystem, base = _at(path)
    names = (info.base_name for info in filesystem.get_file_info(fs.FileSelector(f"{base}/_delta_log")))
    newest = max(name for name in names if name.endswith(".json") and name[:20].isdigit())
    with filesystem.open_input_file(f"{base}/_delta_log/{newest}") as file:
        actions = [json.loads(line) for line in file.read().splitlines()]
    metrics = next((a["commitInfo"].get("operationMetrics", {}) for a in actions if "commitInfo" in a), {})
    return int(newest[:20]), int(metrics.get("numOutputRows", 0))


def in_days(days: list[date]) -> str:
    """The SQL predicate for a sorted list of days, runs of days as ranges (Delta cannot resolve BETWEEN here).

    >>> in_days([date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 5)])
    "(day >= DATE'2024-01-01' AND day <= DATE'2024-01-02') OR (day = DATE'2024-01-05')"
    """
    runs: list[list[date]] = []
    for day in days:
        if runs and day == runs[-1][-1] + timedelta(days=1):
            runs[-1].append(day)
        else:
            runs.append([day])
    if len(runs) > _MOST_RUNS:  # a long chain of ORs outgrows what Spark can compile
        listed = ", ".join(f"DATE'{day}'" for day in days)
        return f"day IN ({listed})"
    return " OR ".join(
        f"(day = DATE'{run[0]}')" if len(run) == 1 else f"(day >= DATE'{run[0]}' AND day <= DATE'{run[-1]}')" for run in runs
    )


def span(days: list[date]) -> str:
    """A sorted list of days as a person says it.

    >>> span([date(2024, 1, 1)]), span([date(2024, 1, 1), date(2024, 1, 3)])
    ('2024-01-01', '2024-01-01 to 2024-01-03')
    """
    return str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]}"


def union(frames: "list[DataFrame]") -> "DataFrame":
    """All rows of frames that have the same columns."""
    return reduce(lambda a, b: a.unionByName(b), frames)


def keeping(work: "Callable[Concatenate[Keep, _Arguments], _Result]") -> "Callable[_Arguments, _Result]":
    """A function that is given, first, what keeps a frame's rows once computed until it ends; last kept is first let go.

    What is let go while a frame made from it is still to be read would be computed again from the start.
    """

    @wraps(work)
    def with_keep(*args: "_Arguments.args", **kwargs: "_Arguments.kwargs") -> "_Result":
        with ExitStack() as stack:

            def keep(frame: "DataFrame") -> "DataFrame":
                stack.callback(frame.persist().unpersist)
                return frame

            return work(keep, *args, **kwargs)

    return with_keep


def side_by_side(calls: Mapping[_Key, Callable[[], Any]]) -> dict[_Key, Any]:
    """What each call returns, by its key and in their order, two at a time: while one waits for Spark's driver, one computes.

    The first error is raised when all have ended.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        begun = {key: pool.submit(call) for key, call in calls.items()}
    return {key: one.result() for key, one in begun.items()}


def log(line: str) -> None:
    """One line of progress, on standard output at once."""
    print(line, flush=True)


def _at(path: str) -> tuple[fs.FileSystem, str]:
    return fs.FileSystem.from_uri(path) if "://" in path else (fs.LocalFileSystem(), path)


def dataset(table: "DeltaTable") -> "ds.Dataset":
    """The rows of a Delta table, read through Arrow's own file system.

    delta-rs would read through one that calls Python from Arrow's threads: a process that ends meanwhile is aborted.
    """
    filesystem, base = _at(table.table_uri)
    return table.to_pyarrow_dataset(filesystem=fs.SubTreeFileSystem(base, filesystem))


def _delta(path: str) -> "DeltaTable":
    from deltalake import DeltaTable

    return DeltaTable(path)


def quoted(text: str) -> str:
    """A SQL string literal.

    >>> quoted("it's")
    "'it\\\\'s'"
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
