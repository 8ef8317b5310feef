"""K-Means by MLlib over the active customers, repeatable bit for bit."""

import numpy as np
from pyspark.ml.clustering import KMeans, KMeansModel
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame

from jobs.settings import Segment

# Sums of two addends do not depend on their order, those of three do: whichever of two tasks ends first, the same fit.
FIT_PARTITIONS = 2
MAX_ITERATIONS = 50


def points(customers: DataFrame) -> DataFrame:
    """(customer_id, vector ARRAY<FLOAT>) -> (customer_id, vector as MLlib wants it), order and partitions fixed."""
    ordered = customers.repartition(FIT_PARTITIONS, "customer_id").sortWithinPartitions("customer_id")
    return ordered.select("customer_id", array_to_vector("vector").alias("vector"))


def best_centres(points: DataFrame, k: int, segment: Segment) -> np.ndarray:
    """Centres (k x latent) of the best of `segment.seeds` fits by within-cluster sum of squares.

    `points` as from points(), persisted. Fewer than k come out where the customers do not differ enough.
    """
    fits = (_fit(points, k, segment.seed + i) for i in range(segment.seeds))
    return np.array(min(fits, key=lambda model: model.summary.trainingCost).clusterCenters())


def _fit(points: DataFrame, k: int, seed: int) -> KMeansModel:
    kmeans = KMeans(featuresCol="vector", k=k, seed=seed, solver="block", initMode="k-means||", maxIter=MAX_ITERATIONS)
    return kmeans.fit(points)
