"""The local runner: worker processes of this machine, with Arrow files between them; no JVM.

Rows that fit into one bucket are worked on in this process and in memory. More rows are split into buckets in files, and a
worker holds one bucket at a time.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from typing import Any, NamedTuple

import pyarrow as pa

from jobs import watchdog
from jobs.concurrency import end_with_parent
from jobs.engine import buckets
from jobs.engine.buckets import InMemory, Piece, Spilled, Split, SplitAgain, join
from jobs.engine.tasks import (
    COLLECT,
    KEEP,
    LZ4,
    ROWS_PER_FILE,
    Call,
    Input,
    Kernel,
    Output,
    Result,
    Tables,
    Write,
    list_parts,
    read_all,
)
from jobs.errors import UserError
from jobs.progress import log
from jobs.storage.commits import File, split_by, write_files
from jobs.storage.scratch import Scratch
from jobs.storage.table import Table

_DAYS_PER_GATHER = 8
_MAX_ROWS = 1_000_000  # of a bucket that a worker has in memory while others work


class LocalRunner:
    """Carries kernels to rows on this machine."""

    name = "local"

    def __init__(self, root: str, workers: int | None = None):
        """`root` is the lake; there are as many workers as CPUs unless said otherwise."""
        self.root = root
        self._workers = workers or os.cpu_count() or 1
        self._pool: ProcessPoolExecutor | None = None
        self._scratch: Scratch | None = None
        self._n_files = 0

    def read(self, inputs: Mapping[str, Input], n_buckets: int) -> dict[str, Any]:
        """Return the rows of each input in buckets by their key."""
        if n_buckets == 1:
            return {name: InMemory(read_all(self.root, input)) for name, input in inputs.items()}
        parts = {name: list_parts(self.root, input) for name, input in inputs.items()}
        tasks = [
            Split(self.root, name, part, n_buckets, self._new_path("split")) for name, some in parts.items() for part in some
        ]
        files = {name: [[] for _ in range(n_buckets)] for name in inputs}
        for task, pieces in self._run_tasks(buckets.split_part, tasks):
            for bucket, piece in pieces:
                files[task.name][bucket].append(piece)
        return {name: Spilled(input.schema, [[join(some)] for some in files[name]], input) for name, input in inputs.items()}

    def run(self, kernel: Kernel, inputs: Mapping[str, Any], outputs: Mapping[str, Output]) -> Result:
        """Run a kernel on each bucket of `inputs`, which read and earlier results gave, and treat its outputs as named."""
        if all(isinstance(rows, InMemory) for rows in inputs.values()):
            return self._treat(kernel({name: rows.rows for name, rows in inputs.items()}), outputs)
        mean = buckets.mean_rows(inputs)
        tasks = []
        for n, n_pieces in enumerate(self._split_large_buckets(inputs, mean)):
            for piece in range(n_pieces):
                pieces = {name: (rows.schema, rows.buckets[n][piece]) for name, rows in inputs.items()}
                tasks.append(_Run(self.root, kernel, pieces, outputs, (n, piece), self._new_path(f"run{n}")))
        tasks.sort(key=lambda task: -task.n_rows)  # the largest first, so that none is left to one worker at the end
        large = [task for task in tasks if task.n_rows > max(_MAX_ROWS, buckets.TOO_LARGE * mean)]
        results = [pair for task in large for pair in self._run_alone(task, mean)]
        results += self._run_tasks(_run_bucket, tasks[len(large) :])
        return self._merge_results({task.bucket: result for task, result in results}, outputs)

    def run_calls(self, calls: Sequence[Call], outputs: Mapping[str, Output]) -> Result:
        """Run each call in a task of its own, and collect or write its outputs as named."""
        if len(calls) == 1:
            return self._treat(calls[0].run(self.root), outputs)
        tasks = [_RunCall(self.root, call, outputs, self._new_path(f"call{n}")) for n, call in enumerate(calls)]
        results = {(n, 0): result for n, (_, result) in enumerate(self._run_tasks(_run_call, tasks))}
        return self._merge_results(results, outputs)

    def close(self) -> None:
        """End the workers and remove what they left."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        if self._scratch:
            self._scratch.remove()
            self._scratch = None

    def _treat(self, rows_by_name: Tables, outputs: Mapping[str, Output]) -> Result:
        result = Result()
        for name, output in outputs.items():
            if output == COLLECT:
                result.collected[name] = rows_by_name[name]
            elif output == KEEP:
                result.kept[name] = InMemory(rows_by_name[name])
            else:
                result.files[name] = write_files(self.root, output.table, rows_by_name[name])
        return result

    def _split_large_buckets(self, inputs: Mapping[str, Spilled], mean: float) -> list[int]:
        """Split each bucket that is too large into pieces, the same for all inputs. Returns the number of pieces by bucket."""
        counts = [buckets.choose_pieces(inputs, n, mean) for n in range(len(next(iter(inputs.values())).buckets))]
        tasks, targets = [], {}
        for n, n_pieces in enumerate(counts):
            for rows in inputs.values():
                if len(rows.buckets[n]) == n_pieces:
                    continue
                whole = join(rows.buckets[n])
                rows.buckets[n] = [whole] if n_pieces == 1 else [join([])] * n_pieces
                if n_pieces > 1:
                    tasks.append(SplitAgain(rows.input, whole, n_pieces, self._new_path("again")))
                    targets[tasks[-1].path] = rows.buckets[n]
        for task, pieces in self._run_tasks(buckets.split_again, tasks):
            for number, piece in pieces:
                targets[task.path][number] = piece
            for path in task.bucket.paths:
                os.remove(path)
        return counts

    def _run_alone(self, task: "_Run", mean: float) -> list[tuple[Any, Any]]:
        """Run a kernel on a bucket that could not be split while no other worker needs memory."""
        log(
            f"engine: a bucket of {task.n_rows:,} rows cannot be split, because most are of one key (mean: {mean:,.0f} rows);"
            " it is processed alone and must fit into memory"
        )
        return self._run_tasks(_run_bucket, [task], f" on {task.n_rows:,} rows, most of one key")

    def _merge_results(self, by_bucket: dict[tuple[int, int], "_BucketResult"], outputs: Mapping[str, Output]) -> Result:
        merged = Result()
        results = [by_bucket[bucket] for bucket in sorted(by_bucket)]
        for name, output in outputs.items():
            if output == COLLECT:
                merged.collected[name] = pa.concat_tables([r.collected[name] for r in results])
            elif output == KEEP:
                merged.kept[name] = _merge_kept(name, by_bucket)
            elif output.gather:
                merged.files[name] = self._gather(output, [r.days[name] for r in results])
            else:
                merged.files[name] = [file for r in results for file in r.files[name]]
        return merged

    def _gather(self, output: Write, days_by_bucket: list["_Days"]) -> list[File]:
        """Write each day of an output as one file, out of the batches that each bucket has of it."""
        days = sorted({day for days in days_by_bucket for day in days.batches})
        groups = [days[n : n + _DAYS_PER_GATHER] for n in range(0, len(days), _DAYS_PER_GATHER)]
        tasks = [
            _Gather(
                self.root, output.table, [[(d.path, d.batches[day]) for d in days_by_bucket if day in d.batches] for day in group]
            )
            for group in groups
        ]
        files = [file for _, files in self._run_tasks(_gather_days, tasks) for file in files]
        return sorted(files, key=lambda file: file.path)

    def _new_path(self, name: str) -> str:
        if self._scratch is None:
            self._scratch = Scratch()
        self._n_files += 1
        return f"{self._scratch.path}/{self._n_files}_{name}"

    def _run_tasks(self, function: Callable, tasks: list, rows: str = "") -> list[tuple[Any, Any]]:
        """Return each task with its result. A worker that dies is started again once, with the tasks that were left.

        `rows` says in an error which rows a worker died on.
        """
        done: dict[int, Any] = {}
        for attempt in (1, 2):
            try:
                self._run_what_is_left(function, tasks, done)
                return [(task, done[n]) for n, task in enumerate(tasks)]
            except BrokenProcessPool:
                self._pool = None
                if attempt == 2:
                    raise UserError(
                        f"engine: a worker process died twice{rows}, perhaps for want of memory; close other programs, or set"
                        " engine = spark"
                    ) from None
        raise AssertionError

    def _run_what_is_left(self, function: Callable, tasks: list, done: dict[int, Any]) -> None:
        pool = self._open_pool()
        futures = {pool.submit(function, task): n for n, task in enumerate(tasks) if n not in done}
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                watchdog.note_progress()
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def _open_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            os.environ["POLARS_MAX_THREADS"] = "1"  # of the workers: each has a CPU of its own
            self._pool = ProcessPoolExecutor(
                self._workers, mp_context=get_context("spawn"), initializer=end_with_parent, initargs=(os.getpid(),)
            )
        return self._pool


class _Run(NamedTuple):
    """A bucket, or a piece of it, that a kernel is run on."""

    root: str
    kernel: Kernel
    inputs: dict[str, tuple[pa.Schema, Piece]]
    outputs: Mapping[str, Output]
    bucket: tuple[int, int]  # and the piece of it
    path: str

    @property
    def n_rows(self) -> int:
        return sum(piece.n_rows for _, piece in self.inputs.values())


class _RunCall(NamedTuple):
    root: str
    call: Call
    outputs: Mapping[str, Output]
    path: str


class _Days(NamedTuple):
    """A file of batches, each of one day."""

    path: str
    batches: dict[date, int]


@dataclass
class _BucketResult:
    collected: dict[str, pa.Table]
    kept: dict[str, tuple[pa.Schema, Piece]]
    files: dict[str, list[File]]
    days: dict[str, _Days]


class _Gather(NamedTuple):
    root: str
    table: Table
    days: list[list[tuple[str, int]]]  # the file and number of each batch of a day


def _merge_kept(name: str, by_bucket: dict[tuple[int, int], _BucketResult]) -> Spilled:
    """Return what the kernel's output `name` has in each bucket, in its pieces."""
    pieces: dict[int, list[Piece]] = {}
    for bucket, piece in sorted(by_bucket):
        schema, rows = by_bucket[bucket, piece].kept[name]
        pieces.setdefault(bucket, []).append(rows)
    return Spilled(schema, list(pieces.values()))


def _run_bucket(task: _Run) -> _BucketResult:
    """Run the kernel on one bucket."""
    tables = {name: buckets.read_rows(schema, piece.paths) for name, (schema, piece) in task.inputs.items()}
    rows_by_name = task.kernel(tables)
    del tables
    return _treat_rows(task, rows_by_name)


def _run_call(task: _RunCall) -> _BucketResult:
    """Run a call, which reads its rows itself."""
    return _treat_rows(task, task.call.run(task.root))


def _treat_rows(task: _Run | _RunCall, rows_by_name: Tables) -> _BucketResult:
    """Send, store or write each output of a kernel."""
    result = _BucketResult({}, {}, {}, {})
    for name, output in task.outputs.items():
        rows = rows_by_name.pop(name)
        path = f"{task.path}_{name}"
        if output == COLLECT:
            result.collected[name] = rows
        elif output == KEEP:
            buckets.write_rows(path, rows)
            result.kept[name] = (rows.schema, Piece([path], rows.num_rows))
        elif output.gather:
            result.days[name] = _write_days(path, rows)
        else:
            result.files[name] = write_files(task.root, output.table, rows)
    return result


def _write_days(path: str, rows: pa.Table) -> _Days:
    batches = {}
    with pa.ipc.new_file(path, rows.schema, options=LZ4) as writer:
        for n, (day, part) in enumerate(split_by(rows, "day")):
            writer.write_batch(part.combine_chunks().to_batches()[0])
            batches[day] = n
    return _Days(path, batches)


def _gather_days(task: _Gather) -> list[File]:
    """Write some days of a table, out of the batches of all buckets. A day of very many rows becomes several files."""
    files: list[File] = []
    for batches in _read_portions(task):
        files += write_files(task.root, task.table, pa.Table.from_batches(batches))
    return files


def _read_portions(task: _Gather) -> Iterator[list[pa.RecordBatch]]:
    """Yield the batches of whole days, or of a part of a large day, of so many rows as fit into memory."""
    batches: list[pa.RecordBatch] = []
    n_rows = 0
    for day in task.days:
        for path, number in day:
            if n_rows >= ROWS_PER_FILE:
                yield batches
                batches, n_rows = [], 0
            with pa.memory_map(path) as source:
                batches.append(pa.ipc.open_file(source).get_batch(number))
            n_rows += batches[-1].num_rows
        if n_rows >= ROWS_PER_FILE // 4:
            yield batches
            batches, n_rows = [], 0
    if batches:
        yield batches
