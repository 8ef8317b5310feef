"""Matching of new clusters with the previous segments, by the customers they share."""

from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table
from jobs.traits import DORMANT

# The columns of segments.assignments that are read.
ASSIGNED = Table(
    "segments.assignments",
    "The segment of each customer.",
    "customer_id STRING, day DATE, segment_id INT, model_version STRING",
    partition="day",
)

# Customers by (previous segment, new segment); None: the customer is not on that side.
SharedCustomers = dict[tuple[int | None, int | None], int]


def read_previous_assignments(lake: Lake, version: str, day: date) -> pa.Table | None:
    """Return (customer_id, segment_id) of the latest day up to `day` under another model than `version`; None without one."""
    days = (earlier for earlier in reversed(lake.days(ASSIGNED.name)) if earlier <= day)
    of_another = ds.field("model_version") != version
    latest = next((d for d in days if lake.count_by(ASSIGNED.name, ["day"], (ds.field("day") == d) & of_another)), None)
    if latest is None:
        return None
    rows = read_rows(lake.root, Rows(ASSIGNED, "customer_id", days=[latest]))
    return rows.filter(pc.field("model_version") != version).select(["customer_id", "segment_id"])


def count_shared_customers(previous: pa.Table, new: pa.Table) -> SharedCustomers:
    """Count the customers of two tables (customer_id, segment_id) by their pair of segments.

    >>> previous = pa.table({"customer_id": ["a", "b"], "segment_id": [1, 2]})
    >>> new = pa.table({"customer_id": ["b"], "segment_id": [3]})
    >>> sorted(count_shared_customers(previous, new).items(), key=str)
    [((1, None), 1), ((2, 3), 1)]
    """
    sides = (pl.DataFrame(pl.from_arrow(rows.select(["customer_id", "segment_id"]))) for rows in (previous, new))
    pairs = next(sides).join(next(sides), "customer_id", "full").group_by("segment_id", "segment_id_right").len()
    return {(before, after): n for before, after, n in pairs.iter_rows()}


def select_active_pairs(shared: SharedCustomers) -> SharedCustomers:
    """Return the counts of the customers who are active on both sides.

    >>> select_active_pairs({(1, 2): 9, (None, 2): 5, (0, 2): 3, (1, 0): 1})
    {(1, 2): 9}
    """
    return {pair: n for pair, n in shared.items() if None not in pair and DORMANT not in pair}


def match_segments(shared: SharedCustomers, kept_share: float) -> dict[int, int]:
    """Return, by new cluster, the previous segment whose id it keeps.

    The pairs are those that share most customers in total. A pair counts where it shares at least `kept_share` of its smaller
    side. Only customers active on both sides count: no id is lost because customers came or fell dormant.

    >>> match_segments({(1, 11): 90, (1, 12): 10, (2, 12): 30, (2, 11): 5, (None, 11): 500, (0, 12): 500}, 0.5)
    {11: 1, 12: 2}
    """
    from scipy.optimize import linear_sum_assignment  # takes half a second, which most days do without

    pairs = select_active_pairs(shared)
    previous_ids, new_ids = sorted({previous for previous, _ in pairs}), sorted({new for _, new in pairs})
    overlap = np.array([[pairs.get((p, n), 0) for n in new_ids] for p in previous_ids]).reshape(len(previous_ids), len(new_ids))
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return {
        new_ids[column]: previous_ids[row]
        for row, column in sorted(zip(rows.tolist(), columns.tolist(), strict=True), key=lambda pair: pair[1])
        if overlap[row, column] >= kept_share * min(overlap[row].sum(), overlap[:, column].sum())
    }
