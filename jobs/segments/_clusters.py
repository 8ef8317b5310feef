"""The clusters of a fit: their members, what sets them apart, and how well the members lie in them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jobs import traits
from jobs.catalogue import Feature
from jobs.progress import log
from jobs.segments._centres import TwoNearest
from jobs.segments._cluster_indices import compute_indices_in_slices
from jobs.traits import DORMANT, Statistics, Trait

DISTANCE_DECIMALS = 9
INDEX_DIGITS = 9  # fewer than the digits that change with the order of the addends of a sum
INDICES = ("wss", "silhouette", "davies_bouldin")


class Cluster(NamedTuple):
    """One cluster of the fit, or the dormant customers (number 0, no centre)."""

    number: int
    n_customers: int
    center: list[float] | None
    radius: float | None  # mean distance of the members
    outlier_distance: float | None
    traits: list[Trait]
    wss: float | None = None
    silhouette: float | None = None
    davies_bouldin: float | None = None


def describe_clusters(
    nearest: TwoNearest, n_dormant: int, centres: np.ndarray, statistics: Statistics, catalogue: Sequence[Feature], sigmas: float
) -> list[Cluster]:
    """Return the clusters that have members, and the dormant customers as number 0.

    `nearest` are the centres nearest to the active customers, `statistics` those of their features by cluster number. Centre i
    of centres (k x latent) is that of cluster i + 1. `sigmas` is the setting segment.outlier_sigmas.
    """
    cluster_traits = traits.rank_traits(statistics, catalogue)
    clusters = [Cluster(DORMANT, n_dormant, None, None, None, [])]
    for place in np.unique(nearest.nearest).tolist():
        distances = nearest.distance[nearest.nearest == place]
        mean = float(distances.mean())
        outlier_distance = round(mean + sigmas * float(distances.std()), DISTANCE_DECIMALS)
        figures = (centres[place].tolist(), round(mean, DISTANCE_DECIMALS), outlier_distance)
        clusters.append(Cluster(place + 1, len(distances), *figures, cluster_traits.get(place + 1, [])))
    return clusters


def add_indices(clusters: list[Cluster], vectors: np.ndarray, centres: np.ndarray) -> list[Cluster]:
    """Return the clusters with the clustering indices of all active customers (n x latent); centres as of describe_clusters()."""
    has_members, indices = compute_indices_in_slices(vectors, centres)
    log(
        f"fit   {indices.sizes.sum():,} active customers: silhouette {indices.silhouette:.3f}, Davies-Bouldin "
        f"{indices.davies_bouldin:.3f}, Calinski-Harabasz {indices.calinski_harabasz:,.0f}"
    )
    columns = (indices.squares, indices.silhouettes, indices.overlaps)
    rounded = ([float(f"{value:.{INDEX_DIGITS}g}") for value in values] for values in columns)
    by_number = dict(zip((np.flatnonzero(has_members) + 1).tolist(), zip(*rounded, strict=True), strict=True))
    unknown = (None,) * len(INDICES)
    return [c._replace(**dict(zip(INDICES, by_number.get(c.number, unknown), strict=True))) for c in clusters]
