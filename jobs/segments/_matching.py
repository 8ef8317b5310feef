"""Matching of new clusters with the previous segments, by the customers they share."""

from datetime import date

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.optimize import linear_sum_assignment

from jobs.storage.lake import Lake
from jobs.traits import DORMANT

# Customers by (previous segment, new segment); None: the customer is not on that side.
SharedCustomers = dict[tuple[int | None, int | None], int]


def read_previous_assignments(lake: Lake, version: str, day: date) -> DataFrame | None:
    """Return segments.assignments of the latest day up to `day` under another model than `version`; None where there is none."""
    if not lake.exists("segments.assignments"):
        return None
    assignments = lake.read("segments.assignments", end=day).where(F.col("model_version") != version)
    latest = assignments.agg(F.max("day")).first()[0]
    return None if latest is None else assignments.where(F.col("day") == latest)


def count_shared_customers(previous: DataFrame, new: DataFrame) -> SharedCustomers:
    """Count the customers of two frames (customer_id, segment_id) by their pair of segments."""
    pairs = previous.select("customer_id", F.col("segment_id").alias("previous")).join(
        new.select("customer_id", F.col("segment_id").alias("new")), "customer_id", how="full_outer"
    )
    return {(row.previous, row.new): row["count"] for row in pairs.groupBy("previous", "new").count().collect()}


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
    pairs = select_active_pairs(shared)
    previous_ids, new_ids = sorted({previous for previous, _ in pairs}), sorted({new for _, new in pairs})
    overlap = np.array([[pairs.get((p, n), 0) for n in new_ids] for p in previous_ids]).reshape(len(previous_ids), len(new_ids))
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return {
        new_ids[column]: previous_ids[row]
        for row, column in sorted(zip(rows.tolist(), columns.tolist(), strict=True), key=lambda pair: pair[1])
        if overlap[row, column] >= kept_share * min(overlap[row].sum(), overlap[:, column].sum())
    }
