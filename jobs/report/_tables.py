"""Read the report's tables, which may be missing: the section of a missing table says so."""

from datetime import date

import pyarrow as pa

from jobs.errors import UserError
from jobs.storage.delta import read_arrow


def read_table(root: str, name: str, columns: list[str] | None = None, day: date | None = None) -> pa.Table | None:
    """Return the rows of a table, of one day or of all; None where there is no such table."""
    try:
        return read_arrow(root, name, columns, day)
    except UserError:
        return None


def read_rows(root: str, name: str, columns: list[str] | None = None, day: date | None = None) -> list[dict]:
    """Return the rows of a table, of one day or of all, as dicts; none where there is no such table."""
    table = read_table(root, name, columns, day)
    return [] if table is None else table.to_pylist()
