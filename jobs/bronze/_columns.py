"""The columns of the source files, compared with those that their mapping names.

The first line of a file holds cells where the file has no header line. Messages therefore name only columns of the
mapping, and give the number of those of the file.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from jobs.bronze import _reading
from jobs.bronze._sql import find_names, find_plain_column, open_connection, to_sql
from jobs.config.settings import MAX_UNPACKED_GIB
from jobs.config.source_mapping import TableMapping
from jobs.errors import UserError

_RESERVED = ("_extra", "_file", "_row", "_file_day")
_UNRESOLVED = re.compile(r'Referenced column "((?:[^"]|"")+)" not found')


@dataclass(frozen=True)
class FileGroup:
    """Files that have the same columns, and those of the columns that the expressions of the mapping use."""

    columns: list[str]
    used: list[str]
    files: list[str]


def group_by_header(root: str, names: list[str], mapping: TableMapping, max_gib: float = MAX_UNPACKED_GIB) -> list[FileGroup]:
    """Group files by their columns. Raises UserError where a file lacks a column that the mapping names."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        groups.setdefault(tuple(_reading.read_header(root, name, mapping, max_gib)), []).append(name)
    return [
        FileGroup(list(columns), _check_columns(list(columns), files[0], mapping), files) for columns, files in groups.items()
    ]


def _check_columns(columns: list[str], name: str, mapping: TableMapping) -> list[str]:
    """Return the columns of file `name` that the mapping's expressions use.

    Raises UserError for a column that the file lacks, one with a reserved name, and an expression that DuckDB refuses.
    """
    kept = [c for c in columns if c not in mapping.drop]
    used = select_used(kept, list_expressions(mapping).values())
    absent = [c for c in mapping.personal if c not in columns]
    unresolved = _unresolved_columns(used, mapping)
    if dropped := [c for c in unresolved if c in mapping.drop]:
        raise UserError(f"land: column {dropped[0]} ({mapping.table}) is used and dropped by the mapping; keep one of the two")
    missing = list(dict.fromkeys([*absent, *unresolved]))
    if missing:
        named = len({*used, *mapping.personal, *unresolved})
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(
            f"land: file {name}, line 1: {len(missing)} of the {named} columns that the mapping names {verb} missing "
            f"({', '.join(missing)}); the file has {_reading.count_columns(columns)}. "
            f"Correct [{mapping.table}] in the mapping, or the file; if it has no header line, set header = [...]"
        )
    if reserved := [c for c in kept if c in _RESERVED]:
        raise UserError(f"land: file {name}: column '{reserved[0]}' is a name of ours; rename it, or drop it ({mapping.table})")
    return used


def _unresolved_columns(used: list[str], mapping: TableMapping) -> list[str]:
    """Return the columns that the mapping's expressions name besides those `used`.

    DuckDB is given only columns that stand in the mapping's own text, so that it can suggest no others.
    Raises UserError for an expression that it refuses for another reason.
    """
    unresolved: list[str] = []
    computed: list[str] = []
    with open_connection() as connection:
        for ours, expression in list_expressions(mapping).items():
            if (column := find_plain_column(expression)) is not None:
                unresolved += [] if column in {*used, *unresolved} else [column]
                continue
            computed.append(expression)
            while True:
                columns = select_used([*used, *unresolved], computed)  # DuckDB is given those of all expressions together
                reason = _check_alike(columns) or _bind(connection, to_sql(expression), columns)
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


def _bind(connection: duckdb.DuckDBPyConnection, sql: str, columns: list[str]) -> str | None:
    """Return why DuckDB refuses an expression over text columns, or None; it may look at one row alone, as a condition does."""
    rows = pa.schema([*((column, pa.string()) for column in columns), ("_row", pa.int64())]).empty_table()
    connection.register("source_rows", rows)
    try:
        connection.sql(f"SELECT 1 FROM source_rows WHERE ({sql}\n) IS NULL")  # noqa: S608 - the mapping's own text
    except duckdb.Error as error:
        return " ".join(str(error).split("\n\n")[0].split())[:300]
    return None


def list_expressions(mapping: TableMapping) -> dict[str, str]:
    """Return the SQL expressions of a mapping by our column; its condition on rows by the name `where`."""
    return {**mapping.columns, **({"where": mapping.where} if mapping.where else {})}


def select_used(columns: list[str], expressions: Iterable[str]) -> list[str]:
    """Return those of `columns` that stand in SQL expressions."""
    expressions = list(expressions)
    names = find_names(" ".join(expressions)) | set(map(find_plain_column, expressions))
    return [column for column in columns if column in names]
