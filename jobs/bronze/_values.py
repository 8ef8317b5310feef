"""What the expressions of a mapping make of rows; a value that they cannot take is named by file, row and column, never quoted.

DuckDB's own error quotes the value, which may be a name or an e-mail address.
"""

import re

import duckdb
import pyarrow as pa

from jobs.bronze._columns import select_used
from jobs.bronze._sql import find_plain_column, quote_name, to_sql
from jobs.config.source_mapping import TableMapping
from jobs.errors import UserError

_STRICT = re.compile(r"\b(cast|strptime)\s*\(", re.IGNORECASE)  # functions that raise, and have a form that does not


def evaluate_texts(
    connection: duckdb.DuckDBPyConnection, rows: pa.Table, mapping: TableMapping, columns: list[str]
) -> dict[str, pa.ChunkedArray]:
    """Return these of our columns as text, nulls where the mapping leaves one out. A single column is taken as it is.

    Raises UserError for the first value that an expression cannot take.
    """
    expressions = {column: mapping.columns[column] for column in columns if column in mapping.columns}
    plain = {column: name for column, e in expressions.items() if (name := find_plain_column(e)) is not None}
    computed = {f"{mapping.table}.{column}": e for column, e in expressions.items() if column not in plain}
    texts = _evaluate(connection, rows, computed, "VARCHAR")
    nulls = pa.chunked_array([pa.nulls(rows.num_rows, pa.string())])
    return {
        column: rows[plain[column]] if column in plain else texts.get(f"{mapping.table}.{column}", nulls) for column in columns
    }


def evaluate_condition(connection: duckdb.DuckDBPyConnection, rows: pa.Table, condition: str) -> pa.ChunkedArray:
    """Return whether the rows fulfil the mapping's `where`, false for null. Raises UserError as evaluate_texts."""
    return _evaluate(connection, rows, {"where": condition}, "BOOLEAN")["where"].fill_null(False)


def _evaluate(
    connection: duckdb.DuckDBPyConnection, rows: pa.Table, expressions: dict[str, str], kind: str
) -> dict[str, pa.ChunkedArray]:
    if not expressions:
        return {}
    connection.register("source_rows", _select_columns(rows, expressions))
    selected = ", ".join(f"{_cast(e, kind)} AS {quote_name(name)}" for name, e in expressions.items())
    try:
        result = connection.sql(f"SELECT {selected} FROM source_rows").to_arrow_table()  # noqa: S608 - the mapping's own text
    except duckdb.Error as error:
        raise UserError(_find_value(connection, expressions, kind) or _describe(rows, error)) from None
    finally:
        connection.unregister("source_rows")
    return {name: result[name].cast(pa.string() if kind == "VARCHAR" else pa.bool_()) for name in expressions}


def _select_columns(rows: pa.Table, expressions: dict[str, str]) -> pa.Table:
    """Return the columns that stand in the expressions, and the origin of the rows. SQL knows no upper and lower case."""
    used = select_used(rows.column_names, expressions.values())
    return rows.select([*used, "_file", "_row"])


def _cast(expression: str, kind: str) -> str:
    return f"CAST(({to_sql(expression)}\n) AS {kind})"


def _find_value(connection: duckdb.DuckDBPyConnection, expressions: dict[str, str], kind: str) -> str | None:
    """Return the message about the first row whose value an expression cannot take, or None where no row alone is refused."""
    for name, expression in expressions.items():
        raises = f"TRY(coalesce(CAST({_cast(expression, kind)} AS VARCHAR), '')) IS NULL"
        try:
            rows = connection.sql(f"SELECT _file, _row FROM source_rows WHERE {raises} ORDER BY ALL LIMIT 1").fetchall()  # noqa: S608
        except duckdb.Error:  # TRY takes no subquery
            continue
        if rows:
            file, row = rows[0]
            return (
                f"land: file {file}, row {row}: the mapping's {name} = {expression!r} cannot take a value of "
                f"this row; correct the file, or make it null by {_to_try_form(expression)!r}"
            )
    return None


def _to_try_form(expression: str) -> str:
    """Return an expression that is null where this one cannot take a value.

    >>> _to_try_form("strptime(at, '%d/%m/%Y')"), _to_try_form("cast(n AS INT)"), _to_try_form("n::INT")
    ("try_strptime(at, '%d/%m/%Y')", 'try_cast(n AS INT)', 'TRY(n::INT)')
    """
    tolerant, n_replaced = _STRICT.subn(r"try_\1(", expression)
    return tolerant if n_replaced else f"TRY({expression})"


def _describe(rows: pa.Table, error: duckdb.Error) -> str:
    return (
        f"land: file {rows['_file'][0]}, row {rows['_row'][0]} or one of the {rows.num_rows:,} rows after it: the mapping's "
        f"expressions cannot take a value ({type(error).__name__}); correct the file, or change the expressions"
    )
