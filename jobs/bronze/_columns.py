"""The columns of the source files, compared with those that their mapping names.

The first line of a file holds cells where the file has no header line. Messages therefore name only columns of the
mapping, and give the number of those of the file.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.bronze import _reading
from jobs.config.source_mapping import TableMapping
from jobs.errors import UserError

_RESERVED = ("_extra", "_file", "_row", "_file_day")


@dataclass(frozen=True)
class FileGroup:
    """Files that have the same columns, and those of the columns that the expressions of the mapping use."""

    columns: list[str]
    used: list[str]
    files: list[str]


def group_by_header(spark: SparkSession, root: str, names: list[str], mapping: TableMapping) -> list[FileGroup]:
    """Group files by their columns. Raises UserError where a file lacks a column that the mapping names."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        groups.setdefault(tuple(_reading.read_header(root, name, mapping)), []).append(name)
    return [
        FileGroup(list(columns), _check_columns(spark, list(columns), files[0], mapping), files)
        for columns, files in groups.items()
    ]


def _check_columns(spark: SparkSession, columns: list[str], name: str, mapping: TableMapping) -> list[str]:
    """Return the columns of file `name` that the mapping's expressions use.

    Raises UserError for a column that the file lacks, one with a reserved name, and an expression that Spark refuses.
    """
    kept = [c for c in columns if c not in mapping.drop]
    used = select_used(kept, list_expressions(mapping).values())
    absent = [c for c in mapping.personal if c not in columns]
    unresolved = _unresolved_columns(spark, used, mapping)
    if dropped := [c for c in unresolved if c in mapping.drop]:
        raise UserError(f"land: column {dropped[0]} ({mapping.table}) is used and dropped by the mapping; keep one of the two")
    missing = list(dict.fromkeys([*absent, *unresolved]))
    if missing:
        named = len({*used, *mapping.personal, *unresolved})
        verb = "is" if len(missing) == 1 else "are"
        raise UserError(
            f"land: file {name}, line 1: {len(missing)} of the {named} columns that the mapping names {verb} missing "
            f"({', '.join(missing)}); the file has {_reading.count_columns(columns)}. "
            f"Correct [{mapping.table}] in the mapping, or the file; if it has no header line, add one"
        )
    if reserved := [c for c in kept if c in _RESERVED]:
        raise UserError(f"land: file {name}: column '{reserved[0]}' is a name of ours; rename it, or drop it ({mapping.table})")
    return used


def _unresolved_columns(spark: SparkSession, used: list[str], mapping: TableMapping) -> list[str]:
    """Return the columns that the mapping's expressions name besides those `used`.

    Spark is given only columns that stand in the mapping's own text, so that it can suggest no others.
    Raises UserError for an expression that it refuses for another reason.
    """
    unresolved: list[str] = []
    for ours, expression in list_expressions(mapping).items():
        while True:
            ddl = ", ".join(f"{quote_name(c)} STRING" for c in [*used, *unresolved])
            try:
                spark.createDataFrame([], ddl).select(F.expr(expression)).schema  # noqa: B018 - the schema is the check
                break
            except AnalysisException as error:
                match = re.match(r"^\[UNRESOLVED_COLUMN\S*\] .*? `((?:[^`]|``)+)` cannot be resolved", str(error))
                name = match and match[1].replace("``", "`")
                if name is None or name in unresolved:
                    reason = " ".join(str(error).split(";")[0].split())[:300]
                    raise UserError(f"land: the mapping's {mapping.table}.{ours} = {expression!r}: {reason}") from None
                unresolved.append(name)
    return unresolved


def list_expressions(mapping: TableMapping) -> dict[str, str]:
    """Return the SQL expressions of a mapping by our column; its condition on rows by the name `where`."""
    return {**mapping.columns, **({"where": mapping.where} if mapping.where else {})}


def select_used(columns: list[str], expressions: Iterable[str]) -> list[str]:
    """Return those of `columns` that stand in SQL expressions."""
    names = find_names(" ".join(expressions))
    return [column for column in columns if column in names]


def find_names(expressions: str) -> set[str]:
    """Return every name in SQL expressions that could be a column, text in quotes left out.

    >>> sorted(find_names("CASE WHEN `my col` LIKE 'a b' THEN Qty END"))
    ['CASE', 'END', 'LIKE', 'Qty', 'THEN', 'WHEN', 'my col']
    """
    outside = re.sub(r"'(?:[^'\\]|\\.)*'", " ", expressions)
    return set(re.findall(r"\b[A-Za-z_]\w*\b", re.sub(r"`[^`]*`", " ", outside))) | set(re.findall(r"`([^`]*)`", outside))


def quote_name(column: str) -> str:
    """Return a column's name in SQL.

    >>> quote_name("my col")
    '`my col`'
    """
    return f"`{column.replace('`', '``')}`"
