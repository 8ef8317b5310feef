"""How far the customers of a day are from those the champion was trained on: the population stability index by feature, and
the share of values that none of those had.

The champion's meta.json keeps, by feature, the inner edges of bins (a bin reaches up to and with its edge), the shares of
the known values in them, the share of missing ones, and the smallest and largest. PSI = sum over bins of (now - then) *
ln(now / then); below 0.1 is calm, above 0.25 a shift (Siddiqi, Credit Risk Scorecards, 2006).
"""

from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.quality.suites import OUT_OF_RANGE, PSI

LEAST_SHARE = 1e-4  # stands for an empty bin, whose logarithm is none
MISSING, BEYOND = -1, -2  # bins of what has no value, and beside the others of what lies beyond the smallest or largest


def of(customers: DataFrame, names: list[str], profile: dict[str, dict]) -> dict[str, Decimal]:
    """PSI and OUT_OF_RANGE; `customers` have a `vector` in the order of `names`. One query, whose rows stay where they are."""
    edges = {at: np.asarray(profile[name]["edges"], dtype="float64") for at, name in enumerate(names) if name in profile}
    ends = {at: (profile[names[at]].get("low", -np.inf), profile[names[at]].get("high", np.inf)) for at in edges}

    def counted(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            vectors = batch.column(0)
            matrix = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), len(names))
            for at, inner in edges.items():
                values = matrix[:, at]
                known = values[np.isfinite(values)]
                counts = np.bincount(np.searchsorted(inner, known, side="left"), minlength=len(inner) + 1)
                n_beyond = int(((known < ends[at][0]) | (known > ends[at][1])).sum())
                n = [n_beyond, len(values) - len(known), *counts.tolist()]
                columns = [[at] * len(n), [BEYOND, MISSING, *range(len(counts))], n]
                yield pa.RecordBatch.from_arrays([pa.array(c, pa.int64()) for c in columns], names=["feature", "bin", "n"])

    bins = customers.select("vector").mapInArrow(counted, "feature BIGINT, bin BIGINT, n BIGINT")
    counts: dict[str, dict[int, int]] = {}
    for row in bins.groupBy("feature", "bin").agg(F.sum("n").alias("n")).collect():
        counts.setdefault(names[row.feature], {})[row.bin] = row.n
    found = {f"{PSI}_{name}": Decimal(psi(profile[name], bins)) for name, bins in counts.items()}
    n_known = sum(n for bins in counts.values() for bin_, n in bins.items() if bin_ >= 0)
    if n_known and all("high" in profile[name] for name in counts):
        found[OUT_OF_RANGE] = Decimal(sum(bins[BEYOND] for bins in counts.values()) / n_known)
    return found


def psi(then: dict, now: dict[int, int]) -> float:
    """PSI of one feature: what the champion's profile says of it, and customers by bin, MISSING among the bins.

    >>> even = {"edges": [1.0], "shares": [0.5, 0.5], "missing_share": 0.0}
    >>> psi(even, {0: 50, 1: 50}), round(psi(even, {0: 20, 1: 80}), 4)
    (0.0, 0.4159)
    """
    known = np.asarray(then["shares"], dtype="float64")
    known = known / max(known.sum(), LEAST_SHARE) * (1 - then["missing_share"])
    before = np.array([then["missing_share"], *known])
    after = np.array([now.get(bin_, 0) for bin_ in range(MISSING, len(known))], dtype="float64")
    before, after = (np.maximum(shares, LEAST_SHARE) for shares in (before, after / max(after.sum(), 1.0)))
    return float(((after - before) * np.log(after / before)).sum())
