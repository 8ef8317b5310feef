"""Landing the files of one mapping in its bronze table, each file once."""

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from typing import Any

import pyarrow as pa
from pyarrow import fs

from jobs.bronze import _rows, files
from jobs.bronze._columns import FileGroup, group_by_header
from jobs.bronze._mapping import FileMapper
from jobs.bronze.files import LandedFiles
from jobs.config.settings import Settings, read_secret
from jobs.config.source_files import find_files, open_source_file
from jobs.config.source_mapping import Source, TableMapping
from jobs.engine.runner import Result, Runner, count_buckets
from jobs.engine.tasks import COLLECT, Produced, Write
from jobs.progress import log
from jobs.storage import delta
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, list_files
from jobs.storage.table import Table

_BYTES_PER_ROW = 100  # of text, by which the rows of files are estimated
_LEAST_COMPRESSION, _MOST_COMPRESSION = 4, 1032  # of text; gzip can do no more
_TASK_BYTES = 32 << 20  # of text; several small files are one task


@dataclass(frozen=True)
class NewFiles:
    """The files of one mapping that are to be landed: a row of bronze.files by name, and the texts' size in bytes.

    `registered` are the files that were landed before.
    """

    mapper: FileMapper
    files: dict[str, dict]
    groups: list[FileGroup]
    text_bytes: dict[str, int]
    registered: dict[str, dict]

    @property
    def n_rows(self) -> int:
        """The number of rows, by estimate."""
        return sum(self.text_bytes.values()) // _BYTES_PER_ROW


def find_new_files(
    lake: Lake, settings: Settings, source: Source, table: Table, day: date, landed_at: datetime
) -> NewFiles | None:
    """Return the files of `source` for `table` that are new or changed and, where names state a day, not after `day`.

    Raises UserError for a missing file or column.
    """
    mapping = source.mappings[table.name.split(".")[1]]
    infos = [(name, info) for name, info in find_files(settings.input, mapping) if (mapping.file_day_of(name) or day) <= day]
    if not infos:
        log(f"read  {table.name:<28}            0 files {mapping.files} for a day up to {day}")
    registered = files.read_register(lake, source.name, table.name)
    new = _find_changed_files(settings.input, infos, registered, mapping)
    if not new:
        log(f"read  {table.name:<28} {len(infos):>12,} files, all landed before")
        lake.create(table)  # an older lake may lack a column that cleaning reads
        return None
    log(f"read  {table.name:<28} {len(new):>12,} new files of {len(infos):,}")
    secret = read_secret() if mapping.personal or mapping.drop else ""
    groups = group_by_header(settings.input, list(new), mapping, settings.max_unpacked_gib)
    _log_new_columns(table, mapping, {name: group.columns for group in groups for name in group.files}, registered)
    mapper = FileMapper(
        settings.clean, settings.input, source.name, with_stored_columns(lake, table), mapping, secret, day, landed_at,
        settings.max_unpacked_gib,
    )  # fmt: skip
    text_bytes = {name: _estimate_text_bytes(settings.input, name, new[name]["bytes"], mapping) for name in new}
    return NewFiles(mapper, new, groups, text_bytes, registered)


def with_stored_columns(lake: Lake, table: Table) -> Table:
    """Return a contract with the text columns that the table has besides in an older lake, so that stored rows keep them."""
    if not lake.exists(table.name):
        return table
    others = sorted(delta.read_columns(lake.path(table.name)).difference(table.columns))
    return replace(table, schema=", ".join([table.schema, *(f"{column} STRING" for column in others)]))


def land_files(lake: Lake, runner: Runner, new: NewFiles) -> LandedFiles:
    """Land files: their rows take the place of those that they had before.

    Returns them for files.register_files(), without which the next landing repeats it.
    Raises UserError for a file that is truncated or cannot be decoded, and for a value that the mapping cannot take; then
    nothing of this table is landed.
    """
    table = new.mapper.table
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
    table, n_buckets = new.mapper.table, count_buckets(new.n_rows)
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
    produced = Produced(new.mapper.map_files, tuple(_list_tasks(new)), new.mapper.schema, "_row")
    return runner.read({"new": produced}, n_buckets)


def _place_rows(runner: Runner, new: NewFiles, rows: dict[str, Any], days: list[date] | None, n_buckets: int) -> Result:
    """Write the rows of `days`, or of a table without days, as files."""
    mapper, table = new.mapper, new.mapper.table
    stored = runner.read({"stored": Rows(table, "_row", days=days)}, n_buckets)
    kernel = partial(_rows.place_rows, table=table, source=mapper.source, files=frozenset(new.files))
    outputs = {"rows": Write(table, gather=table.partition is not None), "counts": COLLECT}
    return runner.run(kernel, {**rows, **stored}, outputs)


def _list_tasks(new: NewFiles) -> list[FileGroup]:
    """Return the groups of files in parts of a size, in the order of the files."""
    tasks: list[FileGroup] = []
    for group in new.groups:
        names: list[str] = []
        for name in group.files:
            if names and sum(new.text_bytes[n] for n in [*names, name]) > _TASK_BYTES:
                tasks.append(replace(group, files=names))
                names = []
            names.append(name)
        tasks.append(replace(group, files=names))
    return tasks


def _find_touched_days(lake: Lake, new: NewFiles, counts: pa.Table) -> list[date]:
    """Return the days whose rows change: those of the new rows, and those that the files had rows of before.

    A run that was killed before it registered its files has left rows on days that hold other numbers of rows than registered.
    """
    table = new.mapper.table
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
    columns_by_file = {name: group.columns for group in new.groups for name in group.files}
    entries = {name: {**entry, "columns": columns_by_file[name], "days": [], "left_out": []} for name, entry in new.files.items()}
    n_read = 0
    for row in counts.to_pylist():
        n_read += row["n_read"]
        for column, n_rows in (("days", row["n_rows"]), ("left_out", row["n_left_out"])):
            if n_rows:
                entries[row["_file"]][column].append((row["day"], n_rows))
    return LandedFiles(entries, n_read)


def _log_new_columns(table: Table, mapping: TableMapping, columns: dict[str, list[str]], registered: dict[str, dict]) -> None:
    """Log each column that no file had before, with the files that have it. All columns of the mapping are there."""
    earlier = {column for file in registered.values() for column in file["columns"] or ()}
    first = min(columns) if not earlier else None
    files_by_column: dict[str, list[str]] = {}
    for name in sorted(columns):
        for column in columns[name]:
            if column not in earlier and name != first and column not in columns.get(first, ()):
                files_by_column.setdefault(column, []).append(name)
    for column, names in files_by_column.items():
        others = f" and {len(names) - 1} more files" if names[1:] else ""
        use = "dropped" if column in mapping.drop else "personal" if column in mapping.personal else "kept in _extra as it is"
        log(f"drift {table.name:<28} new column '{column}' in {names[0]}{others}: {use}")


def _find_changed_files(
    root: str, infos: list[tuple[str, fs.FileInfo]], registered: dict[str, dict], mapping: TableMapping
) -> dict[str, dict]:
    """Return the files whose content or mapping was not landed yet. Content is read only where size or time changed."""
    new = {}
    for name, info in infos:
        row = registered.get(name)
        # A forgotten file is new once its content is.
        fingerprint = files.FORGOTTEN if row and row["mapping"] == files.FORGOTTEN else mapping.fingerprint()
        stamp = (info.size, info.mtime_ns, fingerprint)
        if row and (row["bytes"], row["modified_ns"], row["mapping"]) == stamp:
            continue
        checksum = _hash_file(root, name)
        if row and (row["sha256"], row["mapping"]) == (checksum, fingerprint):
            continue
        new[name] = {"sha256": checksum, "bytes": info.size, "modified_ns": info.mtime_ns}
    return new


def _hash_file(root: str, name: str) -> str:
    with open_source_file(root, name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _estimate_text_bytes(root: str, name: str, n_bytes: int, mapping: TableMapping) -> int:
    """Return the size of a file as text. The last bytes of a gzip archive give the size of its last member, below 4 GiB."""
    if mapping.format == "parquet":
        return n_bytes * _LEAST_COMPRESSION
    ending = name.lower().rpartition(".")[2]
    if ending not in ("gz", "zip"):
        return n_bytes
    if ending == "zip":
        return n_bytes * _LEAST_COMPRESSION
    with open_source_file(root, name) as file:
        last_bytes = file.read_at(4, max(0, n_bytes - 4))
    stated = min(int.from_bytes(last_bytes, "little"), n_bytes * _MOST_COMPRESSION)  # anything where the file is truncated
    return max(stated, n_bytes * _LEAST_COMPRESSION)
