"""features.vectors: one row per customer or product and day from which it holds: the shop's own vectors, such as of images.

`shoal vectors import` brings them in from a file. All vectors of a kind are of one model and have the same length: those of
another model replace them.
"""

import numpy as np
import polars as pl
import pyarrow as pa

from jobs.errors import UserError
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.table import Table
from jobs.storage.vectors import to_matrix

CUSTOMER, PRODUCT = KINDS = ("customer", "product")
SCHEMA = """
    kind STRING NOT NULL COMMENT 'customer or product',
    id STRING NOT NULL COMMENT 'customer or product',
    known_from DATE NOT NULL COMMENT 'day from which it holds',
    model STRING NOT NULL COMMENT 'what the vectors were made with, as named at the import',
    vector ARRAY<FLOAT> NOT NULL COMMENT 'as brought in'"""
TABLE = Table("features.vectors", __doc__.split("\n\n")[0], SCHEMA, None, {"kind_known": f"kind IN {KINDS}"})
_KEYS = ("kind", "id", "known_from")


def merge_vectors(stored: pa.Table, new: pa.Table) -> pa.Table:
    """Return features.vectors with `new` vectors of one kind and model, which take the place of those of another model.

    Raises UserError for an id without a value or twice on a day, a vector that is empty, of another length or not finite.
    """
    new = new.select(TABLE.columns)
    _check_vectors(new)
    kind, model = new["kind"][0].as_py(), new["model"][0].as_py()
    earlier = to_frame(stored).filter((pl.col("kind") != kind) | (pl.col("model") == model))
    of_kind = earlier.filter(pl.col("kind") == kind)
    width = len(new["vector"][0])
    if len(of_kind) and (stored_width := len(of_kind["vector"][0])) != width:
        raise UserError(
            f"vectors import: the vectors of {model} have {width} numbers, and those stored {stored_width}. "
            "Name the new model with --model"
        )
    frame = to_frame(new)
    merged = pl.concat([earlier.join(frame, list(_KEYS), "anti"), frame]).sort(_KEYS)
    return merged.select(TABLE.columns).to_arrow().cast(TABLE.arrow_schema)


def _check_vectors(rows: pa.Table) -> None:
    frame = to_frame(rows).with_row_index("row", offset=1)
    length, width = pl.col("vector").list.len(), len(rows["vector"][0].as_py() or ())
    problems = {
        "has no id": pl.col("id").is_null() | (pl.col("id") == ""),
        "has an id that an earlier row has": pl.col("id").is_first_distinct().not_(),
        "has no vector": pl.col("vector").is_null() | (length == 0),
        f"has not {width} numbers as the first row": length != width,
    }
    for problem, condition in problems.items():
        if len(broken := frame.filter(condition)):
            raise UserError(f"vectors import: row {broken['row'][0]} {problem} ({len(broken)} such rows). Correct the file")
    # a null within a vector is read as NaN
    is_finite = np.isfinite(to_matrix(rows["vector"])).all(axis=1)
    if not is_finite.all():
        raise UserError(f"vectors import: row {int(np.argmin(is_finite)) + 1} has a value that is no number. Correct the file")


def write_vectors(lake: Lake, rows: pa.Table) -> int:
    """Add checked vectors to features.vectors; return how many it has now."""
    return lake.replace_rows(TABLE, merge_vectors(lake.read_arrow(TABLE), rows))
