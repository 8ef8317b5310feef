"""Which new cluster is which live segment: by the customers they share."""

from datetime import date

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.optimize import linear_sum_assignment

from jobs.storage.lake import Lake
from jobs.traits import DORMANT

Shared = dict[tuple[int | None, int | None], int]


def before(lake: Lake, version: str, day: date) -> DataFrame | None:
    """The assignments of the latest day up to `day` under another model, or None where there are none."""
    if not lake.exists("segments.assignments"):
        return None
    others = lake.read("segments.assignments", end=day).where(F.col("model_version") != version)
    latest = others.agg(F.max("day")).first()[0]
    return None if latest is None else others.where(F.col("day") == latest)


def shared_customers(old: DataFrame, new: DataFrame) -> Shared:
    """Customers by (old segment, new segment); None for who is not in one of the frames."""
    pairs = old.select("customer_id", F.col("segment_id").alias("old")).join(
        new.select("customer_id", F.col("segment_id").alias("new")), "customer_id", how="full_outer"
    )
    return {(row.old, row.new): row["count"] for row in pairs.groupBy("old", "new").count().collect()}


def matches(shared: Shared, kept_share: float) -> dict[int, int]:
    """New segment -> the old segment whose id it keeps: pairs that share most in all, and each `kept_share` of its smaller side.

    Only customers active on both sides count, so that no id is lost because customers came or fell dormant.

    >>> matches({(1, 11): 90, (1, 12): 10, (2, 12): 30, (2, 11): 5, (None, 11): 500, (0, 12): 500}, 0.5)
    {11: 1, 12: 2}
    """
    both = {pair: n for pair, n in shared.items() if None not in pair and DORMANT not in pair}
    old, new = sorted({o for o, _ in both}), sorted({n for _, n in both})
    overlap = np.array([[both.get((o, n), 0) for n in new] for o in old]).reshape(len(old), len(new))
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return {
        new[column]: old[row]
        for row, column in sorted(zip(rows.tolist(), columns.tolist(), strict=True), key=lambda pair: pair[1])
        if overlap[row, column] >= kept_share * min(overlap[row].sum(), overlap[:, column].sum())
    }
