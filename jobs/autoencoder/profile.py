"""The distribution of a feature among the training customers, against which the checks measure drift on later days."""

import numpy as np


def profile_values(values: np.ndarray) -> dict:
    """Return the deciles of values (n,), where NaN is missing, and how many values lie between them.

    - edges: the different deciles, at most nine, ascending
    - shares: of the observed values in the bins (-inf, edge 1], (edge 1, edge 2], ... (last edge, inf)
    - missing_share: of all values
    - low, high: the smallest and the largest observed value

    >>> profile_values(np.array([0.0, 0.0, 0.0, 1.0, np.nan]))
    {'edges': [0.0, 1.0], 'shares': [0.75, 0.25, 0.0], 'missing_share': 0.2, 'low': 0.0, 'high': 1.0}
    """
    observed = values[np.isfinite(values)]
    if not len(observed):
        return {"edges": [], "shares": [0.0], "missing_share": 1.0}
    edges = np.unique(np.quantile(observed, np.linspace(0.1, 0.9, 9), method="inverted_cdf"))
    counts = np.bincount(np.searchsorted(edges, observed, side="left"), minlength=len(edges) + 1)
    return {
        "edges": edges.tolist(),
        "shares": (counts / len(observed)).tolist(),
        "missing_share": float((len(values) - len(observed)) / len(values)),
        "low": float(observed.min()),
        "high": float(observed.max()),
    }
