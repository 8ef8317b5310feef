"""What the tasks of a runner do, wherever they run: split rows by key, run a kernel, gather rows into files.

A kernel is a pure function from Arrow tables by name to Arrow tables by name. It sees all rows of a bucket of keys: no key is in
two buckets.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa

from jobs.storage.commits import File
from jobs.storage.rows import Rows, Scan, StoredFile, find_keys, list_files, read_files, scan_rows
from jobs.storage.table import Table

Tables = dict[str, pa.Table]
Kernel = Callable[[Tables], Tables]
LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")
ROWS_PER_FILE = 1_000_000  # of a day that is gathered from all buckets; a day of more rows becomes several files
_ROWS_PER_PART = 1_000_000
_SEED = 17  # of the hash that decides the bucket


@dataclass(frozen=True)
class Produced:
    """Rows that `function` makes of each task, such as a file that it reads: an input of a kernel. `key` is a column."""

    function: Callable[[Any], Iterator[pa.Table]]
    tasks: tuple[Any, ...]
    schema: pa.Schema
    key: str


Input = Rows | Produced


@dataclass(frozen=True)
class Part:
    """What one task reads of an input: some files of stored rows, or one task of produced ones."""

    input: Input
    content: Any

    def read(self, root: str) -> Iterator[pa.Table]:
        """Yield the rows, in tables that fit into memory."""
        if isinstance(self.input, Rows):
            yield read_files(root, self.input, self.content)
        else:
            yield from self.input.function(self.content)


def list_parts(root: str, input: Input) -> list[Part]:
    """Return what is to be read of an input, in parts of about a million stored rows or a task each."""
    if isinstance(input, Produced):
        return [Part(input, task) for task in input.tasks]
    groups: list[list[StoredFile]] = []
    n_rows = 0
    for file in list_files(root, input):
        if not groups or n_rows + file.n_rows > _ROWS_PER_PART:
            groups.append([])
            n_rows = 0
        groups[-1].append(file)
        n_rows += file.n_rows
    return [Part(input, group) for group in groups]


def read_all(root: str, input: Input, bucket: int = 0, n_buckets: int = 1) -> pa.Table | Scan:
    """Return all rows of an input, or those of one of several buckets."""
    if isinstance(input, Rows) and input.scan and n_buckets == 1:
        return scan_rows(root, input)
    tables = (rows for part in list_parts(root, input) for rows in part.read(root))
    if n_buckets > 1:
        tables = (split_by_key(input, rows, n_buckets)[bucket] for rows in tables)
    return pa.concat_tables([input.schema.empty_table(), *tables])


@dataclass(frozen=True)
class Call:
    """One call of a kernel whose worker itself reads the rows, such as some days: nothing is exchanged between workers.

    Where the rows of a day are more than a worker holds, several calls read them, and each keeps the keys of its bucket.
    """

    kernel: Kernel
    inputs: Mapping[str, Input]
    bucket: int = 0
    n_buckets: int = 1

    def run(self, root: str) -> Tables:
        """Return the outputs of the kernel."""
        return self.kernel({name: read_all(root, i, self.bucket, self.n_buckets) for name, i in self.inputs.items()})


@dataclass(frozen=True)
class Write:
    """An output of a kernel that becomes rows of a table; `gather` puts the rows of a day from all buckets together."""

    table: Table
    gather: bool = False


@dataclass
class Result:
    """What a kernel returned on all buckets: tables that were collected, outputs still in buckets, files of tables."""

    collected: dict[str, pa.Table] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    files: dict[str, list[File]] = field(default_factory=dict)


COLLECT, KEEP = "collect", "keep"  # outputs that come back as one table, or stay in their buckets for the next kernel
Output = Write | str


def split_by_key(input: Input, rows: pa.Table, n_buckets: int, seed: int = _SEED) -> list[pa.Table]:
    """Return the rows of each bucket, in their order; a key is always in the same bucket of a `seed`."""
    keys = find_keys(input, rows) if isinstance(input, Rows) else rows[input.key]
    bucket = pl.Series(pl.from_arrow(keys)).hash(seed=seed) % n_buckets
    order = bucket.arg_sort()
    ends = bucket.gather(order).search_sorted(pl.Series(range(n_buckets), dtype=pl.UInt64), "right").to_list()
    sorted_rows = rows.take(order.to_arrow())
    return [sorted_rows.slice(start, end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
