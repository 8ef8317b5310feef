"""Clustering indices: silhouette, Davies-Bouldin and Calinski-Harabasz, of a sample in memory or of all customers in Spark.

Both ways take the same steps. The clusters are known by their moments, and each customer is compared with those: n x k steps
instead of n x n. The silhouette is therefore that of squared Euclidean distances (Rousseeuw 1987; Davies and Bouldin 1979;
Calinski and Harabasz 1974; as in https://scikit-learn.org/stable/modules/clustering.html#clustering-performance-evaluation).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from jobs.segments._centres import euclidean_distances
from jobs.storage.vectors import to_matrix

_MOMENTS = "sizes ARRAY<BIGINT>, means ARRAY<ARRAY<DOUBLE>>, squares ARRAY<DOUBLE>"
_SUMS = "distances ARRAY<DOUBLE>, silhouettes ARRAY<DOUBLE>"


class Moments(NamedTuple):
    """Size, mean and sum of squares of each of k clusters."""

    sizes: np.ndarray  # k
    means: np.ndarray  # k x latent; 0 where a cluster has no member
    squares: np.ndarray  # k: sum of the members' squared distances from the mean


class Sums(NamedTuple):
    """Sums over the members of each of k clusters."""

    distances: np.ndarray  # k: from the mean
    silhouettes: np.ndarray  # k


class Indices(NamedTuple):
    """The indices of k clusters with members, and what each cluster adds to them."""

    sizes: np.ndarray  # k
    squares: np.ndarray  # k: sum of the members' squared distances from the mean
    silhouettes: np.ndarray  # k: mean of the members, -1 to 1
    overlaps: np.ndarray  # k: with the cluster it is least separated from, by Davies and Bouldin; 0 and more
    calinski_harabasz: float

    @property
    def silhouette(self) -> float:
        return float(self.silhouettes @ self.sizes / self.sizes.sum())

    @property
    def davies_bouldin(self) -> float:
        return float(self.overlaps.mean())


def compute_indices(vectors: np.ndarray, labels: np.ndarray, k: int) -> Indices:
    """Return the indices of vectors (n x latent) in clusters 0..k-1, none empty.

    A customer alone in a cluster has silhouette 0.

    >>> indices = compute_indices(np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([0, 0, 1, 1]), 2)
    >>> round(indices.silhouette, 6), indices.davies_bouldin, indices.calinski_harabasz
    (0.98995, 0.1, 200.0)
    """
    moments = _compute_moments(vectors, labels, k)
    return _compute_indices(moments, _compute_sums(vectors, labels, moments))


def compute_indices_in_spark(customers: DataFrame, centres: np.ndarray) -> tuple[np.ndarray, Indices]:
    """(vector ARRAY<FLOAT>), each customer in the cluster of the nearest of centres (k x latent) -> indices.

    Returns which of the centres have members (k, bool), and the indices of those. It takes two Spark jobs, one for the moments
    and one for the sums, whose results do not grow with n.
    """
    vectors = customers.select("vector")
    moments = _merge_moments([Moments(*part) for part in _run(vectors, functools.partial(_nearest_moments, centres), _MOMENTS)])
    has_members = moments.sizes > 0
    moments = Moments(*(values[has_members] for values in moments))
    sums = zip(*_run(vectors, functools.partial(_nearest_sums, centres[has_members], moments), _SUMS), strict=True)
    return has_members, _compute_indices(moments, Sums(*map(sum, sums)))


def _compute_moments(vectors: np.ndarray, labels: np.ndarray, k: int) -> Moments:
    sizes = np.bincount(labels, minlength=k)
    totals = np.stack([np.bincount(labels, column, k) for column in vectors.T], axis=1)
    means = totals / np.maximum(sizes, 1)[:, None]
    differences = vectors - means[labels]
    return Moments(sizes, means, np.bincount(labels, np.einsum("ij,ij->i", differences, differences), k))


def _merge_moments(parts: Sequence[Moments]) -> Moments:
    """Return the moments of all customers from those of parts of them, without differences of large sums.

    After Chan, Golub and LeVeque 1983.
    """
    sizes, means, squares = (np.stack(values) for values in zip(*parts, strict=True))
    n = sizes.sum(axis=0)
    mean = np.einsum("pk,pkd->kd", sizes, means) / np.maximum(n, 1)[:, None]
    between = np.einsum("pk,pkd->k", sizes, (means - mean) ** 2)
    return Moments(n, mean, squares.sum(axis=0) + between)


def _compute_sums(vectors: np.ndarray, labels: np.ndarray, moments: Moments) -> Sums:
    k, sizes = len(moments.sizes), moments.sizes[labels]
    distances = euclidean_distances(vectors, moments.means)
    to_members = distances**2 + moments.squares / moments.sizes  # mean squared distance to the members of each cluster
    rows = np.arange(len(vectors))
    own = to_members[rows, labels] * sizes / np.maximum(sizes - 1, 1)  # to the other members: the distance to itself is 0
    to_members[rows, labels] = np.inf
    nearest = to_members.min(axis=1)
    larger = np.maximum(own, nearest)
    silhouettes = np.divide(nearest - own, larger, out=np.zeros(len(own)), where=(larger > 0) & (sizes > 1))
    return Sums(np.bincount(labels, distances[rows, labels], k), np.bincount(labels, silhouettes, k))


def _compute_indices(moments: Moments, sums: Sums) -> Indices:
    sizes, means, squares = moments
    n, k = sizes.sum(), len(sizes)
    within = sums.distances / sizes
    between_means = euclidean_distances(means, means)
    between_means[between_means == 0] = np.inf  # of a cluster to itself, and of clusters in one place: as scikit-learn does
    overlaps = ((within[:, None] + within) / between_means).max(axis=1)
    between = sizes @ ((means - sizes @ means / n) ** 2).sum(axis=1)
    ratio = between * (n - k) / (squares.sum() * (k - 1)) if squares.sum() else 1.0
    return Indices(sizes, squares, sums.silhouettes / sizes, overlaps, float(ratio))


def _run(vectors: DataFrame, compute: Callable[[np.ndarray], NamedTuple], schema: str) -> list[list[np.ndarray]]:
    """Return the fields of compute() for each batch of (vector ARRAY<FLOAT>), evaluated in the workers; columns `schema`."""
    rows = vectors.mapInArrow(functools.partial(_compute_batches, compute), schema).toArrow()
    return [[np.array(row[name]) for name in rows.column_names] for row in rows.to_pylist()]


def _compute_batches(compute: Callable[[np.ndarray], NamedTuple], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if batch.num_rows:
            part = compute(to_matrix(batch["vector"], np.float64))
            yield pa.RecordBatch.from_arrays([pa.array([values.tolist()]) for values in part], names=part._fields)


def _nearest_moments(centres: np.ndarray, vectors: np.ndarray) -> Moments:
    return _compute_moments(vectors, euclidean_distances(vectors, centres).argmin(axis=1), len(centres))


def _nearest_sums(centres: np.ndarray, moments: Moments, vectors: np.ndarray) -> Sums:
    return _compute_sums(vectors, euclidean_distances(vectors, centres).argmin(axis=1), moments)
