"""The SQL of mappings: DuckDB's expressions over the text columns of a file, evaluated without access to files or the network."""

import re

import duckdb

_PARTS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`""")  # texts, and names in quotes
_WORD = re.compile(r"[A-Za-z_]\w*")
_VALUES = {"null", "true", "false"}  # words that are values and no columns
_CONFIGURATION = {"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False}  # a task has one CPU
_CLOSING = (
    "SET TimeZone = 'UTC'",
    "SET enable_external_access = false",  # neither files, nor variables of this program as tables
    "SET lock_configuration = true",
)
# Functions that mappings have besides DuckDB's own. A value that they cannot take is null.
_EPOCH = "TRY(strftime(make_timestamp(TRY_CAST(TRY_CAST(x AS DECIMAL(30, 6)) * {} AS BIGINT)), '%Y-%m-%d %H:%M:%S.%f+00'))"
_PARAMS = """TRY(from_json(list, '[{"key": "VARCHAR", "value": "JSON"}]'))"""
_VALUES_OF_PARAM = ", ".join(f"p.value->>'{key}'" for key in ("string_value", "int_value", "double_value", "float_value", "$"))
_MACROS = (
    f"CREATE MACRO from_epoch_s(x) AS {_EPOCH.format(1_000_000)}",
    f"CREATE MACRO from_epoch_ms(x) AS {_EPOCH.format(1_000)}",
    f"CREATE MACRO from_epoch_us(x) AS {_EPOCH.format(1)}",
    f"""CREATE MACRO param(list, name) AS list_transform(
        list_filter({_PARAMS}, lambda p: p.key = name)[1:1], lambda p: coalesce({_VALUES_OF_PARAM}))[1]""",
)


def open_connection() -> duckdb.DuckDBPyConnection:
    """Open a database in memory that reaches no file and no network, in UTC; expressions cannot change that."""
    connection = duckdb.connect(config=_CONFIGURATION)
    for statement in (*_MACROS, *_CLOSING):
        connection.execute(statement)
    return connection


def quote_name(column: str) -> str:
    """Return a column's name in SQL.

    >>> quote_name("my col")
    '"my col"'
    """
    return '"{}"'.format(column.replace('"', '""'))


def to_sql(expression: str) -> str:
    """Return an expression of a mapping in DuckDB's SQL: names may stand in backticks there, and a single name needs no quotes.

    >>> to_sql("concat(`my col`, '`')"), to_sql("user"), to_sql("NULL")
    ('concat("my col", \\'`\\')', '"user"', 'NULL')
    """
    if (column := find_plain_column(expression)) is not None:
        return quote_name(column)
    return _PARTS.sub(lambda match: quote_name(_unquote(match[0])) if match[0][0] == "`" else match[0], expression)


def find_plain_column(expression: str) -> str | None:
    """Return the column that an expression names and does nothing with, or None for any other expression.

    >>> find_plain_column(" time "), find_plain_column("`my col`"), find_plain_column("lower(time)"), find_plain_column("NULL")
    ('time', 'my col', None, None)
    """
    text = expression.strip()
    if _WORD.fullmatch(text):
        return None if text.lower() in _VALUES else text
    return _unquote(text) if (match := _PARTS.fullmatch(text)) and match[0][0] != "'" else None


def find_names(expressions: str) -> set[str]:
    """Return every name in SQL expressions that could be a column, text in quotes left out.

    >>> sorted(find_names("CASE WHEN `my col` LIKE 'a b' THEN \\"Qty\\" END"))
    ['CASE', 'END', 'LIKE', 'Qty', 'THEN', 'WHEN', 'my col']
    """
    quoted = {_unquote(part) for part in _PARTS.findall(expressions) if part[0] != "'"}
    return quoted | set(_WORD.findall(_PARTS.sub(" ", expressions)))


def _unquote(name: str) -> str:
    return name[1:-1].replace(name[0] * 2, name[0])
