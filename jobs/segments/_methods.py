"""Other ways to cluster the same customers, for the table they are compared in."""

import time
from collections.abc import Callable, Iterator

import numpy as np
from sklearn.cluster import HDBSCAN, AgglomerativeClustering, BisectingKMeans, KMeans
from sklearn.metrics import pairwise_distances_argmin
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from jobs.config.settings import KMEANS, Segment
from jobs.errors import UserError
from jobs.segments import _sweep

CUSTOMERS = 10_000  # at most: HDBSCAN takes longer than the whole sweep with more, in many dimensions
MICRO_CLUSTERS = 500  # that Ward's method joins
_STARTS = 3

Predict = Callable[[np.ndarray], np.ndarray]  # n x latent -> n labels, -1: in no cluster


def beside(rows: list[dict], vectors: np.ndarray, segment: Segment) -> list[dict]:
    """The rows of K-Means, one of them chosen, and those of the other methods; chosen is that of segment.method.

    Raises UserError where that finds no clusters.
    """
    k = next(row["k"] for row in rows if row["chosen"])
    rows = [row | {"method": KMEANS} for row in rows] + [row | {"chosen": False} for row in alternatives(vectors, k, segment)]
    if segment.method == KMEANS:
        return rows
    wanted = next(row for row in rows if row["method"] == segment.method)
    if "centers" not in wanted:
        raise UserError(f"segment: {segment.method} finds {wanted['refused_by']}; choose another segment.method")
    return [row | {"chosen": row is wanted} for row in rows]


def alternatives(vectors: np.ndarray, k: int, segment: Segment) -> Iterator[dict]:
    """Vectors (n x latent) in k clusters by each method: rows by columns of segments.candidates.

    HDBSCAN finds the number of clusters itself; its figures are those of the customers it puts into one.
    """
    vectors = vectors[:CUSTOMERS]
    samples = [vectors, *(vectors[rows] for rows in _sweep.draws(len(vectors), segment))]
    with _sweep.side_by_side() as pool:
        for method, fit in FITS.items():
            started = time.monotonic()
            labels, *resampled = pool.map(lambda sample, fit=fit: fit(sample, k, segment)(vectors), samples)
            row = {"method": method, **_row(vectors, labels), "stability": _sweep.stability(resampled)}
            _sweep.log_tried(vectors, method, row, started)
            yield row


def _row(vectors: np.ndarray, labels: np.ndarray) -> dict:
    inside = labels >= 0
    found, labels = np.unique(labels[inside], return_inverse=True)
    row = {"k": max(1, len(found)), "n_customers": len(vectors), "refused_by": None}
    if not inside.all():
        row["refused_by"] = f"{(1 - inside.mean()) * 100:.1f} % of the customers in no cluster"
    if len(found) < 2:
        return row | {"refused_by": "; ".join(filter(None, [row["refused_by"], "fewer than two clusters"]))}
    points = vectors[inside]
    sizes = np.bincount(labels)
    centres = np.stack([np.bincount(labels, column) for column in points.T.astype(np.float64)], axis=1) / sizes[:, None]
    by_size = np.argsort(-sizes, kind="stable")
    return row | _sweep.indices(points, labels, len(found)) | {
        "wss": float(((points - centres[labels]) ** 2).sum()),
        "centers": centres[by_size].tolist(),
        "cluster_sizes": sizes[by_size].tolist(),
    }  # fmt: skip


def _bisecting(vectors: np.ndarray, k: int, segment: Segment) -> Predict:
    return BisectingKMeans(k, n_init=_STARTS, random_state=segment.seed).fit(vectors).predict


def _gaussian_mixture(vectors: np.ndarray, k: int, segment: Segment) -> Predict:
    return GaussianMixture(k, reg_covar=1e-4, random_state=segment.seed).fit(vectors).predict


def _ward(vectors: np.ndarray, k: int, segment: Segment) -> Predict:
    n = min(MICRO_CLUSTERS, len(np.unique(vectors, axis=0)))
    micro = KMeans(n, n_init=1, random_state=segment.seed).fit(vectors).cluster_centers_
    joined = AgglomerativeClustering(k, linkage="ward").fit_predict(micro)
    return lambda points: joined[pairwise_distances_argmin(points, micro)]


def _hdbscan(vectors: np.ndarray, k: int, segment: Segment) -> Predict:
    least = max(2, segment.min_customers, int(segment.min_share * len(vectors)))  # a smaller one would be refused
    found = HDBSCAN(min_cluster_size=least, copy=True).fit_predict(vectors)
    nearest = NearestNeighbors(n_neighbors=1).fit(vectors)
    return lambda points: found[nearest.kneighbors(points, return_distance=False)[:, 0]]


FITS = {"bisecting": _bisecting, "gaussian_mixture": _gaussian_mixture, "ward": _ward, "hdbscan": _hdbscan}
