"""Alternative clustering methods: the same customers clustered by other methods than K-Means, for comparison."""

import time
from collections.abc import Callable, Iterator

import numpy as np
from sklearn.cluster import HDBSCAN, AgglomerativeClustering, BisectingKMeans, KMeans
from sklearn.metrics import pairwise_distances_argmin
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from jobs.config.settings import KMEANS, Segment
from jobs.errors import UserError
from jobs.segments._fit_pool import open_fit_pool
from jobs.segments.model_selection import k_sweep

MAX_CUSTOMERS = 10_000  # of more, in many dimensions, HDBSCAN takes longer than the whole sweep
HDBSCAN_RESAMPLES = 3
MICRO_CLUSTERS = 500  # that Ward's method joins
_STARTS = 3

Predict = Callable[[np.ndarray], np.ndarray]  # n x latent -> n labels, -1: in no cluster


def choose_method(rows: list[dict], vectors: np.ndarray, segment: Segment) -> list[dict]:
    """Return the rows of K-Means, of which one is chosen; where segment.method is another method, its row is chosen instead.

    Those of all other methods come with it then. `vectors` (n x latent) are the customers of the sample. Raises UserError where
    segment.method finds no clusters.
    """
    if segment.method == KMEANS:
        return rows
    k = next(row["k"] for row in rows if row["chosen"])
    rows = [row | {"method": KMEANS} for row in rows] + list(try_alternatives(vectors, k, segment))
    chosen = next(row for row in rows if row["method"] == segment.method)
    if "centers" not in chosen:
        raise UserError(f"segment: {segment.method} finds {chosen['refused_by']}; choose another segment.method")
    return [row | {"chosen": row is chosen} for row in rows]


def try_alternatives(vectors: np.ndarray, k: int, segment: Segment) -> Iterator[dict]:
    """Yield a row, by columns of segments.candidates, for each method with vectors (n x latent) in k clusters.

    None is chosen. HDBSCAN finds the number of clusters itself; its figures are those of the customers it puts into one.
    """
    vectors = vectors[:MAX_CUSTOMERS]
    resamples = k_sweep.draw_resamples(len(vectors), segment)
    with open_fit_pool() as pool:
        for method, fit in METHODS.items():
            started = time.monotonic()
            # HDBSCAN's time grows with the square of the rows. It takes each customer of a resample once, 63 % of the rows, and
            # few resamples: fewer customers would be clustered less alike.
            drawn = [np.unique(rows) for rows in resamples[:HDBSCAN_RESAMPLES]] if fit is _fit_hdbscan else resamples
            samples = [vectors, *(vectors[rows] for rows in drawn)]
            labels, *resampled = pool.map(lambda sample, fit=fit: fit(sample, k, segment)(vectors), samples)
            row = {"method": method, "chosen": False, **_evidence(vectors, labels), "stability": k_sweep.stability(resampled)}
            k_sweep.log_trial(vectors, method, row, started)
            yield row


def _evidence(vectors: np.ndarray, labels: np.ndarray) -> dict:
    is_inside = labels >= 0
    clusters, labels = np.unique(labels[is_inside], return_inverse=True)
    row = {"k": max(1, len(clusters)), "n_customers": len(vectors), "refused_by": None}
    if not is_inside.all():
        row["refused_by"] = f"{(1 - is_inside.mean()) * 100:.1f} % of the customers in no cluster"
    if len(clusters) < 2:
        return row | {"refused_by": "; ".join(filter(None, [row["refused_by"], "fewer than two clusters"]))}
    points = vectors[is_inside]
    sizes = np.bincount(labels)
    centres = np.stack([np.bincount(labels, column) for column in points.T.astype(np.float64)], axis=1) / sizes[:, None]
    by_size = np.argsort(-sizes, kind="stable")
    return row | k_sweep.index_columns(points, labels, len(clusters)) | {
        "wss": float(((points - centres[labels]) ** 2).sum()),
        "centers": centres[by_size].tolist(),
        "cluster_sizes": sizes[by_size].tolist(),
    }  # fmt: skip


def _fit_bisecting(vectors: np.ndarray, k: int, segment: Segment) -> Predict:
    return BisectingKMeans(k, n_init=_STARTS, random_state=segment.seed).fit(vectors).predict


def _fit_gaussian_mixture(vectors: np.ndarray, k: int, segment: Segment) -> Predict:
    return GaussianMixture(k, reg_covar=1e-4, random_state=segment.seed).fit(vectors).predict


def _fit_ward(vectors: np.ndarray, k: int, segment: Segment) -> Predict:
    n = min(MICRO_CLUSTERS, len(np.unique(vectors, axis=0)))
    micro = KMeans(n, n_init=1, random_state=segment.seed).fit(vectors).cluster_centers_
    joined = AgglomerativeClustering(k, linkage="ward").fit_predict(micro)
    return lambda points: joined[pairwise_distances_argmin(points, micro)]


def _fit_hdbscan(vectors: np.ndarray, k: int, segment: Segment) -> Predict:
    min_size = max(2, segment.min_customers, int(segment.min_share * len(vectors)))  # a smaller cluster would be refused
    labels = HDBSCAN(min_cluster_size=min_size, algorithm="brute", copy=True).fit_predict(vectors)
    neighbours = NearestNeighbors(n_neighbors=1).fit(vectors)
    return lambda points: labels[neighbours.kneighbors(points, return_distance=False)[:, 0]]


METHODS = {"bisecting": _fit_bisecting, "gaussian_mixture": _fit_gaussian_mixture, "ward": _fit_ward, "hdbscan": _fit_hdbscan}
