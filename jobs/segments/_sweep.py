"""K-Means on a sample in the driver: every number of clusters, by many starts, and how alike resamples are clustered.

A fit of the sample takes a tenth of a second there, and a dozen Spark jobs on a cluster. A number is refused where it gives
fewer clusters than asked, or one too small, or where other customers drawn from the same would have been clustered
otherwise (Ben-Hur, Elisseeff, Guyon, "A stability based method", PSB 2002; per cluster Hennig, "Cluster-wise assessment of
cluster stability", CSDA 2007). Of the rest the best silhouette counts, and of those nearly as good the fewest clusters.
"""

import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from itertools import combinations
from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, pairwise_distances_argmin
from sklearn.metrics.cluster import contingency_matrix
from threadpoolctl import threadpool_limits

from jobs.config.settings import KMEANS, Segment
from jobs.errors import UserError
from jobs.progress import log
from jobs.segments import _indices

CUSTOMERS_PER_CLUSTER = 10  # k is tried with at least this many customers of the sample for each cluster
ITERATIONS = 100
NEARLY = 0.02  # of the best silhouette: within it the fewest clusters are taken


class Fit(NamedTuple):
    """A clustering of n customers."""

    inertia: float
    labels: np.ndarray  # n
    centres: np.ndarray  # k x latent


class Tried(NamedTuple):
    """A number of clusters: its evidence, by columns of segments.candidates, and the best fit."""

    row: dict
    fit: Fit


def every(vectors: np.ndarray, day: date, segment: Segment, live_k: int | None = None) -> list[Tried]:
    """Vectors (n x latent) of the sample of `day` with every number of clusters, and one of the rows chosen.

    `live_k` is the number that is live: it stays while no other is much better, for who knows six segments is not helped by five.
    Where every number is refused, the most stable one is taken, and the log says so. Raises UserError where there are too
    few customers, or too few that differ, for the smallest k, and for a vector that is no number.
    """
    tried = list(sweep(vectors, numbers(vectors, day, segment), segment))
    taken = chosen([one.row for one in tried], live_k, segment.k_lead)
    if taken is None:
        raise UserError(
            f"segment: the customers active on {day} cannot be clustered: {len(tried)} values of k tried, none gave as "
            "many clusters as asked; the vectors differ too little, train again: shoal train --retrain"
        )
    if taken["refused_by"] is not None:
        log(f"segment: every number of clusters was refused; took k = {taken['k']}, the most stable: {taken['refused_by']}")
    return [one._replace(row=one.row | {"chosen": one.row is taken}) for one in tried]


def chosen(curve: list[dict], live_k: int | None = None, lead: float = 0.0) -> dict | None:
    """The row of the number to take: `live_k` unless the best silhouette is better than its by more than `lead`, a share of it;
    where every one is refused the most stable, None where none could be clustered.

    >>> rows = [(2, 0.50, "unstable"), (3, 0.395, None), (4, 0.39, None), (5, 0.40, None)]
    >>> curve = [{"k": k, "silhouette": one, "stability": 1.0, "refused_by": rule} for k, one, rule in rows]
    >>> [chosen(curve, live_k, 0.03)["k"] for live_k in (None, 2, 4)], chosen(curve, 4, 0.02)["k"]
    ([3, 3, 4], 3)
    """
    accepted = [row for row in curve if row["refused_by"] is None]
    if accepted:
        best = max(row["silhouette"] for row in accepted)
        live = next((row for row in accepted if row["k"] == live_k), None)
        if live and best - live["silhouette"] <= lead * abs(best):
            return live
        return min((row for row in accepted if row["silhouette"] >= best - NEARLY * abs(best)), key=lambda row: row["k"])
    clustered = [row for row in curve if row["stability"] is not None]
    return max(clustered, key=lambda row: (row["stability"], -row["k"]), default=None)


def numbers(vectors: np.ndarray, day: date, segment: Segment) -> list[int]:
    """The numbers of clusters to try with vectors (n x latent); raises UserError where there are too few customers, or too few
    that differ, for the smallest, and for a vector that is no number."""
    if broken := int((~np.isfinite(vectors)).any(axis=1).sum()):
        raise UserError(
            f"segment: encoded.customers, day {day}: {broken} active customers have a vector that is no number; "
            f"run again: shoal encode --day {day}"
        )
    n, n_distinct = len(vectors), len(np.unique(vectors, axis=0))
    if not 2 <= segment.k_min <= segment.k_max:
        raise UserError(
            f"settings: segment.k_min = {segment.k_min} and segment.k_max = {segment.k_max}: "
            "k_min must be at least 2 and at most k_max"
        )
    most = min(segment.k_max, n // CUSTOMERS_PER_CLUSTER, n_distinct - 1)
    if most < segment.k_min:
        raise UserError(
            f"segment: too few customers to cluster on {day}: {n} active with {n_distinct} different vectors; "
            f"segment.k_min = {segment.k_min} needs {segment.k_min * CUSTOMERS_PER_CLUSTER} active customers and "
            f"{segment.k_min + 1} different vectors; take a later day or lower the setting"
        )
    return list(range(segment.k_min, most + 1))


def sweep(vectors: np.ndarray, ks: list[int], segment: Segment) -> Iterator[Tried]:
    """Vectors (n x latent) in each of these numbers of clusters."""
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning), side_by_side() as pool:
        for k in ks:
            started = time.monotonic()
            found = [pool.submit(_best, vectors, rows, k, segment) for rows in (None, *draws(len(vectors), segment))]
            fit, *resampled = (future.result() for future in found)
            # What resamples found are good places to start from too.
            again = [pool.submit(_fitted, vectors, k, init=one.centres) for one in resampled]
            fit = min((fit, *(future.result() for future in again)), key=lambda one: one.inertia)
            row = _row(vectors, k, fit, [one.labels for one in resampled], segment)
            log_tried(vectors, KMEANS, row, started)
            yield Tried(row, fit)


def side_by_side() -> ThreadPoolExecutor:
    """Where fits run; each in one thread, for sums of more threads depend on which ends first."""
    return ThreadPoolExecutor(os.cpu_count(), initializer=threadpool_limits, initargs=(1,))


def log_tried(vectors: np.ndarray, method: str, row: dict, started: float) -> None:
    """One line of progress: what was tried with vectors (n x latent) since `started`, of the monotonic clock."""
    shape, seconds = f"{len(vectors):,} x {vectors.shape[1]}", time.monotonic() - started
    figures = [f"{name} {'–' if row.get(name) is None else format(row[name], '.3f')}" for name in ("silhouette", "stability")]
    outcome = f"  {row['refused_by']}" if row["refused_by"] else ""
    log(f"tried {method:<17} k = {row['k']:<3} {shape:>14}  {'  '.join(figures)} {seconds:9.1f} s{outcome}")


def draws(n: int, segment: Segment) -> list[np.ndarray]:
    """The bootstrap resamples of n customers: n row numbers each."""
    return [np.random.default_rng([segment.seed, number]).integers(n, size=n) for number in range(segment.resamples)]


def stability(resampled: list[np.ndarray]) -> float:
    """Mean adjusted Rand index over pairs of what resamples make of the same customers (n labels each)."""
    return float(np.mean([adjusted_rand_score(one, other) for one, other in combinations(resampled, 2)]))


def indices(vectors: np.ndarray, labels: np.ndarray, k: int) -> dict:
    """How good vectors (n x latent) lie in clusters 0..k-1, none empty: by columns of segments.candidates."""
    found = _indices.indices(vectors, labels, k)
    return {
        "silhouette": found.silhouette,
        "smallest_share": float(found.sizes.min() / len(vectors)),
        "davies_bouldin": found.davies_bouldin,
        "calinski_harabasz": found.calinski_harabasz,
    }


def _row(vectors: np.ndarray, k: int, fit: Fit, resampled: list[np.ndarray], segment: Segment) -> dict:
    """The evidence for k: what the best fit is like, and how alike `resampled` cluster the same customers."""
    figures = ("wss", "silhouette", "smallest_share", "davies_bouldin", "calinski_harabasz", "stability")
    row = {"k": k, **dict.fromkeys([*figures, "centers", "cluster_sizes", "cluster_stability"])}
    if len(np.unique(fit.labels)) < k:
        return row | {"refused_by": "fewer clusters than asked"}
    sizes = np.bincount(fit.labels, minlength=k)
    by_size = np.argsort(-sizes, kind="stable")
    row |= indices(vectors, fit.labels, k) | {
        "wss": fit.inertia,
        "stability": stability(resampled),
        "centers": fit.centres[by_size].tolist(),
        "cluster_sizes": sizes[by_size].tolist(),
        "cluster_stability": np.mean([_overlaps(fit.labels, labels) for labels in resampled], axis=0)[by_size].tolist(),
    }
    return row | {"refused_by": _refused_by(row, segment)}


def _refused_by(row: dict, segment: Segment) -> str | None:
    smallest = row["cluster_sizes"][-1]
    if smallest < segment.min_customers or row["smallest_share"] < segment.min_share:
        return f"a cluster of {smallest} customers, {row['smallest_share'] * 100:.1f} %"
    if row["stability"] < segment.min_stability:
        return f"stability {row['stability']:.2f}"
    return None


def _overlaps(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each cluster of `labels`, the Jaccard overlap with the cluster of `others` that is most alike.

    >>> _overlaps(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 1])).round(2)
    array([0.67, 0.5 ])
    """
    both = contingency_matrix(labels, others)
    return (both / (both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both)).max(axis=1)


def best(vectors: np.ndarray, k: int, segment: Segment) -> Fit:
    """The best of the seeds on all vectors (n x latent)."""
    return _best(vectors, None, k, segment)


def _best(vectors: np.ndarray, rows: np.ndarray | None, k: int, segment: Segment) -> Fit:
    """The best of the seeds fitted on these rows (None: all), and the clusters it gives all customers, some of them empty
    where the rows hold too few that differ."""
    drawn = vectors if rows is None else vectors[rows]
    seeds = range(segment.seed, segment.seed + segment.seeds)
    best = min((_fitted(drawn, k, random_state=seed) for seed in seeds), key=lambda fit: fit.inertia)
    return best if rows is None else best._replace(labels=pairwise_distances_argmin(vectors, best.centres))


def _fitted(vectors: np.ndarray, k: int, **start) -> Fit:
    found = KMeans(k, n_init=1, max_iter=ITERATIONS, **start).fit(vectors)
    return Fit(float(found.inertia_), found.labels_, found.cluster_centers_)
