"""How the training customers are distributed, so that a later day can be held against them."""

import numpy as np


def of(values: np.ndarray) -> dict:
    """Deciles of n values, NaN = missing: `edges`, at most nine, ascending; `shares` of the known values in the bins
    (-inf, edge 1], (edge 1, edge 2], ... (last edge, inf); `missing_share` of all values; `low` and `high`, the smallest and
    the largest. Equal deciles are one edge.

    >>> of(np.array([0.0, 0.0, 0.0, 1.0, np.nan]))
    {'edges': [0.0, 1.0], 'shares': [0.75, 0.25, 0.0], 'missing_share': 0.2, 'low': 0.0, 'high': 1.0}
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return {"edges": [], "shares": [0.0], "missing_share": 1.0}
    edges = np.unique(np.quantile(known, np.linspace(0.1, 0.9, 9), method="inverted_cdf"))
    counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
    return {
        "edges": edges.tolist(),
        "shares": (counts / len(known)).tolist(),
        "missing_share": float((len(values) - len(known)) / len(values)),
        "low": float(known.min()),
        "high": float(known.max()),
    }
