"""How sure a margin makes the segment: K-Means fitted again on bootstrap resamples of the customers.

A refit is the best of several starts, one of which is the published centres; its clusters are matched with the segments they
share most customers with.
"""

import warnings

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.isotonic import isotonic_regression
from sklearn.metrics import pairwise_distances_argmin
from sklearn.metrics.cluster import contingency_matrix

from jobs.segments._centres import find_nearest
from jobs.segments._fit_pool import open_fit_pool

REFITS = 50
STARTS = 3  # of a refit, besides the published centres
MAX_ITERATIONS = 100
MAX_POINTS = 10  # of a curve, each of half as many customers as the next: doubtful customers have the smallest margins


def calibrate_margins(vectors: np.ndarray, centres: np.ndarray, seed: int, refits: int = REFITS) -> list[tuple[list, list]]:
    """Return, for each of k centres, the margins and the shares of refits; vectors (n x latent) are those of a sample.

    Both are empty where no customer of the sample is nearest to the centre.
    """
    nearest = find_nearest(vectors, centres)
    stability = membership_stability(vectors, centres, seed, refits).mean(axis=0)
    members = [nearest.nearest == number for number in range(len(centres))]
    return [_fit_curve(nearest.margin[is_member], stability[is_member]) for is_member in members]


def membership_stability(vectors: np.ndarray, centres: np.ndarray, seed: int, refits: int) -> np.ndarray:
    """Return whether each of n customers is in the same segment under each refit (refits x n, bool)."""
    segments = pairwise_distances_argmin(vectors, centres)

    def refit(number: int) -> np.ndarray:
        resample = vectors[np.random.default_rng([seed, number]).integers(len(vectors), size=len(vectors))]
        starts = [{"init": centres}, *({"random_state": seed + number * STARTS + start} for start in range(STARTS))]
        fits = (KMeans(len(centres), n_init=1, max_iter=MAX_ITERATIONS, **start).fit(resample) for start in starts)
        clusters = pairwise_distances_argmin(vectors, min(fits, key=lambda fit: fit.inertia_).cluster_centers_)
        segment_ids, cluster_ids = np.unique(segments), np.unique(clusters)
        rows, columns = linear_sum_assignment(contingency_matrix(segments, clusters), maximize=True)
        segment_of_cluster = np.full(len(centres), -1)
        segment_of_cluster[cluster_ids[columns]] = segment_ids[rows]
        return segment_of_cluster[clusters] == segments

    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning), open_fit_pool() as pool:
        return np.stack(list(pool.map(refit, range(refits))))


def _fit_curve(margins: np.ndarray, shares: np.ndarray) -> tuple[list[float], list[float]]:
    """Return at most MAX_POINTS margins, ascending, and the shares at them, which never fall.

    >>> _fit_curve(np.array([0.1, 0.3, 0.2, 0.5]), np.array([0.5, 1.0, 0.4, 1.0]))
    ([0.1, 0.2, 0.4], [0.45, 0.45, 1.0])
    """
    cuts = [len(margins) >> halvings for halvings in range(MAX_POINTS - 1, 0, -1)]
    parts = [part for part in np.split(np.argsort(margins, kind="stable"), cuts) if len(part)]
    if not parts:
        return [], []
    rising = isotonic_regression([shares[part].mean() for part in parts], sample_weight=[len(part) for part in parts])
    return [float(margins[part].mean()) for part in parts], rising.tolist()
