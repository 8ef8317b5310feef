"""The Delta tables under one root: read as Arrow, and written in one commit that replaces exactly the rows it is about.

Every step can therefore be run again. Tables stay at Delta reader version 1, so that every client reads them.
"""

from collections import Counter
from collections.abc import Collection
from datetime import date
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.storage import commits, delta
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Session(Protocol):
    """A Spark session that is opened when it is first used: jobs.engine.lazy_session.LazySession."""

    def begin(self, is_short: bool = False) -> None:
        """Start to open the session beside what is being done, for short work or long."""

    def open(self) -> "SparkSession":
        """Return the session, once it is open."""

    @property
    def is_begun(self) -> bool:
        """Whether the session is open or about to be."""


class Lake:
    """The Delta tables under one root, and a Spark session for those who need one."""

    def __init__(self, session: Session | None, root: str):
        """`session` may be None where nothing is done that needs Spark."""
        self._session = session
        self.root = root

    @property
    def spark(self) -> "SparkSession | None":
        """The Spark session, which is opened now where it was not before."""
        return self._session and self._session.open()

    @property
    def has_session(self) -> bool:
        """Whether a Spark session is open or about to be."""
        return self._session is not None and self._session.is_begun

    def begin_session(self, is_short: bool = False) -> None:
        """Start to open the Spark session where it is not open yet, for somebody who will need it in a while.

        `is_short` says that the work takes seconds when the JVM is warm.
        """
        if self._session is not None:
            self._session.begin(is_short)

    def path(self, name: str) -> str:
        """Return where the table `<layer>.<table>` lies."""
        return delta.table_path(self.root, name)

    def exists(self, name: str) -> bool:
        """Return whether a table was written."""
        return delta.is_written(self.path(name))

    def read_small_table(
        self, table: Table | str, columns: list[str] | None = None, where: ds.Expression | None = None
    ) -> list[dict]:
        """Return the rows of a small table as dictionaries; none where it was never written."""
        name = table if isinstance(table, str) else table.name
        stored = delta.open_if_written(self.root, name)
        return [] if stored is None else delta.open_dataset(stored).to_table(columns=columns, filter=where).to_pylist()

    def read_arrow(self, table: Table, columns: list[str] | None = None, days: Collection[date] | None = None) -> pa.Table:
        """Return a table, or columns and days of it, as Arrow; no rows where it was never written."""
        return read_rows(self.root, Rows(table, "", columns and tuple(columns), days))

    def days(self, name: str) -> list[date]:
        """Return the days that a table partitioned by day has rows of, in order, from its log alone."""
        return delta.list_days(self.root, name)

    def count_rows(self, name: str, days: Collection[date] | None = None) -> int:
        """Return the number of rows of a table, or of `days` of one partitioned by day, from its log alone."""
        return delta.count_rows(self.root, name, days)

    def count_rows_by_day(self, name: str) -> Counter:
        """Return the number of rows of each day of a table partitioned by day, from its log alone."""
        return delta.count_rows_by_day(self.root, name)

    def count_by(self, name: str, by: list[str], where: ds.Expression | None = None) -> Counter:
        """Return the number of rows for each combination of `by`, at constant memory."""
        return delta.count_by(self.root, name, by, where)

    def version(self, name: str) -> int:
        """Return the newest version of a table."""
        return delta.read_version(self.path(name))

    def properties(self, name: str) -> dict[str, str]:
        """Return the table properties of a table."""
        return delta.read_properties(self.path(name))

    def create(self, table: Table) -> None:
        """Create the table where it is missing; add columns that the contract has gained."""
        commits.create_table(self.root, table)

    def set_property(self, table: Table, key: str, value: str) -> None:
        """Set a table property that every client can read; write nothing where it is set already."""
        commits.set_property(self.root, table, key, value)

    def open_for_write(self, table: Table) -> commits.OpenTable:
        """Create the table where it is missing and open it: what is committed to it replaces what it holds now."""
        return commits.open_for_write(self.root, table)

    def replace_rows(self, table: Table, rows: pa.Table, days: Collection[date] | None = None) -> int:
        """Make `rows` the rows of exactly these days, or of the whole table; return the number of rows."""
        return commits.replace_rows(self.root, table, rows, days)

    def replace_where(self, table: Table, rows: pa.Table, where: ds.Expression) -> int:
        """Make `rows` the rows that fulfil `where` of a table without partitions; return the number of rows written."""
        return commits.replace_where(self.root, table, rows, where)

    def discard(self, table: Table, files: Collection[commits.File]) -> None:
        """Remove files that no version of a table names."""
        commits.discard_files(self.root, table, files)
