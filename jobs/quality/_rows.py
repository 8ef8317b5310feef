"""The rows of a check as views of DuckDB over the files of their tables: a query reads only the columns that it names."""

import atexit
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from jobs import business_day
from jobs.errors import UserError
from jobs.storage import delta
from jobs.storage.lake import Lake
from jobs.storage.scratch import Scratch

CHECKED = "checked"  # the view of the rows that are checked
_BATCH_ROWS = 10_000
_QUOTES_SQL = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException)


@dataclass(frozen=True)
class Rows:
    """The rows of a check: the views that queries may name, and the columns of the checked table itself."""

    connection: duckdb.DuckDBPyConnection
    columns: list[str]

    def query(self, sql: str) -> list[tuple]:
        """Return the rows of a query."""
        return self.connection.execute(sql).fetchall()

    def stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a query in batches, so that memory is bounded."""
        yield from self.connection.sql(sql).to_arrow_reader(_BATCH_ROWS)

    def create_view(self, name: str, sql: str) -> None:
        """Name the rows of a query."""
        self.connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {sql}")

    def add_table(self, lake: Lake, table: str, view: str, first: date | None = None, last: date | None = None) -> list[str]:
        """Name the stored rows of a table from the day `first` to `last`; return its columns.

        Raises UserError where the table was not written.
        """
        return self.add_dataset(delta.open_dataset(delta.open_table(lake.root, table)), view, first, last)

    def add_dataset(
        self, rows: ds.Dataset | pa.Table, view: str, first: date | None = None, last: date | None = None
    ) -> list[str]:
        """Name Arrow rows from the day `first` to `last`; return their columns. Times are UTC, without a zone."""
        self.connection.register(f"_{view}", rows)
        columns = map(_select_column, rows.schema)
        limits = [f"day >= DATE '{first}'"] if first else []
        limits += [f"day <= DATE '{last}'"] if last else []
        self.create_view(view, select(columns, f"_{view}", " AND ".join(limits)))
        return rows.schema.names


@contextmanager
def open_rows(
    lake: Lake, table: str, first: date | None = None, last: date | None = None, time_zone: str = business_day.UTC
) -> Iterator[Rows]:
    """Open the rows of a table from the day `first` to `last` as the view CHECKED.

    In SQL, local_time(time) is a time by the shop's clock: that of `time_zone`.

    Raises UserError where the table was not written.
    """
    with _connect(time_zone) as connection:
        rows = Rows(connection, [])
        rows.columns.extend(rows.add_table(lake, table, CHECKED, first, last))
        yield rows


@contextmanager
def open_arrow_rows(table: pa.Table) -> Iterator[Rows]:
    """Open rows in memory as the view CHECKED."""
    with _connect() as connection:
        rows = Rows(connection, table.column_names)
        rows.add_dataset(table, CHECKED)
        yield rows


def _connect(time_zone: str = business_day.UTC) -> duckdb.DuckDBPyConnection:
    """Open a connection with views of its own to the database of this process."""
    connection = _open_database().cursor()
    connection.execute("SET python_enable_replacements = false")  # a suite names tables, not variables of Python
    connection.execute("SET enable_progress_bar = false")
    connection.execute(f"CREATE TEMP MACRO local_time(utc_time) AS {business_day.to_local_sql('utc_time', time_zone)}")
    return connection


@cache
def _open_database() -> duckdb.DuckDBPyConnection:
    """Open a database in memory, once: that takes longer than the queries of a small day."""
    scratch = Scratch()  # for what does not fit in memory
    atexit.register(scratch.remove)
    atexit.register(_open_database.cache_clear)  # DuckDB complains of a database that is open when Python ends
    return duckdb.connect(config={"temp_directory": scratch.path})


def _select_column(field: pa.Field) -> str:
    """
    >>> _select_column(pa.field("event_at", pa.timestamp("us", "UTC"))), _select_column(pa.field("day", pa.date32()))
    ('"event_at"::TIMESTAMP AS "event_at"', '"day"')
    """
    name = quote_name(field.name)
    return f"{name}::TIMESTAMP AS {name}" if pa.types.is_timestamp(field.type) else name


def select(columns: Iterable[str], source: str, where: str = "", by: str = "") -> str:
    """Return a query.

    >>> select(["day", "count(*) AS n"], "checked", where="is_bot", by="day")
    'SELECT day, count(*) AS n FROM checked WHERE is_bot GROUP BY day'
    """
    limits, groups = f" WHERE {where}" if where else "", f" GROUP BY {by}" if by else ""
    return f"SELECT {', '.join(columns)} FROM {source}{limits}{groups}"  # noqa: S608  a suite is code, not input


def quote_name(name: str) -> str:
    """Return a name as SQL.

    >>> quote_name('the "key"')
    '"the ""key\"""'
    """
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def quote_text(text: str) -> str:
    """Return a text as a literal of SQL.

    >>> quote_text("it's")
    "'it''s'"
    """
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def explain(error: duckdb.Error) -> str:
    """Return what DuckDB says of a query in one line; only the kind of an error that may quote a value of a row."""
    return str(error).splitlines()[0] if isinstance(error, _QUOTES_SQL) else type(error).__name__


@contextmanager
def sql_errors(place: str) -> Iterator[None]:
    """Turn an error of DuckDB in the block into one line that names the place of the SQL."""
    try:
        yield
    except duckdb.Error as error:
        raise UserError(f"check: {place}: {explain(error)}") from None
