"""The files of a source that are to be landed in one bronze table: those that are new, or changed, or mapped otherwise."""

import hashlib
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cache

from pyarrow import fs

from jobs import business_day
from jobs.bronze import files
from jobs.bronze._columns import FileGroup, group_by_header, log_absent_columns
from jobs.bronze._days import TIME_COLUMNS
from jobs.bronze._mapping import FileMapper
from jobs.bronze._names import match_name
from jobs.bronze._reading import read_header
from jobs.bronze._whole import LookupFiles, check_select, find_lookup_files
from jobs.config.settings import Settings
from jobs.config.source_files import find_files, open_source_file
from jobs.config.source_mapping import Source, TableMapping
from jobs.progress import log
from jobs.storage import delta
from jobs.storage.lake import Lake
from jobs.storage.table import Table

_BYTES_PER_ROW = 100  # of text, by which the rows of files are estimated
_MOST_FIRST = 3  # files of a mapping whose first rows are looked at
_MOST_PRODUCTS = 100_000  # rows of each
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
    lake: Lake, settings: Settings, source: Source, table: Table, secret: str, day: date, landed_at: datetime
) -> NewFiles | None:
    """Return the files of `source` for `table` that are new or changed and, where names state a day, not after `day`.

    Raises UserError for a missing file or column.
    """
    root = settings.input
    matched = [_match_files(root, mapping, table, day) for mapping in source.mappings[table.name.split(".")[1]]]
    infos = {name: info for files_of_mapping in matched for name, info in files_of_mapping.infos.items()}
    registered = files.read_register(lake, source.name, table.name)
    new = _find_changed_files(root, infos, registered, _fingerprint_files(settings, matched))
    if not new:
        log(f"read  {table.name:<28} {len(infos):>12,} files, all landed before")
        lake.create(table)  # an older lake may lack a column that cleaning reads
        return None
    log(f"read  {table.name:<28} {len(new):>12,} new files of {len(infos):,}")
    stored_table, mapped, text_bytes = with_stored_columns(lake, table), [], {}
    for part in matched:
        mapping, lookups = part.mapping, part.lookups
        names = [name for name in part.infos if name in new]
        groups = group_files(root, names, mapping, lookups, part.all_names, registered)
        _log_new_columns(table, mapping, groups, registered)
        mapper = FileMapper(settings, root, source.name, stored_table, mapping, lookups, secret, day, landed_at)
        mapped += [MappedFiles(mapper, group) for group in groups]
        text_bytes |= {name: _estimate_text_bytes(root, name, new[name]["bytes"], mapping) for name in names}
    return NewFiles(stored_table, source.name, new, mapped, text_bytes, registered)


def find_first_files(
    settings: Settings, source: Source, table: Table, secret: str, day: date, landed_at: datetime, most_rows: int
) -> NewFiles | None:
    """Return some files of each mapping of a table, `most_rows` rows of each to be read; None where there is no file.

    Of what orders look up more is read, so that a price or rate is not missed: all files of rates, and _MOST_PRODUCTS.
    """
    name = table.name.split(".")[1]
    if name in ("products", "rates"):
        most_rows = _MOST_PRODUCTS
    mapped, infos = [], {}
    for mapping in source.mappings[name]:
        part = _match_files(settings.input, mapping, table, day)
        names = list(part.infos) if name == "rates" else _choose_first(list(part.infos))
        groups = group_files(settings.input, names, mapping, part.lookups, part.all_names)
        mapper = FileMapper(
            settings, settings.input, source.name, table, mapping, part.lookups, secret, day, landed_at, most_rows
        )
        mapped += [MappedFiles(mapper, group) for group in groups]
        infos |= {file: part.infos[file] for file in names}
    if not infos:
        return None
    rows = {name: {"sha256": "", "bytes": info.size, "modified_ns": info.mtime_ns, "mapping": ""} for name, info in infos.items()}
    return NewFiles(table, source.name, rows, mapped, dict.fromkeys(rows, most_rows * _BYTES_PER_ROW), {})


def _choose_first(names: list[str]) -> list[str]:
    """Return the first and the last two files: what is exported again stands in the last ones."""
    return [*names[:1], *names[1:][-(_MOST_FIRST - 1) :]]


@dataclass(frozen=True)
class _MatchedFiles:
    """The files that a mapping names, `infos` of those up to a day, and those of its look-ups."""

    mapping: TableMapping
    all_names: list[str]
    infos: dict[str, fs.FileInfo]
    lookups: tuple[LookupFiles, ...]


def _match_files(root: str, mapping: TableMapping, table: Table, day: date) -> _MatchedFiles:
    pairs = find_files(root, mapping)
    infos = {name: info for name, info in pairs if (mapping.file_day_of(name) or day) <= day}
    if not infos:
        log(f"read  {table.name:<28}            0 files {mapping.files} for a day up to {day}")
    return _MatchedFiles(mapping, [name for name, _ in pairs], infos, find_lookup_files(root, mapping, day))


def group_files(
    root: str,
    names: list[str],
    mapping: TableMapping,
    lookups: tuple[LookupFiles, ...],
    all_names: list[str],
    registered: dict[str, dict] | None = None,
) -> list[FileGroup]:
    """Group the files `names` of a mapping by their columns, which are compared with the mapping.

    A column that they lack may be one of `all_names`, by the register of landed files or by their header.
    Raises UserError for a column that the mapping names and no file has, and for SQL that DuckDB refuses.
    """

    @cache
    def find_elsewhere() -> list[str]:
        columns = [(registered or {}).get(name, {}).get("columns") or () for name in all_names]
        columns += [
            read_header(root, name, mapping) for name in all_names if name not in names and name not in (registered or {})
        ]
        return [column for header in columns for column in header]

    structs = {files_of_lookup.lookup.name: files_of_lookup.columns for files_of_lookup in lookups}
    groups = group_by_header(root, names, mapping, structs, find_elsewhere)
    if mapping.select:
        for group in groups:
            check_select(mapping, group, lookups)
    log_absent_columns(mapping, groups)
    return groups


def _fingerprint_files(settings: Settings, matched: list[_MatchedFiles]) -> dict[str, str]:
    """Return by name the fingerprint of all mappings that take a file, and of the look-up files known on its day.

    Days of tables with times depend on the shop's time zone, which is named where it is not UTC.
    """
    parts: dict[str, list[str]] = {}
    for part in matched:
        mapping, lookups = part.mapping, part.lookups
        checksums = {name: _hash_file(settings.input, name) for lookup_files in lookups for name in lookup_files.order}
        for name in part.infos:
            day = mapping.file_day_of(name)
            contents = [checksums[lookup_name] for lookup_files in lookups for lookup_name in lookup_files.list_known(day)]
            parts.setdefault(name, []).append(mapping.fingerprint())
            if mapping.table in TIME_COLUMNS and settings.business_time_zone != business_day.UTC:
                parts[name].append(settings.business_time_zone)
            if contents:
                parts[name].append(hashlib.sha256(" ".join(contents).encode()).hexdigest()[:16])
    return {name: "+".join(fingerprints) for name, fingerprints in parts.items()}


def with_stored_columns(lake: Lake, table: Table) -> Table:
    """Return a contract with the text columns that the table has besides in an older lake, so that stored rows keep them."""
    if not lake.exists(table.name):
        return table
    others = sorted(delta.read_columns(lake.path(table.name)).difference(table.columns))
    return replace(table, schema=", ".join([table.schema, *(f"{column} STRING" for column in others)]))


def _log_new_columns(table: Table, mapping: TableMapping, groups: list[FileGroup], registered: dict[str, dict]) -> None:
    """Log each column that no file had before, with the files that have it."""
    groups_by_file = {name: group for group in groups for name in group.files}
    earlier = {column for file in registered.values() for column in file["columns"] or ()}
    first = min(groups_by_file, default=None) if not earlier else None
    files_by_column: dict[str, list[str]] = {}
    for name in sorted(groups_by_file):
        for column in groups_by_file[name].columns:
            if column not in earlier and name != first and not (first and column in groups_by_file[first].columns):
                files_by_column.setdefault(column, []).append(name)
    for column, names in files_by_column.items():
        others = f" and {len(names) - 1} more files" if names[1:] else ""
        use = _describe_use(column, mapping, groups_by_file[names[0]])
        log(f"drift {table.name:<28} new column '{column}' in {names[0]}{others}: {use}")


def _describe_use(column: str, mapping: TableMapping, group: FileGroup) -> str:
    if any(match_name(name, [column]) for name in mapping.drop):
        return "dropped"
    if column in group.used:
        return "mapped"
    if column in group.reading.drop:
        return "not stored; `keep` would store it"
    return "personal" if column in group.reading.personal else "kept in _extra as it is"


def _find_changed_files(
    root: str, infos: dict[str, fs.FileInfo], registered: dict[str, dict], fingerprints: dict[str, str]
) -> dict[str, dict]:
    """Return the files whose content or mapping was not landed yet. Content is read only where size or time changed."""
    new = {}
    for name, info in sorted(infos.items()):
        row = registered.get(name)
        # A forgotten file is new once its content is.
        fingerprint = files.FORGOTTEN if row and row["mapping"] == files.FORGOTTEN else fingerprints[name]
        stamp = (info.size, info.mtime_ns, fingerprint)
        if row and (row["bytes"], row["modified_ns"], row["mapping"]) == stamp:
            continue
        checksum = _hash_file(root, name)
        if row and (row["sha256"], row["mapping"]) == (checksum, fingerprint):
            continue
        new[name] = {"sha256": checksum, "bytes": info.size, "modified_ns": info.mtime_ns, "mapping": fingerprints[name]}
    return new


def _hash_file(root: str, name: str) -> str:
    with open_source_file(root, name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _estimate_text_bytes(root: str, name: str, n_bytes: int, mapping: TableMapping) -> int:
    """Return the size of a file as text. The last bytes of a gzip archive give the size of its last member, below 4 GiB."""
    ending = name.lower().rpartition(".")[2]
    if mapping.format == "parquet" or ending == "zip":
        return n_bytes * _LEAST_COMPRESSION
    if ending != "gz":
        return n_bytes
    with open_source_file(root, name) as file:
        last_bytes = file.read_at(4, max(0, n_bytes - 4))
    stated = min(int.from_bytes(last_bytes, "little"), n_bytes * _MOST_COMPRESSION)  # anything where the file is truncated
    return max(stated, n_bytes * _LEAST_COMPRESSION)
