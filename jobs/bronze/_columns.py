"""The columns of the source files, compared with those that their mapping names.

The first line of a file holds cells where the file has no header line. Messages therefore name only columns of the
mapping, those of the file that are spelled much alike, and give the number of those of the file.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from jobs.bronze import _reading
from jobs.bronze._names import match_name, normalize_name, split_path, suggest_names
from jobs.bronze._sql import find_names, find_plain_column, open_connection, quote_name, to_sql
from jobs.config.file_reading import FileReading
from jobs.config.source_mapping import REQUIRED, Lookup, TableMapping
from jobs.errors import UserError
from jobs.progress import log

_RESERVED = ("_extra", "_file", "_row", "_file_day", "_position")
_UNRESOLVED = re.compile(r'Referenced column "((?:[^"]|"")+)" not found')


@dataclass(frozen=True)
class FileGroup:
    """Files that have the same columns.

    `used` are those that the mapping uses, as the files spell them, and `names` as the mapping does. `absent` are columns that
    it names and that only other files have. `reading` has the personal and dropped columns as the files spell them.
    """

    columns: list[str]
    used: list[str]
    files: list[str]
    names: list[str]
    absent: list[str]
    reading: FileReading


def group_by_header(
    root: str,
    names: list[str],
    mapping: TableMapping,
    structs: dict[str, list[str]] | None = None,
    find_elsewhere: Callable[[], Iterable[str]] = tuple,
) -> list[FileGroup]:
    """Group files by their columns.

    `structs` are the columns of look-ups by their name. `find_elsewhere` returns columns of further files of the mapping.
    Raises UserError where no file has a column that the mapping names, and where a file lacks one that it cannot do without.
    """
    headers = _read_headers(root, names, mapping)
    groups = []
    for columns, files in headers.items():
        elsewhere = _Elsewhere([c for header in headers if header != columns for c in header], find_elsewhere)
        groups.append(_Header(list(columns), files, mapping, structs or {}, elsewhere).resolve())
    return groups


def group_lookup_files(root: str, names: list[str], lookup: Lookup, words: set[str] | None) -> list[FileGroup]:
    """Group the files of a look-up by their columns, of which those in `words` are used; all of them for None.

    Raises UserError for a file without the key.
    """
    headers = _read_headers(root, names, lookup)
    groups = []
    for header, files in headers.items():
        columns = list(header)
        elsewhere = _Elsewhere(
            [c for columns_elsewhere in headers if columns_elsewhere != header for c in columns_elsewhere], tuple
        )
        reading, missing = _resolve_personal(columns, lookup, elsewhere)
        spelled = _spell_columns([column for column in columns if column not in reading.drop], words)
        used, lookup_names = list(spelled), list(spelled.values())
        if lookup.key is not None and lookup.key not in lookup_names:
            missing.append(lookup.key)
        if missing:
            raise UserError(
                f"land: file {files[0]}, line 1: column {missing[0]} that [{lookup.label}] names is missing. "
                f"{suggest_names(missing, columns)}Correct the mapping, or the file"
            )
        groups.append(FileGroup(columns, used, files, lookup_names, [], reading))
    return groups


def _spell_columns(columns: list[str], words: set[str] | None) -> dict[str, str]:
    """Return how a mapping spells the columns of a file that stand among its `words`; without these how the file does."""
    if words is None:
        return {column: column.strip() for column in columns}
    spelled = {column: column for column in columns if column in words}
    spellings = {normalize_name(word): word for word in words if word not in spelled}
    spelled_otherwise = {c: spellings[normalize_name(c)] for c in columns if c not in spelled and normalize_name(c) in spellings}
    return spelled | {c: word for c, word in spelled_otherwise.items() if list(spelled_otherwise.values()).count(word) == 1}


def _read_headers(root: str, names: list[str], reading: TableMapping | Lookup) -> dict[tuple[str, ...], list[str]]:
    """Return the files by their columns."""
    headers: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        headers.setdefault(tuple(_reading.read_header(root, name, reading)), []).append(name)
    return headers


@dataclass(frozen=True)
class _Elsewhere:
    """The columns of other files: those at hand, and those that are looked up only where a column is missing."""

    columns: list[str]
    find: Callable[[], Iterable[str]]

    def has(self, name: str) -> bool:
        """Return whether another file has a column of this name."""
        return any(match_name(name, columns) or split_path(name, columns) for columns in (self.columns, list(self.find())))


def _resolve_personal(
    columns: list[str], reading: TableMapping | Lookup, elsewhere: _Elsewhere
) -> tuple[TableMapping | Lookup, list[str]]:
    """Return the mapping with its personal and dropped columns as a file spells them, and those that no file has."""
    personal, drop, missing = dict(reading.personal), list(reading.drop), []
    for name in (*reading.personal, *reading.drop):
        spellings = [column for column in columns if match_name(name, [column])]
        if not spellings and (path := split_path(name, columns)):
            spellings = [".".join([path[0], *path[1]])]
        if not spellings and not elsewhere.has(name) and name not in getattr(reading, "optional", ()):
            missing.append(name)
        if name in reading.personal:
            personal |= dict.fromkeys(spellings, reading.personal[name])
        else:
            drop += spellings
    return replace(reading, personal=personal, drop=tuple(dict.fromkeys(drop))), missing


@dataclass(frozen=True)
class _Header:
    """The columns of some files, to be compared with their mapping."""

    columns: list[str]
    files: list[str]
    mapping: TableMapping
    structs: dict[str, list[str]]
    elsewhere: _Elsewhere

    def resolve(self) -> FileGroup:
        """Return the columns that the mapping uses. Raises UserError as group_by_header."""
        reading, missing = _resolve_personal(self.columns, self.mapping, self.elsewhere)
        kept = [c for c in self.columns if c not in reading.drop]
        if self.mapping.select:
            sources = {column.strip(): column for column in kept}
            absent = [name for name in self.mapping.optional if not match_name(name, self.columns)]
        else:
            sources, absent, unresolved = self._find_sources(kept)
            missing += [name for name in unresolved if name not in missing]
        if missing:
            raise UserError(self._describe_missing(missing, {*sources, *absent, *missing, *self.mapping.personal}))
        self._check_names(kept)
        named = {*sources.values(), *reading.personal, *(c for name in self.mapping.keep for c in kept if match_name(name, [c]))}
        if self.mapping.is_personal:  # closed: what the mapping does not name may be personal too
            reading = replace(reading, drop=(*reading.drop, *(c for c in kept if c not in named)))
        return FileGroup(self.columns, list(sources.values()), self.files, list(sources), absent, reading)

    def _find_sources(self, kept: list[str]) -> tuple[dict[str, str], list[str], list[str]]:
        """Return the column of the file by the name that expressions use, and the names that may be and that are missing."""
        expressions = list_expressions(self.mapping)
        sources = {column: column for column in select_used(kept, expressions.values())}
        absent, missing = [], []
        for name in find_unresolved(list(sources), self.mapping, self.structs):
            matches = match_name(name, kept)
            if not matches and match_name(name, self.columns):
                raise UserError(
                    f"land: column {name} ({self.mapping.label}) is used and dropped by the mapping; keep one of the two"
                )
            if len(matches) > 1:
                raise UserError(
                    f"land: file {self.files[0]}: column {name} ({self.mapping.table}) is one of {len(matches)} that differ "
                    "only in case or blanks; spell it in the mapping as the file does"
                )
            if matches:
                sources[name] = matches[0]
            elif self._may_lack(name):
                absent.append(name)
            else:
                missing.append(name)
        return sources, absent, missing

    def _may_lack(self, name: str) -> bool:
        """Return whether the mapping can do without a column of this name in these files."""
        if match_name(name, self.mapping.optional):
            return True
        needed = [e for ours, e in self.mapping.columns.items() if ours in REQUIRED[self.mapping.table]]
        return not select_used([name], needed) and self.elsewhere.has(name)

    def _describe_missing(self, missing: list[str], named: set[str]) -> str:
        count = (
            f"{len(missing)} of the {len(named)} columns that the mapping names {'is' if len(missing) == 1 else 'are'} missing"
        )
        hint = suggest_names(missing, self.columns) if len(missing) < len(named) else ""
        return (
            f"land: file {self.files[0]}, line 1: {count} "
            f"({', '.join(missing)}); the file has {_reading.count_columns(self.columns)}. {hint}"
            f"Correct [{self.mapping.table}] in the mapping, or the file; if it has no header line, set header = [...]"
        )

    def _check_names(self, kept: list[str]) -> None:
        """Raise UserError for a column with a name of ours, or of a look-up."""
        if reserved := [c for c in kept if c in _RESERVED]:
            place = f"land: file {self.files[0]}: column '{reserved[0]}'"
            raise UserError(f"{place} is a name of ours; rename it, or drop it ({self.mapping.table})")
        if clashes := [name for name in self.structs if match_name(name, kept) and not self.mapping.select]:
            raise UserError(f"land: look-up {clashes[0]} ({self.mapping.table}) has the name of a column of the file; rename it")


def log_absent_columns(mapping: TableMapping, groups: list[FileGroup]) -> None:
    """Log each column that some files lack, which is null in their rows."""
    files_by_column: dict[str, list[str]] = {}
    for group in groups:
        for column in group.absent:
            files_by_column.setdefault(column, []).extend(group.files)
    for column, files in files_by_column.items():
        others = f" and {len(files) - 1} more files" if files[1:] else ""
        log(f"drift bronze.{mapping.table:<21} column '{column}' is not in {min(files)}{others}: null there")


def find_unresolved(used: list[str], mapping: TableMapping, structs: dict[str, list[str]]) -> list[str]:
    """Return the columns that the mapping's expressions name besides those `used`.

    DuckDB is given only columns that stand in the mapping's own text, so that it can suggest no others.
    Raises UserError for an expression that it refuses for another reason.
    """
    unresolved: list[str] = []
    computed: list[str] = []
    with open_connection() as connection:
        for ours, expression in list_expressions(mapping).items():
            if (column := find_plain_column(expression)) is not None:
                is_ours = column == "_position" and mapping.unnest
                unresolved += [] if is_ours or column in {*used, *unresolved} else [column]
                continue
            computed.append(expression)
            while True:
                columns = select_used([*used, *unresolved], computed)  # DuckDB is given those of all expressions together
                reason = _check_alike(columns) or bind(connection, to_sql(expression), columns, mapping, structs)
                if reason is None:
                    break
                match = _UNRESOLVED.search(reason)
                name = match and match[1].replace('""', '"')
                if name is None or name in unresolved:
                    raise UserError(f"land: the mapping's {mapping.table}.{ours} = {expression!r}: {reason}")
                unresolved.append(name)
    return unresolved


def _check_alike(columns: list[str]) -> str | None:
    """Return why columns cannot be told apart in SQL, or None."""
    first_by_name: dict[str, str] = {}
    for column in columns:
        first = first_by_name.setdefault(column.lower(), column)
        if first != column:
            return f"columns '{first}' and '{column}' differ only in case; rename one of them in the file"
    return None


def bind(
    connection: duckdb.DuckDBPyConnection, sql: str, columns: list[str], mapping: TableMapping, structs: dict[str, list[str]]
) -> str | None:
    """Return why DuckDB refuses an expression over text columns, or None; it may look at one row alone, as a condition does."""
    fields = [(column, pa.string()) for column in columns]
    fields += [(name, pa.struct([(c, pa.string()) for c in of_lookup])) for name, of_lookup in structs.items()]
    numbers = ["_row", *(["_position"] if mapping.unnest else [])]
    connection.register("source_rows", pa.schema([*fields, *((number, pa.int64()) for number in numbers)]).empty_table())
    try:
        connection.sql(f"SELECT 1 FROM source_rows WHERE ({sql}\n) IS NULL")  # noqa: S608 - the mapping's own text
    except duckdb.Error as error:
        hint = "; a name that is a word of SQL stands in double quotes" if isinstance(error, duckdb.ParserException) else ""
        return describe_refusal(error) + hint
    return None


def describe_refusal(error: duckdb.Error) -> str:
    """Return in one line why DuckDB refuses SQL, without the columns that it would suggest."""
    return " ".join(re.split(r"\n\n|\nCandidate", str(error))[0].split())[:300]


def list_expressions(mapping: TableMapping) -> dict[str, str]:
    """Return the SQL expressions of a mapping by our column; those of its other words by the word, such as `where`."""
    words = {f"lookups.{lookup.name}.on": lookup.on for lookup in mapping.lookups if lookup.on}
    if mapping.unnest:
        words["unnest"] = quote_name(mapping.unnest)
    if mapping.fill_down:
        names = (mapping.fill_down.by, *mapping.fill_down.columns)
        words |= {f"fill_down.{name}": quote_name(name) for name in names}
    return {**mapping.columns, **words, **({"where": mapping.where} if mapping.where else {})}


def select_used(columns: list[str], expressions: Iterable[str]) -> list[str]:
    """Return those of `columns` that stand in SQL expressions."""
    expressions = list(expressions)
    names = find_names(" ".join(expressions)) | set(map(find_plain_column, expressions))
    return [column for column in columns if column in names]
