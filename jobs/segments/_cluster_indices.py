"""Clustering indices: silhouette, Davies-Bouldin and Calinski-Harabasz, of a sample at once or of all customers in slices.

Both ways take the same steps. The clusters are known by their moments, and each customer is compared with those: n x k steps
instead of n x n. The silhouette is therefore that of squared Euclidean distances (Rousseeuw 1987; Davies and Bouldin 1979;
Calinski and Harabasz 1974; as in https://scikit-learn.org/stable/modules/clustering.html#clustering-performance-evaluation).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jobs.segments._centres import euclidean_distances
from jobs.storage.vectors import list_slices


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


def compute_indices_in_slices(vectors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, Indices]:
    """Return the indices of vectors (n x latent), each in the cluster of the nearest of centres (k x latent).

    Returns which of the centres have members (k, bool), and the indices of those. Twice the memory of the vectors is never
    needed: sums are made by slice, once for the moments and once with them.
    """
    slices = [*list_slices(len(vectors))]
    moments = _merge_moments([_nearest_moments(centres, vectors[rows]) for rows in slices])
    has_members = moments.sizes > 0
    moments = Moments(*(values[has_members] for values in moments))
    sums = zip(*(_nearest_sums(centres[has_members], moments, vectors[rows]) for rows in slices), strict=True)
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


def _nearest_moments(centres: np.ndarray, vectors: np.ndarray) -> Moments:
    points = vectors.astype(np.float64)
    return _compute_moments(points, euclidean_distances(points, centres).argmin(axis=1), len(centres))


def _nearest_sums(centres: np.ndarray, moments: Moments, vectors: np.ndarray) -> Sums:
    points = vectors.astype(np.float64)
    return _compute_sums(points, euclidean_distances(points, centres).argmin(axis=1), moments)
