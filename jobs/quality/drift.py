"""How far the customers of a day are from those the champion was trained on: PSI by feature, and values out of range.

The champion's meta.json keeps, for each feature, the inner edges of bins (a bin reaches up to and with its edge), the
shares of the known values in them, the share of missing values, and the smallest and largest value. The population
stability index is the sum over bins of (actual - expected) * ln(actual / expected). Below 0.1 nothing has shifted, above
0.25 something has (Siddiqi, Credit Risk Scorecards, 2006).
"""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

import numpy as np
import pyarrow as pa

from jobs.quality._names import OUT_OF_RANGE, PSI

MIN_SHARE = 1e-4  # stands for an empty bin, which has no logarithm
MISSING, BEYOND = -1, -2  # bins of missing values, and of values beyond the smallest or largest (they are in a bin as well)


def drift_figures(batches: Iterable[pa.RecordBatch], names: list[str], training_profile: dict[str, dict]) -> dict[str, Decimal]:
    """Return PSI by feature and OUT_OF_RANGE, the share of known values that training had none of.

    The first column of the batches has the vectors of customers, in the order of `names`. One batch is in memory at a time.
    """
    counts = {name: Counter() for name in names if name in training_profile}
    for batch in batches:
        vectors = batch.column(0)
        matrix = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), len(names))
        for at, name in enumerate(names):
            if name in counts and len(vectors):
                counts[name].update(_count_bins(matrix[:, at], training_profile[name]))
    counts = {name: bins for name, bins in counts.items() if bins}
    figures = {f"{PSI}_{name}": Decimal(psi(training_profile[name], bins)) for name, bins in counts.items()}
    n_known = sum(n for bins in counts.values() for bin_, n in bins.items() if bin_ >= 0)
    if n_known and all("high" in training_profile[name] for name in counts):
        figures[OUT_OF_RANGE] = Decimal(sum(bins[BEYOND] for bins in counts.values()) / n_known)
    return figures


def _count_bins(values: np.ndarray, expected: dict) -> dict[int, int]:
    """Return the number of values by bin, MISSING and BEYOND included.

    >>> _count_bins(np.array([1.0, 2.0, np.nan, 9.0]), {"edges": [1.0], "low": 0.0, "high": 5.0})
    {-2: 1, -1: 1, 0: 1, 1: 2}
    """
    edges = np.asarray(expected["edges"], dtype="float64")
    finite = values[np.isfinite(values)]
    counts = np.bincount(np.searchsorted(edges, finite, side="left"), minlength=len(edges) + 1)
    is_beyond = (finite < expected.get("low", -np.inf)) | (finite > expected.get("high", np.inf))
    return {BEYOND: int(is_beyond.sum()), MISSING: len(values) - len(finite), **dict(enumerate(counts.tolist()))}


def psi(expected: dict, counts: dict[int, int]) -> float:
    """Return the PSI of one feature: `expected` from the champion's profile, `counts` of customers by bin, MISSING included.

    >>> even = {"edges": [1.0], "shares": [0.5, 0.5], "missing_share": 0.0}
    >>> psi(even, {0: 50, 1: 50}), round(psi(even, {0: 20, 1: 80}), 4)
    (0.0, 0.4159)
    """
    shares = np.asarray(expected["shares"], dtype="float64")
    shares = shares / max(shares.sum(), MIN_SHARE) * (1 - expected["missing_share"])
    before = np.array([expected["missing_share"], *shares])
    actual = np.array([counts.get(bin_, 0) for bin_ in range(MISSING, len(shares))], dtype="float64")
    before, actual = (np.maximum(s, MIN_SHARE) for s in (before, actual / max(actual.sum(), 1.0)))
    return float(((actual - before) * np.log(actual / before)).sum())
