"""Which intervals of segments.history hold on a day: each layer that reads the segments of a day asks."""

from datetime import date

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.storage.rows import Rows
from jobs.storage.table import Table

# The columns that are read.
HISTORY = Table(
    "segments.history",
    "The intervals of a customer in segments.",
    "customer_id STRING, segment_id INT, valid_from DATE, valid_to DATE",
    partition="valid_to",
)


def holds_on(day: date) -> ds.Expression:
    """Return the condition of an interval that holds on a day."""
    return (ds.field("valid_from") <= day) & (ds.field("valid_to").is_null() | (ds.field("valid_to") > day))


def segments_on(day: date, only: pa.Array | None = None) -> Rows:
    """Return which rows hold the segments of a day, of all customers or `only` of some: (customer_id, segment_id)."""
    return Rows(HISTORY, "customer_id", ("customer_id", "segment_id"), only=only, where=holds_on(day))
