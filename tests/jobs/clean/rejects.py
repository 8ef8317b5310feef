"""What every table of rejects holds: rows as received."""

import pyarrow as pa

from jobs.storage.table import Table


def land(bronze: Table, *rows: dict) -> pa.Table:
    """Return bronze rows, each given by its columns as text; they are rows 1, 2, ... of one file."""
    origin = {"_extra": [], "_source": "shop", "_file": "file"}
    return pa.Table.from_pylist([origin | {"_row": n} | row for n, row in enumerate(rows, 1)], bronze.arrow_schema)


def read_as_received(raw: pa.Table, rejects: pa.Table) -> list[tuple]:
    """Return (row, outcome, rules) of each rejected row; assert that it has every column as received."""
    received = {row["_row"]: row for row in raw.to_pylist()}
    rows = rejects.to_pylist()
    for row in rows:
        assert {column: row[column] for column in raw.column_names} == received[row["_row"]]
    return [(row["_row"], row["outcome"], row["rules"]) for row in rows]
