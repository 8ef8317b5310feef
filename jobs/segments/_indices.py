"""How well customers lie in their clusters: silhouette, Davies-Bouldin and Calinski-Harabasz index, of a sample in memory or of
all customers inside Spark's workers, by the same steps.

Clusters are known by their moments, and a customer is held against those: n x k steps and not n x n. The silhouette is
therefore that of squared Euclidean distances (Rousseeuw 1987; Davies and Bouldin 1979; Calinski and Harabasz 1974; as in
https://scikit-learn.org/stable/modules/clustering.html#clustering-performance-evaluation).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from jobs.segments import _centres

_MOMENTS = "sizes ARRAY<BIGINT>, means ARRAY<ARRAY<DOUBLE>>, squares ARRAY<DOUBLE>"
_SUMS = "distances ARRAY<DOUBLE>, silhouettes ARRAY<DOUBLE>"


class Moments(NamedTuple):
    """Of k clusters."""

    sizes: np.ndarray  # k
    means: np.ndarray  # k x latent; 0 where there is no member
    squares: np.ndarray  # k: sum of the members' squared distances from the mean


class Sums(NamedTuple):
    """Of k clusters, over their members."""

    distances: np.ndarray  # k: from the mean
    silhouettes: np.ndarray  # k


class Indices(NamedTuple):
    """Of k clusters with members, each with what it adds to the index of all."""

    sizes: np.ndarray  # k
    squares: np.ndarray  # k: sum of the members' squared distances from the mean
    silhouettes: np.ndarray  # k: mean of the members, -1 to 1
    overlaps: np.ndarray  # k: with the cluster it is least apart from, by Davies and Bouldin; 0 and more
    calinski_harabasz: float

    @property
    def silhouette(self) -> float:
        return float(self.silhouettes @ self.sizes / self.sizes.sum())

    @property
    def davies_bouldin(self) -> float:
        return float(self.overlaps.mean())


def indices(vectors: np.ndarray, labels: np.ndarray, k: int) -> Indices:
    """Of vectors (n x latent) in clusters 0..k-1, none empty. A customer alone in a cluster has silhouette 0.

    >>> found = indices(np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([0, 0, 1, 1]), 2)
    >>> round(found.silhouette, 6), found.davies_bouldin, found.calinski_harabasz
    (0.98995, 0.1, 200.0)
    """
    moments = _moments(vectors, labels, k)
    return _indices(moments, _sums(vectors, labels, moments))


def distributed(customers: DataFrame, centres: np.ndarray) -> tuple[np.ndarray, Indices]:
    """(vector ARRAY<FLOAT>), each in the cluster of the nearest of centres (k x latent): which of the centres have members, and
    the indices of those. In two Spark jobs, the moments and then the sums; what reaches the driver does not grow with n."""
    vectors = customers.select("vector")
    moments = _merged([Moments(*part) for part in _parts(vectors, functools.partial(_moments_around, centres), _MOMENTS)])
    has_members = moments.sizes > 0
    moments = Moments(*(values[has_members] for values in moments))
    sums = zip(*_parts(vectors, functools.partial(_sums_around, centres[has_members], moments), _SUMS), strict=True)
    return has_members, _indices(moments, Sums(*map(sum, sums)))


def _moments(vectors: np.ndarray, labels: np.ndarray, k: int) -> Moments:
    sizes = np.bincount(labels, minlength=k)
    totals = np.stack([np.bincount(labels, column, k) for column in vectors.T], axis=1)
    means = totals / np.maximum(sizes, 1)[:, None]
    differences = vectors - means[labels]
    return Moments(sizes, means, np.bincount(labels, np.einsum("ij,ij->i", differences, differences), k))


def _merged(parts: Sequence[Moments]) -> Moments:
    """Of parts of the customers those of all (Chan, Golub and LeVeque 1983): no difference of large sums."""
    sizes, means, squares = (np.stack(values) for values in zip(*parts, strict=True))
    n = sizes.sum(axis=0)
    mean = np.einsum("pk,pkd->kd", sizes, means) / np.maximum(n, 1)[:, None]
    between = np.einsum("pk,pkd->k", sizes, (means - mean) ** 2)
    return Moments(n, mean, squares.sum(axis=0) + between)


def _sums(vectors: np.ndarray, labels: np.ndarray, moments: Moments) -> Sums:
    k, sizes = len(moments.sizes), moments.sizes[labels]
    distances = _centres.distances(vectors, moments.means)
    to_members = distances**2 + moments.squares / moments.sizes  # mean squared distance to the members of each cluster
    everyone = np.arange(len(vectors))
    own = to_members[everyone, labels] * sizes / np.maximum(sizes - 1, 1)  # to the other members: its own distance is 0
    to_members[everyone, labels] = np.inf
    nearest = to_members.min(axis=1)
    larger = np.maximum(own, nearest)
    silhouettes = np.divide(nearest - own, larger, out=np.zeros(len(own)), where=(larger > 0) & (sizes > 1))
    return Sums(np.bincount(labels, distances[everyone, labels], k), np.bincount(labels, silhouettes, k))


def _indices(moments: Moments, sums: Sums) -> Indices:
    sizes, means, squares = moments
    n, k = sizes.sum(), len(sizes)
    within = sums.distances / sizes
    apart = _centres.distances(means, means)
    apart[apart == 0] = np.inf  # themselves; and clusters in one place, as scikit-learn has it
    overlaps = ((within[:, None] + within) / apart).max(axis=1)
    between = sizes @ ((means - sizes @ means / n) ** 2).sum(axis=1)
    ratio = between * (n - k) / (squares.sum() * (k - 1)) if squares.sum() else 1.0
    return Indices(sizes, squares, sums.silhouettes / sizes, overlaps, float(ratio))


def _parts(vectors: DataFrame, of_batch: Callable[[np.ndarray], NamedTuple], schema: str) -> list[list[np.ndarray]]:
    """The fields of of_batch() of each batch of the (vector ARRAY<FLOAT>), evaluated in the workers; columns `schema`."""
    rows = vectors.mapInArrow(functools.partial(_each, of_batch), schema).toArrow()
    return [[np.array(row[name]) for name in rows.column_names] for row in rows.to_pylist()]


def _each(of_batch: Callable[[np.ndarray], NamedTuple], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if batch.num_rows:
            part = of_batch(batch["vector"].flatten().to_numpy().astype(np.float64).reshape(batch.num_rows, -1))
            yield pa.RecordBatch.from_arrays([pa.array([values.tolist()]) for values in part], names=part._fields)


def _moments_around(centres: np.ndarray, vectors: np.ndarray) -> Moments:
    return _moments(vectors, _centres.distances(vectors, centres).argmin(axis=1), len(centres))


def _sums_around(centres: np.ndarray, moments: Moments, vectors: np.ndarray) -> Sums:
    return _sums(vectors, _centres.distances(vectors, centres).argmin(axis=1), moments)
