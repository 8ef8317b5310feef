"""Landing the files of one mapping in its bronze table, each file once."""

import hashlib
from dataclasses import replace
from datetime import date, datetime

from pyarrow import fs
from pyspark.sql import Observation
from pyspark.sql import functions as F

from jobs.bronze import files
from jobs.bronze._columns import FileGroup, group_by_header, select_used
from jobs.bronze._mapping import TIME_COLUMNS, FileMapper
from jobs.bronze._values import value_errors
from jobs.bronze.files import LandedFiles
from jobs.config.settings import Settings, read_secret
from jobs.config.source_mapping import Source, TableMapping, find_files
from jobs.errors import UserError
from jobs.progress import log
from jobs.storage.files import open_filesystem
from jobs.storage.lake import Lake, union_all
from jobs.storage.table import Table


def land_files(lake: Lake, settings: Settings, source: Source, table: Table, day: date, landed_at: datetime) -> LandedFiles:
    """Land the files of `source` for `table` that are new or changed and, where names state a day, not after `day`.

    Returns them for files.register_files(), without which the next landing repeats it.
    Raises UserError for a missing file or column, and for a file that is truncated or cannot be decoded; then nothing
    of this table is landed.
    """
    mapping = source.mappings[table.name.split(".")[1]]
    infos = [(name, info) for name, info in find_files(settings.input, mapping) if (mapping.file_day_of(name) or day) <= day]
    if not infos:
        raise UserError(f"land: no file {mapping.files} ({table.name}) in {settings.input} for a day up to {day}")
    registered = files.read_register(lake, source.name, table.name)
    new = _find_new_files(settings.input, infos, registered, mapping)
    if not new:
        log(f"read  {table.name:<28} {len(infos):>12,} files, all landed before")
        lake.create(table)  # an older lake may lack a column that cleaning reads
        return LandedFiles()
    log(f"read  {table.name:<28} {len(new):>12,} new files of {len(infos):,}")
    secret = read_secret() if mapping.personal or mapping.drop else ""
    groups = group_by_header(lake.spark, settings.input, list(new), mapping)
    _log_new_columns(table, mapping, {name: group.columns for group in groups for name in group.files}, registered)
    mapper = FileMapper(lake.spark, settings.clean, settings.input, source.name, mapping, secret, day, landed_at)
    is_first = not registered and not lake.exists(table.name)
    where = None if is_first else f"_source = '{source.name}' AND _file IN ({files.quote_list(new)})"
    n_read, left_out = _write_rows(lake, table, mapper, groups, where)
    for group in groups:
        for name in group.files:
            new[name] |= {"columns": group.columns, "left_out": left_out.get(name, [])}
    return LandedFiles(new, n_read)


def _write_rows(
    lake: Lake, table: Table, mapper: FileMapper, groups: list[FileGroup], where: str | None
) -> tuple[int, dict[str, list[tuple[date, int]]]]:
    """Replace the rows `where` by those of the files. Returns how many rows were read, and those left out by file and day."""
    raw = [mapper.read_raw(group) for group in groups]
    counts = [Observation() for _ in groups]
    observed = [frame.observe(count, F.count(F.lit(1)).alias("rows")) for frame, count in zip(raw, counts, strict=True)]
    mapped = [mapper.map_rows(frame, group) for frame, group in zip(observed, groups, strict=True)]
    with value_errors(mapper.mapping, raw):
        lake.replace(table, union_all(mapped), where)
        left_out = _count_left_out(mapper, groups) if mapper.mapping.where else {}
    return sum(count.get.get("rows", 0) for count in counts), left_out


def _count_left_out(mapper: FileMapper, groups: list[FileGroup]) -> dict[str, list[tuple[date, int]]]:
    """Return (day, rows) that `where` leaves out, by file. The files are read again, but only the columns that this takes."""
    mapping = mapper.mapping
    dating = ("event_at", "sent_at", "received_at", TIME_COLUMNS.get(mapping.table))
    columns = {column: expression for column, expression in mapping.columns.items() if column in dating}
    counts: dict[str, list[tuple[date, int]]] = {}
    for group in groups:
        used = select_used(group.used, [mapping.where, *columns.values()])
        narrow = replace(group, used=used)
        drop = tuple(column for column in group.columns if column not in used)
        narrow_mapper = replace(mapper, mapping=replace(mapping, columns=columns, drop=drop))
        rows = narrow_mapper.map_rows(narrow_mapper.read_raw(narrow), narrow, is_requested=False)
        for row in rows.groupBy("_file", "day").count().orderBy("_file", "day").collect():
            counts.setdefault(row._file, []).append((row.day, row["count"]))
    return counts


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


def _find_new_files(
    root: str, infos: list[tuple[str, fs.FileInfo]], registered: dict[str, dict], mapping: TableMapping
) -> dict[str, dict]:
    """Return the files whose content or mapping was not landed yet. Content is read only where size or time changed."""
    new = {}
    for name, info in infos:
        stamp = (info.size, info.mtime_ns, mapping.fingerprint())
        row = registered.get(name)
        if row and (row["bytes"], row["modified_ns"], row["mapping"]) == stamp:
            continue
        checksum = _hash_file(root, name)
        if row and (row["sha256"], row["mapping"]) == (checksum, mapping.fingerprint()):
            continue
        new[name] = {"sha256": checksum, "bytes": info.size, "modified_ns": info.mtime_ns}
    return new


def _hash_file(root: str, name: str) -> str:
    filesystem, base = open_filesystem(root)
    with filesystem.open_input_file(f"{base}/{name}") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
