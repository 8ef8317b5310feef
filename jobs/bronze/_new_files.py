"""The files of a source that are to be landed in one bronze table: those that are new, or changed, or mapped otherwise."""

import hashlib
from dataclasses import dataclass, replace
from datetime import date, datetime

from pyarrow import fs

from jobs.bronze import files
from jobs.bronze._columns import FileGroup, group_by_header
from jobs.bronze._mapping import FileMapper
from jobs.config.settings import Settings, read_secret
from jobs.config.source_files import find_files
from jobs.config.source_mapping import Source, TableMapping
from jobs.errors import UserError
from jobs.progress import log
from jobs.storage import delta
from jobs.storage.files import open_filesystem
from jobs.storage.lake import Lake
from jobs.storage.table import Table

_BYTES_PER_ROW = 100  # of text, by which the rows of files are estimated
_LEAST_COMPRESSION, _MOST_COMPRESSION = 4, 1032  # of text; gzip can do no more


@dataclass(frozen=True)
class MappedFiles:
    """Files that one mapping makes rows of."""

    mapper: FileMapper
    group: FileGroup


@dataclass(frozen=True)
class NewFiles:
    """The files that are to be landed in a table: a row of bronze.files by name, and the texts' size in bytes.

    A file stands in `mapped` once for each mapping that takes it. `registered` are the files that were landed before.
    """

    table: Table
    source: str
    files: dict[str, dict]
    mapped: list[MappedFiles]
    text_bytes: dict[str, int]
    registered: dict[str, dict]

    @property
    def n_rows(self) -> int:
        """The number of rows, by estimate."""
        return sum(self.text_bytes[name] for part in self.mapped for name in part.group.files) // _BYTES_PER_ROW


def find_new_files(
    lake: Lake, settings: Settings, source: Source, table: Table, day: date, landed_at: datetime
) -> NewFiles | None:
    """Return the files of `source` for `table` that are new or changed and, where names state a day, not after `day`.

    Raises UserError for a missing file or column.
    """
    mappings = source.mappings[table.name.split(".")[1]]
    names_by_mapping, infos = {}, {}
    for mapping in mappings:
        pairs = [(name, info) for name, info in find_files(settings.input, mapping) if (mapping.file_day_of(name) or day) <= day]
        if not pairs:
            raise UserError(f"land: no file {mapping.files} ({table.name}) in {settings.input} for a day up to {day}")
        names_by_mapping[mapping] = [name for name, _ in pairs]
        infos |= dict(pairs)
    registered = files.read_register(lake, source.name, table.name)
    fingerprints = _fingerprint_files(names_by_mapping)
    new = _find_changed_files(settings.input, infos, registered, fingerprints)
    if not new:
        log(f"read  {table.name:<28} {len(infos):>12,} files, all landed before")
        lake.create(table)  # an older lake may lack a column that cleaning reads
        return None
    log(f"read  {table.name:<28} {len(new):>12,} new files of {len(infos):,}")
    stored_table, mapped = _with_stored_columns(lake, table), []
    for mapping, names in names_by_mapping.items():
        secret = read_secret() if mapping.is_personal else ""
        groups = group_by_header(settings.input, [name for name in names if name in new], mapping)
        _log_new_columns(table, mapping, {name: group.columns for group in groups for name in group.files}, registered)
        mapper = FileMapper(settings.clean, settings.input, source.name, stored_table, mapping, secret, day, landed_at)
        mapped += [MappedFiles(mapper, group) for group in groups]
    text_bytes = {name: _estimate_text_bytes(settings.input, name, new[name]["bytes"], mappings[0]) for name in new}
    return NewFiles(stored_table, source.name, new, mapped, text_bytes, registered)


def _fingerprint_files(names_by_mapping: dict[TableMapping, list[str]]) -> dict[str, str]:
    """Return the fingerprint of all mappings that take a file, by its name."""
    parts: dict[str, list[str]] = {}
    for mapping, names in names_by_mapping.items():
        for name in names:
            parts.setdefault(name, []).append(mapping.fingerprint())
    return {name: "+".join(fingerprints) for name, fingerprints in parts.items()}


def _with_stored_columns(lake: Lake, table: Table) -> Table:
    """Return a contract with the text columns that the table has besides in an older lake, so that stored rows keep them."""
    if not lake.exists(table.name):
        return table
    others = sorted(delta.read_columns(lake.path(table.name)).difference(table.columns))
    return replace(table, schema=", ".join([table.schema, *(f"{column} STRING" for column in others)]))


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
    root: str, infos: dict[str, fs.FileInfo], registered: dict[str, dict], fingerprints: dict[str, str]
) -> dict[str, dict]:
    """Return the files whose content or mapping was not landed yet. Content is read only where size or time changed."""
    new = {}
    for name, info in sorted(infos.items()):
        stamp = (info.size, info.mtime_ns, fingerprints[name])
        row = registered.get(name)
        if row and (row["bytes"], row["modified_ns"], row["mapping"]) == stamp:
            continue
        checksum = _hash_file(root, name)
        if row and (row["sha256"], row["mapping"]) == (checksum, fingerprints[name]):
            continue
        new[name] = {"sha256": checksum, "bytes": info.size, "modified_ns": info.mtime_ns, "mapping": fingerprints[name]}
    return new


def _hash_file(root: str, name: str) -> str:
    filesystem, base = open_filesystem(root)
    with filesystem.open_input_file(f"{base}/{name}") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _estimate_text_bytes(root: str, name: str, n_bytes: int, mapping: TableMapping) -> int:
    """Return the size of a file as text. The last bytes of a gzip archive give the size of its last member, below 4 GiB."""
    if mapping.format == "parquet":
        return n_bytes * _LEAST_COMPRESSION
    if not name.endswith(".gz"):
        return n_bytes
    filesystem, base = open_filesystem(root)
    with filesystem.open_input_file(f"{base}/{name}") as file:
        last_bytes = file.read_at(4, max(0, n_bytes - 4))
    stated = min(int.from_bytes(last_bytes, "little"), n_bytes * _MOST_COMPRESSION)  # anything where the file is truncated
    return max(stated, n_bytes * _LEAST_COMPRESSION)
