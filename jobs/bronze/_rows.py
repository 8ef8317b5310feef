"""The rows of a landing put in the place of those that its files had before."""

import pyarrow as pa
import pyarrow.compute as pc

from jobs.storage.table import Table

COUNTS = pa.schema(
    [("_file", pa.string()), ("day", pa.date32()), ("n_rows", pa.int64()), ("n_left_out", pa.int64()), ("n_read", pa.int64())]
)


def count_rows(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """Count the rows of files by day: landed, left out, and read, which has no day.

    Key: any. Input: `new` of FileMapper. Output: `counts`, sorted by file and day. About 0.02 µs of CPU a row.
    """
    new = tables["new"]
    numbers = new.select(["_file", "day"])
    numbers = numbers.append_column("n_rows", _is_row(new).cast(pa.int64()))
    numbers = numbers.append_column("n_left_out", new["_n_left_out"].fill_null(0))
    numbers = numbers.append_column("n_read", new["_n_read"].fill_null(0))
    return {"counts": sum_counts(numbers)}


def sum_counts(counts: pa.Table) -> pa.Table:
    """Return counts added up by file and day."""
    names = ["n_rows", "n_left_out", "n_read"]
    sums = counts.group_by(["_file", "day"], use_threads=False).aggregate([(name, "sum") for name in names])
    sums = sums.select(["_file", "day", *(f"{name}_sum" for name in names)]).rename_columns(COUNTS.names)
    return sums.cast(COUNTS).sort_by([("_file", "ascending"), ("day", "ascending")])


def place_rows(tables: dict[str, pa.Table], table: Table, source: str, files: frozenset[str]) -> dict[str, pa.Table]:
    """Return the rows of days: the new rows, and the stored ones of all other files and sources as they are.

    Key: any. Inputs: `new` of FileMapper; `stored`, all rows of these days, or of a table without days. Outputs: `rows`, in the
    order of the inputs; `counts` of count_rows. About 0.1 µs of CPU a row.
    """
    new, stored = tables["new"], tables["stored"]
    if stored.num_rows:
        is_of_files = pc.is_in(stored["_file"], pa.array(sorted(files), pa.string()))
        stored = stored.filter(pc.invert(pc.and_(pc.equal(stored["_source"], source), is_of_files)))
    rows = pa.concat_tables([part.select(table.columns).cast(_nullable(table)) for part in (stored, new.filter(_is_row(new)))])
    return {"rows": rows, **count_rows(tables)}


def _is_row(new: pa.Table) -> pa.ChunkedArray:
    """Return whether each row is one of the table, and no tally."""
    return pc.and_(pc.is_null(new["_n_read"]), pc.is_null(new["_n_left_out"]))


def _nullable(table: Table) -> pa.Schema:
    return pa.schema([(field.name, field.type) for field in table.arrow_schema])  # the writer checks NOT NULL
