"""Rows that can be made only of a file as a whole: with look-ups in other files, unnested, filled down, or by a `select`.

All four are one SELECT over the table `rows`, which is the file, and a table for each look-up.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from jobs.bronze import _reading
from jobs.bronze._columns import (
    FileGroup,
    describe_refusal,
    find_unresolved,
    group_lookup_files,
    list_expressions,
    select_used,
)
from jobs.bronze._names import match_name, suggest_names
from jobs.bronze._sql import find_names, open_connection, quote_name, to_sql
from jobs.config.source_files import find_files
from jobs.config.source_mapping import FillDown, Lookup, TableMapping
from jobs.errors import UserError
from jobs.progress import log

_OF_FILES = ("_extra", "_file")  # what a `select` is not given of rows


@dataclass(frozen=True)
class LookupFiles:
    """The files of a look-up that may be used, in the order in which a later one replaces rows of an earlier one."""

    lookup: Lookup
    groups: list[FileGroup]
    order: list[str]

    @property
    def columns(self) -> list[str]:
        """The columns that the mapping knows, by its spelling."""
        return list(dict.fromkeys(name for group in self.groups for name in group.names))

    def list_known(self, day: date | None) -> list[str]:
        """Return the files that were known on a day, all for None."""
        return [name for name in self.order if day is None or (self.lookup.file_day_of(name) or day) <= day]


def find_lookup_files(root: str, mapping: TableMapping, day: date) -> tuple[LookupFiles, ...]:
    """Return the files of a mapping's look-ups up to `day`. Raises UserError for a missing file, key or personal column."""
    words = None if mapping.select else find_names(" ".join(list_expressions(mapping).values()))
    lookups = []
    for lookup in mapping.lookups:
        names = [name for name, _ in find_files(root, lookup) if (lookup.file_day_of(name) or day) <= day]
        if not names:
            raise UserError(f"land: no file {lookup.files} ({lookup.label}) in {root} for a day up to {day}")
        named = None if words is None else words | {lookup.key}
        groups = group_lookup_files(root, names, lookup, named)
        lookups.append(LookupFiles(lookup, groups, sorted(names, key=lambda name, lookup=lookup: _order_of(name, lookup))))
    return tuple(lookups)


def _order_of(name: str, lookup: Lookup) -> tuple:
    """Return what files are sorted by: the day in the name, then the name with its numbers by value."""
    parts = [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
    return lookup.file_day_of(name) or date.min, parts


def check_select(mapping: TableMapping, group: FileGroup, lookups: Iterable[LookupFiles]) -> None:
    """Raise UserError for a `select` that DuckDB refuses, and for a column that the mapping names and it does not return."""
    with open_connection() as connection:
        texts = pa.schema([*((name, pa.string()) for name in (*group.names, *group.absent)), ("_row", pa.int64())])
        connection.register("rows", texts.empty_table())
        for files in lookups:
            connection.register(files.lookup.name, pa.schema([(name, pa.string()) for name in files.columns]).empty_table())
        place = f"land: the mapping's {mapping.table}.select"
        try:
            columns = connection.sql(_one_select(connection, mapping.select)).columns
        except duckdb.Error as error:
            raise UserError(f"{place}: {describe_refusal(error)}") from None
    if "_row" not in columns:
        raise UserError(f"{place} must return the column _row of the table rows, which says where a row comes from")
    if missing := find_unresolved(select_used(columns, list_expressions(mapping).values()), mapping, {}):
        hint = suggest_names(missing, columns)
        raise UserError(
            f"{place} does not return {', '.join(missing)}, which the mapping's columns name. {hint}Add it to the select"
        )


def _one_select(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Return the SQL of a `select`. Raises UserError where it is anything else than one query."""
    statements = connection.extract_statements(sql)
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise UserError("land: a mapping's select must be one SELECT; remove other statements")
    return statements[0].query.rstrip().rstrip(";")


class WholeFiles:
    """Makes the rows of files, each as a whole, in one connection."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, root: str, mapping: TableMapping, lookups: Iterable[LookupFiles], secret: str
    ):
        """Read the look-ups, once for all files."""
        self._connection, self._mapping, self._lookups = connection, mapping, list(lookups)
        for files in self._lookups:
            connection.register(f"_all_{files.lookup.name}", _read_lookup(root, files, secret))

    def make_rows(self, rows: pa.Table, file: str) -> tuple[pa.Table, pa.Table]:
        """Return the rows that the mapping makes of those of a file, malformed ones as they are; and those it makes none of.

        Raises UserError for a value that the SELECT cannot take, and a `_row` that is none of the file.
        """
        is_malformed = pc.is_valid(pc.map_lookup(rows["_extra"], pa.scalar(_reading.MALFORMED), "first"))
        malformed, rows = rows.filter(is_malformed), rows.filter(pc.invert(is_malformed))
        for files in self._lookups:
            self._show_version(files, self._mapping.file_day_of(file))
        selected = self._select(rows.drop_columns(list(_OF_FILES)) if self._mapping.select else rows, file)
        numbers = selected["_row"].combine_chunks()
        if numbers.null_count or not pc.all(pc.is_in(numbers, rows["_row"].combine_chunks()), min_count=0).as_py():
            raise UserError(
                f"land: file {file}: the mapping's {self._mapping.table}.select returns a _row that is none of the file"
            )
        if self._mapping.select:
            selected = _add_extra(selected, self._mapping, file)
        unused = rows.filter(pc.invert(pc.is_in(rows["_row"], numbers)))
        return pa.concat_tables([selected, malformed], promote_options="default"), unused

    def _show_version(self, files: LookupFiles, day: date | None) -> None:
        """Let a look-up's name stand for its rows as they were known on a day, one for each key."""
        lookup, versions = files.lookup, files.list_known(day)
        if lookup.key is None and lookup.file_day is not None:
            versions = [name for name in versions if lookup.file_day_of(name) == lookup.file_day_of(versions[-1])]
        places = ", ".join(str(files.order.index(name)) for name in versions) or "NULL"
        newest = ""
        if lookup.key is not None:
            key = quote_name(lookup.key)
            newest = f" AND {key} IS NOT NULL QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY _place DESC, _row DESC) = 1"
        self._connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {quote_name(lookup.name)} AS SELECT * EXCLUDE (_place, _row) "  # noqa: S608
            f"FROM {quote_name(f'_all_{lookup.name}')} WHERE _place IN ({places}){newest}"
        )

    def _select(self, rows: pa.Table, file: str) -> pa.Table:
        self._connection.register("rows", rows)
        try:
            if not self._mapping.select:
                return self._connection.sql(_build_select(self._mapping)).to_arrow_table()
            sql = _one_select(self._connection, self._mapping.select)
            columns = [column for column in self._connection.sql(sql).columns if column != "_row"]
            texts = ", ".join(f"CAST({name} AS VARCHAR) AS {name}" for name in map(quote_name, columns))
            return self._connection.sql(
                f"SELECT CAST(_row AS BIGINT) AS _row, {texts} FROM ({sql}\n) ORDER BY ALL"  # noqa: S608
            ).to_arrow_table()
        except duckdb.Error as error:
            raise UserError(self._describe(error, file)) from None

    def _describe(self, error: duckdb.Error, file: str) -> str:
        """Return which row the SELECT cannot take; DuckDB's own error quotes the value."""
        word, hint = ("select", "change it, such as to try_cast") if self._mapping.select else ("lookups", "change `on`")
        place = f"land: file {file}"
        if self._mapping.unnest and (row := self._find_no_json()):
            word, hint, place = f"unnest = '{self._mapping.unnest}'", "it needs a list in JSON", f"{place}, row {row}"
        return f"{place}: the mapping's {self._mapping.table}.{word} cannot take a value ({type(error).__name__}); {hint}"

    def _find_no_json(self) -> int | None:
        """Return the first row whose list is no JSON."""
        column = quote_name(self._mapping.unnest)
        sql = f"SELECT min(_row) FROM rows WHERE {column} IS NOT NULL AND TRY(json_type({column})) IS NULL"  # noqa: S608
        return self._connection.sql(sql).fetchall()[0][0]


def _read_lookup(root: str, files: LookupFiles, secret: str) -> pa.Table:
    """Return the rows of all files of a look-up: its columns, `_place` of the file in their order, and `_row`."""
    tables = []
    for group in files.groups:
        for name in group.files:
            for batch in _reading.read_rows(root, name, group.reading, group.used, secret):
                rows = pa.Table.from_batches([batch]).rename_columns([*group.names, "_extra", "_file", "_row"])
                is_malformed = pc.is_valid(pc.map_lookup(rows["_extra"], pa.scalar(_reading.MALFORMED), "first"))
                if n_malformed := pc.sum(is_malformed).as_py():
                    log(f"read  {files.lookup.label}: {n_malformed:,} malformed rows of {name} are left out")
                rows = rows.filter(pc.invert(is_malformed)).drop_columns(list(_OF_FILES))
                tables.append(rows.append_column("_place", pa.repeat(files.order.index(name), rows.num_rows)))
    empty = pa.schema([*((c, pa.string()) for c in files.columns), ("_row", pa.int64()), ("_place", pa.int64())]).empty_table()
    return pa.concat_tables([empty, *tables], promote_options="default")


def _add_extra(rows: pa.Table, mapping: TableMapping, file: str) -> pa.Table:
    """Return the rows of a `select` with the columns that the mapping does not name in _extra, and their file."""
    used = {*select_used(rows.column_names, list_expressions(mapping).values()), "_row", *_OF_FILES}
    extra = {c: rows[c].combine_chunks() for c in rows.column_names if c not in used}
    if mapping.is_personal:
        extra = {c: values for c, values in extra.items() if any(match_name(name, [c]) for name in mapping.keep)}
    rows = rows.select([c for c in rows.column_names if c not in (*extra, *_OF_FILES)])
    rows = rows.append_column("_extra", _reading.to_map(extra, rows.num_rows))
    return rows.append_column("_file", pa.repeat(file, rows.num_rows))


def _build_select(mapping: TableMapping) -> str:
    """Return the SELECT of a mapping's `fill_down`, `unnest` and look-ups, in this order."""
    sql = "SELECT * FROM rows"
    if mapping.fill_down:
        sql = _fill_down(sql, mapping.fill_down)
    if mapping.unnest:
        column = quote_name(mapping.unnest)
        elements = f"""CASE coalesce(json_type({column}), 'NULL') WHEN 'NULL' THEN NULL
            WHEN 'ARRAY' THEN from_json({column}, '["JSON"]') ELSE [CAST({column} AS JSON)] END"""
        sql = f"""SELECT * EXCLUDE (_list, {column}), unnest(_list)->>'$' AS {column}, generate_subscripts(_list, 1) AS _position
            FROM (SELECT *, {elements} AS _list FROM ({sql}))"""  # noqa: S608
    for lookup in mapping.lookups:
        name, key = quote_name(lookup.name), quote_name(lookup.key)
        sql = f"""SELECT _left.* EXCLUDE (_key), {name} AS {name}
            FROM (SELECT *, CAST(({to_sql(lookup.on)}\n) AS VARCHAR) AS _key FROM ({sql}) source_rows) _left
            LEFT JOIN {name} ON {name}.{key} = _left._key"""  # noqa: S608
    return f"SELECT * FROM ({sql}) ORDER BY _row{', _position' if mapping.unnest else ''}"  # noqa: S608


def _fill_down(sql: str, fill_down: FillDown) -> str:
    """Return a SELECT in which an empty value takes the last one above it within the same key; rows without a key stay."""
    by = quote_name(fill_down.by)
    filled = ", ".join(
        f"CASE WHEN {by} IS NULL THEN {column} ELSE last_value(nullif({column}, '') IGNORE NULLS) "
        f"OVER (PARTITION BY {by} ORDER BY _row) END AS {column}"
        for column in map(quote_name, fill_down.columns)
    )
    return f"SELECT * REPLACE ({filled}) FROM ({sql})"  # noqa: S608
