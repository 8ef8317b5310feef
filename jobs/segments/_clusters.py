"""The clusters of a fit: their members, what sets them apart, and how well the members lie in them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import traits
from jobs.catalogue import Feature
from jobs.progress import log
from jobs.segments._cluster_indices import compute_indices_in_spark
from jobs.traits import DORMANT, Trait

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
    nearest: DataFrame, features: DataFrame, centres: np.ndarray, catalogue: Sequence[Feature], names: list[str], sigmas: float
) -> list[Cluster]:
    """Return the clusters that have members, and the dormant customers as number 0.

    `nearest` has columns _centres.NEAREST of all customers, `features` (customer_id, vector) with the features `names`. Centre i
    of centres (k x latent) is that of cluster i + 1. `sigmas` is the setting segment.outlier_sigmas.
    """
    distances = nearest.groupBy("segment_id").agg(
        F.count("*").alias("n"), F.avg("distance").alias("mean"), F.stddev_pop("distance").alias("standard_deviation")
    )
    active = nearest.where(F.col("segment_id") != DORMANT).join(features, "customer_id", how="inner")
    cluster_traits = traits.rank_traits(traits.feature_statistics(active, names), catalogue)
    clusters = []
    for row in sorted(distances.collect(), key=lambda row: row.segment_id):
        figures = (None, None, None)
        if row.segment_id != DORMANT:
            outlier_distance = round(row.mean + sigmas * row.standard_deviation, DISTANCE_DECIMALS)
            figures = (centres[row.segment_id - 1].tolist(), round(row.mean, DISTANCE_DECIMALS), outlier_distance)
        clusters.append(Cluster(row.segment_id, row.n, *figures, cluster_traits.get(row.segment_id, [])))
    if clusters[0].number != DORMANT:
        clusters.insert(0, Cluster(DORMANT, 0, None, None, None, []))
    return clusters


def add_indices(clusters: list[Cluster], customers: DataFrame, centres: np.ndarray) -> list[Cluster]:
    """Return the clusters with the clustering indices of all active customers; centres are as of describe_clusters()."""
    has_members, indices = compute_indices_in_spark(customers.where("is_active"), centres)
    log(
        f"fit   {indices.sizes.sum():,} active customers: silhouette {indices.silhouette:.3f}, Davies-Bouldin "
        f"{indices.davies_bouldin:.3f}, Calinski-Harabasz {indices.calinski_harabasz:,.0f}"
    )
    columns = (indices.squares, indices.silhouettes, indices.overlaps)
    rounded = ([float(f"{value:.{INDEX_DIGITS}g}") for value in values] for values in columns)
    by_number = dict(zip((np.flatnonzero(has_members) + 1).tolist(), zip(*rounded, strict=True), strict=True))
    unknown = (None,) * len(INDICES)
    return [c._replace(**dict(zip(INDICES, by_number.get(c.number, unknown), strict=True))) for c in clusters]
