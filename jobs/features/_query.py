"""SQL of the features' kernels, run by DuckDB on Arrow tables."""

import os
import re
from collections.abc import Collection, Iterable, Mapping

import duckdb
import pyarrow as pa

from jobs.concurrency import count_threads
from jobs.storage.rows import Scan
from jobs.storage.scratch import open_scratch

_PERCENT_OF_MEMORY = 60
# A bucket is twice the size of the other layers': DuckDB uses all CPUs in one process and spills what does not fit.
BUCKET_SIZE = 2
# A bucket that DuckDB reads itself is larger still: only the sums of its customers are in memory.
SCAN_SIZE = 20


def run_steps(
    tables: Mapping[str, pa.Table | Scan], steps: Mapping[str, str], results: Mapping[str, str], views: Collection[str] = ()
) -> dict[str, pa.Table]:
    """Return the rows of the queries `results` over these tables and steps; each step may read the tables and steps before it.

    Times are UTC. What does not fit into memory spills to disk. A worker process has one CPU, and its part of the memory.
    Each step is stored as a table, because one query of all steps takes up to four times as long; those in `views` are
    computed by each of their readers, which is less where it is a copy of many columns.
    """
    threads, cpus = count_threads(), os.cpu_count() or 1
    percent = _PERCENT_OF_MEMORY if threads > 1 else max(1, _PERCENT_OF_MEMORY // cpus)
    with open_scratch() as folder, duckdb.connect() as connection:
        connection.execute(
            f"SET threads = {threads}; SET memory_limit = '{percent}%'; SET temp_directory = '{folder}';"
            "SET preserve_insertion_order = false; SET enable_progress_bar = false"
        )
        for name, rows in tables.items():
            _register(connection, name, rows)
        for name, sql in steps.items():
            connection.execute(f"CREATE TEMP {'VIEW' if name in views else 'TABLE'} {name} AS {sql}")
        return {name: connection.sql(sql).to_arrow_table() for name, sql in results.items()}


def _register(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table | Scan) -> None:
    if isinstance(rows, Scan):
        connection.register(f"no_{name}", rows.schema.empty_table())
        connection.execute(f"CREATE TEMP VIEW {name} AS {rows.to_sql(f'no_{name}')}")
    else:
        connection.register(name, _without_zones(rows))


def _without_zones(rows: pa.Table) -> pa.Table:
    """Return the rows with UTC times as times without a zone, which no setting of a machine can move."""
    fields = [f.with_type(pa.timestamp("us")) if pa.types.is_timestamp(f.type) else f for f in rows.schema]
    return rows.cast(pa.schema(fields))


def find_columns(columns: Iterable[str], texts: Collection[str]) -> tuple[str, ...]:
    """Return those of `columns` that SQL texts name.

    >>> find_columns(["device", "page", "day"], ["device = 'tablet'", "weekday(day)"])
    ('device', 'day')
    """
    words = set(re.findall(r"\w+", " ".join(texts)))
    return tuple(name for name in columns if name in words)
