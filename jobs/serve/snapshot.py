"""One publication in memory: the tables at the versions that its row of marts.refreshes names, so that days are never mixed.

A customer is found by binary search in the sorted ids. Other tables hold the place of their customer instead of an id.
"""

import bisect
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.activation._changes import net_changes
from jobs.errors import UserError
from jobs.marts import customer_segments, segment_profiles
from jobs.scores import customer_values
from jobs.storage import delta
from jobs.storage.table import Table

REFRESHES = "marts.refreshes"
CHANGES = "marts.segment_changes"
# The columns that are read.
OUTCOMES = Table(
    "scores.customer_outcomes",
    "How probable it is that a customer does something.",
    """customer_id STRING, day DATE, outcome STRING COMMENT 'What may happen, such as churn',
       window_days INT COMMENT 'In how many days to come', probability DOUBLE COMMENT 'How probable it is, 0 to 1',
       decile INT COMMENT 'Tenth of the customers by score, 1: the highest; null: all alike',
       method STRING COMMENT 'By what it was made'""",
    partition="day",
)
RECOMMENDATIONS = Table(
    "scores.recommendations",
    "Products to offer a customer.",
    """customer_id STRING, day DATE, rank INT COMMENT 'Place, from 1', product_id STRING COMMENT 'Product',
       score DOUBLE COMMENT 'The higher the better, within a method', method STRING COMMENT 'By what it was chosen'""",
    partition="day",
)
_NEVER = -1  # place of a customer who is not published


def read_manifest(lake: str) -> dict:
    """Return the row of marts.refreshes that was written last. Raises UserError where nothing is published."""
    rows = delta.read_arrow(lake, REFRESHES).to_pylist() if delta.is_written(delta.table_path(lake, REFRESHES)) else []
    if not rows:
        raise UserError(f"serve: nothing was published in {lake} yet; run first: make refresh, or name another lake with LAKE=")
    return max(rows, key=lambda row: row["finished_at"])


class Rows:
    """Rows of customers by the place of the customer among the ids, and by the column `order`."""

    def __init__(self, rows: pa.Table, ids: pa.Array, order: str):
        places = pc.fill_null(pc.index_in(rows["customer_id"], value_set=ids), _NEVER)
        rows = rows.drop_columns(["customer_id"]).append_column("_place", places)
        if pc.any(pc.equal(places, _NEVER)).as_py():
            rows = rows.filter(pc.field("_place") != _NEVER)
        rows = rows.sort_by([("_place", "ascending"), (order, "ascending")])
        self._places = rows["_place"].to_numpy()
        self._rows = _shrink(rows.drop_columns(["_place"])).combine_chunks()

    def list_rows(self, place: int) -> list[dict]:
        """Return the rows of a customer."""
        # Of the type of the places, which NumPy else converts as a whole: 10 ms of ten million rows.
        start, end = np.searchsorted(self._places, np.array([place, place + 1], self._places.dtype))
        return self._rows.slice(start, end - start).to_pylist()


class Snapshot:
    """What was published by the run of a row of marts.refreshes. Everything is read once; nothing changes afterwards."""

    def __init__(self, lake: str, manifest: Mapping[str, Any]):
        self._lake, self._versions = lake, dict(manifest["table_versions"])
        self.id = f"{manifest['finished_at'].timestamp() * 1e6:.0f}"
        customers = self._read(customer_segments.TABLE)
        self.day: date = pc.max(customers["as_of_day"]).as_py() if customers.num_rows else manifest["day"]
        if not pc.all(pc.less_equal(customers["customer_id"][:-1], customers["customer_id"][1:])).as_py():
            customers = customers.sort_by("customer_id")
        self._ids = customers["customer_id"].combine_chunks()
        self._customers = _shrink(customers.drop_columns(["as_of_day"])).combine_chunks()
        self._segments = self._customers["segment_id"].to_numpy()
        self._profiles = {row["segment_id"]: row for row in self._read(segment_profiles.TABLE, self.day).to_pylist()}
        self._scores = {
            table.name: Rows(self._read(table, self.day), self._ids, order)
            for table, order in ((customer_values.TABLE, "method"), (OUTCOMES, "outcome"), (RECOMMENDATIONS, "rank"))
            if table.name in self._versions
        }
        self.list_changes = lru_cache(maxsize=4)(self._list_changes)
        pa.default_memory_pool().release_unused()  # what was needed only to load

    @property
    def n_customers(self) -> int:
        """How many customers are published."""
        return len(self._ids)

    def find_customer(self, customer_id: str) -> int | None:
        """Return the place of a customer; None where they are not known on the day."""
        place = bisect.bisect_left(range(len(self._ids)), customer_id, key=lambda number: self._ids[number].as_py())
        return place if place < len(self._ids) and self._ids[place].as_py() == customer_id else None

    def describe_customer(self, place: int) -> dict:
        """Return the row of marts.customer_segments, with `values` and `outcomes` where there are scores."""
        (row,) = self._customers.slice(place, 1).to_pylist()
        values = self.list_scores(customer_values.TABLE, place)
        return row | {"values": values[0] if values else None, "outcomes": self.list_scores(OUTCOMES, place) or []}

    def list_scores(self, table: Table, place: int) -> list[dict] | None:
        """Return a customer's rows of a table of scores; None where the table was not published."""
        return self._scores[table.name].list_rows(place) if table.name in self._scores else None

    def list_segments(self) -> list[dict]:
        """Return the rows of marts.segment_profiles of the day, by segment."""
        return [self._profiles[segment_id] for segment_id in sorted(self._profiles)]

    def describe_segment(self, segment_id: int) -> dict | None:
        """Return the profile of a segment; None where the day has none of it."""
        return self._profiles.get(segment_id)

    def list_members(self, segment_id: int, after: int, limit: int) -> tuple[list[dict], int | None]:
        """Return up to `limit` customers of a segment from the place `after` on, and the place of the next one."""
        places = np.flatnonzero(self._segments[after:] == segment_id)[: limit + 1] + after
        rows = self._customers.take(pa.array(places[:limit])).to_pylist()
        return rows, int(places[limit]) if len(places) > limit else None

    def _list_changes(self, since: date) -> pa.Table:
        """Return what changed in the segments of customers from the end of `since` to the end of the day."""
        where = (ds.field("day") > since) & (ds.field("day") <= self.day)
        steps = delta.read_arrow(self._lake, CHANGES, version=self._versions[CHANGES], where=where)
        return net_changes(steps).combine_chunks()

    def _read(self, table: Table, day: date | None = None) -> pa.Table:
        """Return a table, or its rows of a day without the day."""
        stored = delta.open_dataset(delta.open_table(self._lake, table.name, self._versions[table.name]))
        columns = [name for name in table.columns if name in stored.schema.names and not (day and name == "day")]
        return stored.to_table(columns=columns, filter=ds.field("day") == day if day else None)


def _shrink(rows: pa.Table) -> pa.Table:
    """Return rows in a form that takes little memory: repeated texts once, decimals as floating-point numbers."""
    return pa.table({name: rows[name] if name == "customer_id" else _shrink_column(rows[name]) for name in rows.column_names})


def _shrink_column(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if pa.types.is_string(column.type):
        return column.dictionary_encode()
    if pa.types.is_decimal(column.type):
        return pc.round(column.cast(pa.float64()), column.type.scale)  # the cast alone gives 548.9300000000001
    if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
        lists = column.combine_chunks()
        return pa.ListArray.from_arrays(lists.offsets, lists.values.dictionary_encode(), mask=lists.is_null())
    return column
