"""How far the customers of a day are from those the champion was trained on: the population stability index by feature.

The champion's meta.json keeps, by feature, the inner edges of bins (a bin reaches up to and with its edge), the shares of
the known values in them, and the share of missing ones. PSI = sum over bins of (now - then) * ln(now / then); below 0.1 is
calm, above 0.25 a shift (Siddiqi, Credit Risk Scorecards, 2006).
"""

from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

LEAST_SHARE = 1e-4  # stands for an empty bin, whose logarithm is none
MISSING = -1


def stability(customers: DataFrame, names: list[str], profile: dict[str, dict]) -> dict[str, Decimal]:
    """PSI by feature; `customers` have a `vector` in the order of `names`. One query, whose rows stay where they are."""
    edges = {at: np.asarray(profile[name]["edges"], dtype="float64") for at, name in enumerate(names) if name in profile}

    def counted(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            vectors = batch.column(0)
            matrix = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), len(names))
            for at, inner in edges.items():
                values = matrix[:, at]
                known = values[np.isfinite(values)]
                counts = np.bincount(np.searchsorted(inner, known, side="left"), minlength=len(inner) + 1)
                columns = [[at] * (len(counts) + 1), [MISSING, *range(len(counts))], [len(values) - len(known), *counts.tolist()]]
                yield pa.RecordBatch.from_arrays([pa.array(c, pa.int64()) for c in columns], names=["feature", "bin", "n"])

    bins = customers.select("vector").mapInArrow(counted, "feature BIGINT, bin BIGINT, n BIGINT")
    counts: dict[str, dict[int, int]] = {}
    for row in bins.groupBy("feature", "bin").agg(F.sum("n").alias("n")).collect():
        counts.setdefault(names[row.feature], {})[row.bin] = row.n
    return {name: Decimal(psi(profile[name], found)) for name, found in counts.items()}


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
