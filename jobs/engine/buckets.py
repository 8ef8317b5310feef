"""Rows in buckets by a hash of their key, in Arrow files of this machine.

A bucket with far more rows than the others is split again, into pieces by a second hash. A kernel is given whole pieces: no key
is in two of them.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from jobs.engine.tasks import LZ4, Input, Part, split_by_key
from jobs.storage.rows import Scan

TOO_LARGE = 1.5  # times the mean rows of a bucket; hashes of many keys stay far below
MIN_ROWS = 100_000  # of a bucket that is split again
_SECOND_SEED = 71


@dataclass
class InMemory:
    """The rows of the only bucket."""

    rows: pa.Table | Scan


class Piece(NamedTuple):
    """The files of a piece of a bucket."""

    paths: list[str]
    n_rows: int


@dataclass
class Spilled:
    """Rows in files: the pieces of each bucket. Without an `input`, which has the key, they stay in the pieces they are in."""

    schema: pa.Schema
    buckets: list[list[Piece]]
    input: Input | None = None

    def count_rows(self, bucket: int) -> int:
        """Return the number of rows of a bucket."""
        return sum(piece.n_rows for piece in self.buckets[bucket])


def join(pieces: Iterable[Piece]) -> Piece:
    """Return pieces as one; one without rows where there is none."""
    pieces = list(pieces)
    return Piece([path for piece in pieces for path in piece.paths], sum(piece.n_rows for piece in pieces))


def mean_rows(inputs: Mapping[str, Spilled]) -> float:
    """Return the mean rows of a bucket, of all inputs together."""
    n_buckets = len(next(iter(inputs.values())).buckets)
    return sum(rows.count_rows(n) for rows in inputs.values() for n in range(n_buckets)) / n_buckets


def choose_pieces(inputs: Mapping[str, Spilled], bucket: int, mean: float) -> int:
    """Return the number of pieces of a bucket: one, or so many that each has about the mean of the buckets.

    Rows without a key decide it, because they cannot be split: by two numbers of pieces they fit together only as a whole.
    """
    kept = {len(rows.buckets[bucket]) for rows in inputs.values() if rows.input is None}
    if kept:
        return kept.pop() if len(kept) == 1 else 1
    n_rows = sum(rows.count_rows(bucket) for rows in inputs.values())
    return math.ceil(n_rows / mean) if n_rows > max(TOO_LARGE * mean, MIN_ROWS) else 1


class Split(NamedTuple):
    """A part of an input that is read and split into buckets; `name` is that of the input, `path` begins the files' paths."""

    root: str
    name: str
    part: Part
    n_buckets: int
    path: str


class SplitAgain(NamedTuple):
    """A bucket of an input that is split into pieces."""

    input: Input
    bucket: Piece
    n_pieces: int
    path: str


def split_part(task: Split) -> list[tuple[int, Piece]]:
    """Write the rows of each bucket into a file. Returns (bucket, its file) of those that have rows."""
    tables = task.part.read(task.root)
    return _write_split(tables, task.path, lambda rows: split_by_key(task.part.input, rows, task.n_buckets))


def split_again(task: SplitAgain) -> list[tuple[int, Piece]]:
    """Write the rows of each piece of a bucket into a file. Returns (piece, its file) of those that have rows."""
    tables = (_read_file(path) for path in task.bucket.paths)
    return _write_split(tables, task.path, lambda rows: split_by_key(task.input, rows, task.n_pieces, _SECOND_SEED))


def _write_split(tables: Iterable[pa.Table], path: str, split: Callable[[pa.Table], list[pa.Table]]) -> list[tuple[int, Piece]]:
    n_rows: dict[int, int] = {}
    with ExitStack() as stack:
        writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}
        for rows in tables:
            for number, some in enumerate(split(rows)):
                if some.num_rows:
                    if number not in writers:
                        writer = pa.ipc.new_file(f"{path}_{number}", rows.schema, options=LZ4)
                        writers[number] = stack.enter_context(writer)
                    writers[number].write_table(some)
                    n_rows[number] = n_rows.get(number, 0) + some.num_rows
    return [(number, Piece([f"{path}_{number}"], n_rows[number])) for number in sorted(writers)]


def write_rows(path: str, rows: pa.Table) -> None:
    """Write rows into a file."""
    with pa.ipc.new_file(path, rows.schema, options=LZ4) as writer:
        writer.write_table(rows)


def read_rows(schema: pa.Schema, paths: list[str]) -> pa.Table:
    """Return the rows of files."""
    return pa.concat_tables([schema.empty_table(), *map(_read_file, paths)])


def _read_file(path: str) -> pa.Table:
    with pa.memory_map(path) as source:
        return pa.ipc.open_file(source).read_all()
