"""Landing new files in their bronze table, each file once."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

import pyarrow as pa

from jobs.bronze import _rows, files
from jobs.bronze._mapping import to_mapped_schema
from jobs.bronze._new_files import MappedFiles, NewFiles
from jobs.bronze.files import LandedFiles
from jobs.engine.runner import Result, Runner, count_buckets
from jobs.engine.tasks import COLLECT, Produced, Write
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, list_files

_TASK_BYTES = 32 << 20  # of text; several small files are one task


def land_files(lake: Lake, runner: Runner, new: NewFiles) -> LandedFiles:
    """Land files: their rows take the place of those that they had before.

    Returns them for files.register_files(), without which the next landing repeats it.
    Raises UserError for a file that is truncated or cannot be decoded, and for a value that the mapping cannot take; then
    nothing of this table is landed.
    """
    table = new.table
    opened = lake.open_for_write(table)
    if lake.count_rows(table.name):
        result, days = _replace_rows(lake, runner, new)
    else:
        n_buckets = count_buckets(new.n_rows)
        result, days = _place_rows(runner, new, _read_new(runner, new, n_buckets), [], n_buckets), None
    opened.commit(result.files["rows"], days)
    return _describe_landing(new, _rows.sum_counts(result.collected["counts"]))


def _replace_rows(lake: Lake, runner: Runner, new: NewFiles) -> tuple[Result, list[date] | None]:
    """Place new rows among stored ones. Returns the days to replace, None for all of a table without days.

    The days are known only when the files were read. Where so many rows are stored that all need more buckets than the new ones
    alone, the files are read again.
    """
    table, n_buckets = new.table, count_buckets(new.n_rows)
    rows = _read_new(runner, new, n_buckets)
    counts = _rows.sum_counts(runner.run(_rows.count_rows, rows, {"counts": COLLECT}).collected["counts"])
    days = _find_touched_days(lake, new, counts) if table.partition else None
    n_rows = pa.compute.sum(counts["n_rows"]).as_py() or 0
    n_stored = sum(file.n_rows for file in list_files(lake.root, Rows(table, "_row", days=days)))
    if (n_needed := count_buckets(n_rows + n_stored)) > n_buckets:
        n_buckets = n_needed
        rows = _read_new(runner, new, n_buckets)
    return _place_rows(runner, new, rows, days, n_buckets), days


def _read_new(runner: Runner, new: NewFiles, n_buckets: int) -> dict[str, Any]:
    produced = Produced(_map_files, tuple(_list_tasks(new)), to_mapped_schema(new.table), "_row")
    return runner.read({"new": produced}, n_buckets)


def _place_rows(runner: Runner, new: NewFiles, rows: dict[str, Any], days: list[date] | None, n_buckets: int) -> Result:
    """Write the rows of `days`, or of a table without days, as files."""
    table = new.table
    stored = runner.read({"stored": Rows(table, "_row", days=days)}, n_buckets)
    kernel = partial(_rows.place_rows, table=table, source=new.source, files=frozenset(new.files))
    outputs = {"rows": Write(table, gather=table.partition is not None), "counts": COLLECT}
    return runner.run(kernel, {**rows, **stored}, outputs)


def _map_files(task: MappedFiles) -> Iterator[pa.Table]:
    return task.mapper.map_files(task.group)


def _list_tasks(new: NewFiles) -> list[MappedFiles]:
    """Return the groups of files in parts of a size, in the order of the files."""
    tasks: list[MappedFiles] = []
    for part in new.mapped:
        names: list[str] = []
        for name in part.group.files:
            if names and sum(new.text_bytes[n] for n in [*names, name]) > _TASK_BYTES:
                tasks.append(replace(part, group=replace(part.group, files=names)))
                names = []
            names.append(name)
        tasks.append(replace(part, group=replace(part.group, files=names)))
    return tasks


def _find_touched_days(lake: Lake, new: NewFiles, counts: pa.Table) -> list[date]:
    """Return the days whose rows change: those of the new rows, and those that the files had rows of before.

    A run that was killed before it registered its files has left rows on days that hold other numbers of rows than registered.
    """
    table = new.table
    landed = {row["day"] for row in counts.to_pylist() if row["n_rows"]}
    before = {pair["day"] for name in new.files for pair in (new.registered.get(name) or {}).get("days") or ()}
    stored: Counter = Counter()
    for file in list_files(lake.root, Rows(table, "_row")):
        stored[file.day] += file.n_rows
    registered = files.count_registered_rows(lake, table.name)
    unregistered = {day for day, n_rows in stored.items() if registered[day] != n_rows}
    return sorted(landed | before | unregistered)


def _describe_landing(new: NewFiles, counts: pa.Table) -> LandedFiles:
    """Return the rows of bronze.files, from the counts of the kernel."""
    columns_by_file = {name: part.group.columns for part in new.mapped for name in part.group.files}
    entries = {name: {**entry, "columns": columns_by_file[name], "days": [], "left_out": []} for name, entry in new.files.items()}
    n_read = 0
    for row in counts.to_pylist():
        n_read += row["n_read"]
        for column, n_rows in (("days", row["n_rows"]), ("left_out", row["n_left_out"])):
            if n_rows:
                entries[row["_file"]][column].append((row["day"], n_rows))
    return LandedFiles(entries, n_read)
