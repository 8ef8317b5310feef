"""The number of clusters k: K-Means on a sample for each k, and the choice of one.

The sample is clustered in the driver: a fit takes a tenth of a second there, and a dozen Spark jobs on a cluster. A k is
refused where it gives fewer clusters than asked or a cluster that is too small. It is also refused where it is not stable:
bootstrap resamples of the customers are clustered differently (Ben-Hur, Elisseeff, Guyon, "A stability based method", PSB
2002; by cluster Hennig, "Cluster-wise assessment of cluster stability", CSDA 2007). Of the others the k with the best
silhouette is chosen, and of those nearly as good the smallest.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import combinations
from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, pairwise_distances_argmin
from sklearn.metrics.cluster import contingency_matrix

from jobs.config.settings import KMEANS, Segment
from jobs.errors import UserError
from jobs.progress import log
from jobs.segments._cluster_indices import compute_indices
from jobs.segments._fit_pool import open_fit_pool

MIN_CUSTOMERS_PER_CLUSTER = 10  # k is tried only with at least so many customers of the sample for each cluster
MAX_ITERATIONS = 100
SILHOUETTE_TOLERANCE = 0.02  # of the best silhouette: within it the smallest k is chosen


class Fit(NamedTuple):
    """A clustering of n customers."""

    inertia: float
    labels: np.ndarray  # n
    centres: np.ndarray  # k x latent


class Trial(NamedTuple):
    """One k: its evidence, by columns of segments.candidates, and its best fit."""

    row: dict
    fit: Fit


def sweep_k(vectors: np.ndarray, day: date, segment: Segment, live_k: int | None = None) -> list[Trial]:
    """Return a trial for each k on vectors (n x latent) of the sample of `day`; one of the rows is chosen.

    `live_k` is the number of live segments, see choose_k(). Where every k is refused, the most stable one is chosen, and the
    log says so. Raises UserError where the customers are too few or too alike for the smallest k, and where a vector holds
    NaN or infinity.
    """
    ks = list_ks(vectors, day, segment)
    trials = list(try_each_k(vectors, ks, segment))
    if all(trial.row["refused_by"] for trial in trials):
        trials = list(try_each_k(vectors, ks, segment, resample_refused=True))
    chosen = choose_k([trial.row for trial in trials], live_k, segment.k_lead)
    if chosen is None:
        raise UserError(
            f"segment: the customers active on {day} cannot be clustered: {len(trials)} values of k tried, none gave as "
            "many clusters as asked; the vectors differ too little, train again: shoal train --retrain"
        )
    if chosen["refused_by"] is not None:
        log(f"segment: every number of clusters was refused; took k = {chosen['k']}, the most stable: {chosen['refused_by']}")
    return [trial._replace(row=trial.row | {"chosen": trial.row is chosen}) for trial in trials]


def choose_k(rows: list[dict], live_k: int | None = None, lead: float = 0.0) -> dict | None:
    """Return the row of the k to publish; where every row is refused the most stable one, and None where none was clustered.

    `live_k` is kept unless the best silhouette is better than its own by more than `lead`, a share of the best. Users know
    their segments: another number of them must be worth the change.

    >>> trials = [(2, 0.50, "unstable"), (3, 0.395, None), (4, 0.39, None), (5, 0.40, None)]
    >>> rows = [{"k": k, "silhouette": value, "stability": 1.0, "refused_by": rule} for k, value, rule in trials]
    >>> [choose_k(rows, live_k, 0.03)["k"] for live_k in (None, 2, 4)], choose_k(rows, 4, 0.02)["k"]
    ([3, 3, 4], 3)
    """
    accepted = [row for row in rows if row["refused_by"] is None]
    if accepted:
        best = max(row["silhouette"] for row in accepted)
        live = next((row for row in accepted if row["k"] == live_k), None)
        if live and best - live["silhouette"] <= lead * abs(best):
            return live
        least = best - SILHOUETTE_TOLERANCE * abs(best)
        return min((row for row in accepted if row["silhouette"] >= least), key=lambda row: row["k"])
    clustered = [row for row in rows if row["stability"] is not None]
    return max(clustered, key=lambda row: (row["stability"], -row["k"]), default=None)


def list_ks(vectors: np.ndarray, day: date, segment: Segment) -> list[int]:
    """Return the numbers of clusters to try on vectors (n x latent). Raises UserError as sweep_k() does."""
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
    most = min(segment.k_max, n // MIN_CUSTOMERS_PER_CLUSTER, n_distinct - 1)
    if most < segment.k_min:
        raise UserError(
            f"segment: too few customers to cluster on {day}: {n} active with {n_distinct} different vectors; "
            f"segment.k_min = {segment.k_min} needs {segment.k_min * MIN_CUSTOMERS_PER_CLUSTER} active customers and "
            f"{segment.k_min + 1} different vectors; take a later day or lower the setting"
        )
    return list(range(segment.k_min, most + 1))


def try_each_k(vectors: np.ndarray, ks: list[int], segment: Segment, resample_refused: bool = False) -> Iterator[Trial]:
    """Yield a trial for each of `ks` on vectors (n x latent).

    A k with too small a cluster is not clustered on resamples, and has no stability, unless `resample_refused`.
    """
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning), open_fit_pool() as pool:
        first_fits = [pool.submit(_fit_best_seed, vectors, None, k, segment) for k in ks]
        for k, first_fit in zip(ks, first_fits, strict=True):
            started = time.monotonic()
            fit = first_fit.result()
            sizes = np.bincount(fit.labels, minlength=k)
            is_resampled = resample_refused or _find_small_cluster(sizes, segment) is None
            samples = draw_resamples(len(vectors), segment) if is_resampled else []
            resampled = list(pool.map(lambda rows, k=k: _fit_best_seed(vectors, rows, k, segment), samples))
            # The centres of the resamples are good starts for the sample too.
            restarts = [pool.submit(_fit_kmeans, vectors, None, k, n_init=1, init=start.centres) for start in resampled]
            fit = min((fit, *(future.result() for future in restarts)), key=lambda fit: fit.inertia)
            row = _evidence(vectors, k, fit, [resample.labels for resample in resampled], segment)
            log_trial(vectors, KMEANS, row, started)
            yield Trial(row, fit)


def fit_each(spaces: Sequence[np.ndarray], ks: Sequence[int], segment: Segment) -> list[Fit]:
    """Return, for each space, the fit of all its vectors (n x d) in k clusters with the lowest inertia of all starts."""
    with open_fit_pool() as pool:
        return list(pool.map(lambda vectors, k: _fit_best_seed(vectors, None, k, segment), spaces, ks))


def log_trial(vectors: np.ndarray, method: str, row: dict, started: float) -> None:
    """Log one line about a method and k tried on vectors (n x latent); `started` is of the monotonic clock."""
    shape, seconds = f"{len(vectors):,} x {vectors.shape[1]}", time.monotonic() - started
    figures = [f"{name} {'–' if row.get(name) is None else format(row[name], '.3f')}" for name in ("silhouette", "stability")]
    outcome = f"  {row['refused_by']}" if row["refused_by"] else ""
    log(f"tried {method:<17} k = {row['k']:<3} {shape:>14}  {'  '.join(figures)} {seconds:9.1f} s{outcome}")


def draw_resamples(n: int, segment: Segment) -> list[np.ndarray]:
    """Return the bootstrap resamples of n customers: n row numbers each."""
    return [np.random.default_rng([segment.seed, number]).integers(n, size=n) for number in range(segment.resamples)]


def stability(resampled: list[np.ndarray]) -> float:
    """Return the mean adjusted Rand index over all pairs of clusterings of the same customers (n labels each)."""
    return float(np.mean([adjusted_rand_score(first, second) for first, second in combinations(resampled, 2)]))


def index_columns(vectors: np.ndarray, labels: np.ndarray, k: int) -> dict:
    """Return how well vectors (n x latent) lie in clusters 0..k-1, none empty, by columns of segments.candidates."""
    indices = compute_indices(vectors, labels, k)
    return {
        "silhouette": indices.silhouette,
        "smallest_share": float(indices.sizes.min() / len(vectors)),
        "davies_bouldin": indices.davies_bouldin,
        "calinski_harabasz": indices.calinski_harabasz,
    }


def _evidence(vectors: np.ndarray, k: int, fit: Fit, resampled: list[np.ndarray], segment: Segment) -> dict:
    """Return the evidence for k: the indices of the best fit, and how alike the resamples cluster the same customers."""
    figures = ("wss", "silhouette", "smallest_share", "davies_bouldin", "calinski_harabasz", "stability")
    row = {"k": k, **dict.fromkeys([*figures, "centers", "cluster_sizes", "cluster_stability"])}
    if len(np.unique(fit.labels)) < k:
        return row | {"refused_by": "fewer clusters than asked"}
    sizes = np.bincount(fit.labels, minlength=k)
    by_size = np.argsort(-sizes, kind="stable")
    row |= index_columns(vectors, fit.labels, k) | {
        "wss": fit.inertia,
        "centers": fit.centres[by_size].tolist(),
        "cluster_sizes": sizes[by_size].tolist(),
    }
    if resampled:
        overlaps = np.mean([_best_overlaps(fit.labels, labels) for labels in resampled], axis=0)
        row |= {"stability": stability(resampled), "cluster_stability": overlaps[by_size].tolist()}
    return row | {"refused_by": _find_refusal(row, segment)}


def _find_refusal(row: dict, segment: Segment) -> str | None:
    if too_small := _find_small_cluster(np.array(row["cluster_sizes"]), segment):
        return too_small
    return f"stability {row['stability']:.2f}" if row["stability"] < segment.min_stability else None


def _find_small_cluster(sizes: np.ndarray, segment: Segment) -> str | None:
    """Return in words the smallest cluster of these sizes (k) where it is too small, else None."""
    smallest, share = int(sizes.min()), float(sizes.min() / sizes.sum())
    if smallest >= segment.min_customers and share >= segment.min_share:
        return None
    return f"a cluster of {smallest} customers, {share * 100:.1f} %"


def _best_overlaps(labels: np.ndarray, resampled: np.ndarray) -> np.ndarray:
    """Return, for each cluster of `labels`, the Jaccard overlap with the most alike cluster of `resampled`.

    >>> _best_overlaps(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 1])).round(2)
    array([0.67, 0.5 ])
    """
    shared = contingency_matrix(labels, resampled)
    return (shared / (shared.sum(axis=1, keepdims=True) + shared.sum(axis=0) - shared)).max(axis=1)


def _fit_best_seed(vectors: np.ndarray, rows: np.ndarray | None, k: int, segment: Segment) -> Fit:
    """Return the fit with the lowest inertia of all starts, fitted on these rows (None: all), with a label for every vector.

    Some clusters are empty where the rows differ too little.
    """
    starts = {"n_init": segment.seeds, "random_state": segment.seed}
    if rows is None:
        return _fit_kmeans(vectors, None, k, **starts)
    # A customer drawn twice is one row of weight 2: a resample holds 63 % of the customers.
    counts = np.bincount(rows, minlength=len(vectors))
    best = _fit_kmeans(vectors[counts > 0], counts[counts > 0], k, **starts)
    return best._replace(labels=pairwise_distances_argmin(vectors, best.centres))


def _fit_kmeans(vectors: np.ndarray, weights: np.ndarray | None, k: int, **starts) -> Fit:
    kmeans = KMeans(k, max_iter=MAX_ITERATIONS, **starts).fit(vectors, sample_weight=weights)
    return Fit(float(kmeans.inertia_), kmeans.labels_, kmeans.cluster_centers_)
