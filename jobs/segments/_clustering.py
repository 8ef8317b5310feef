"""K-Means by MLlib over the active customers, repeatable bit for bit."""

from typing import NamedTuple

import numpy as np
from pyspark.ml.clustering import KMeans, KMeansModel
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame

from jobs.settings import Segment

# Sums of two addends do not depend on their order, those of three do: whichever of two tasks ends first, the same fit.
FIT_PARTITIONS = 2
MAX_ITERATIONS = 50


class Fit(NamedTuple):
    model: KMeansModel
    centres: np.ndarray  # k x latent; fewer than asked where the customers do not differ enough
    wss: float  # within-cluster sum of squared distances


def points(customers: DataFrame) -> DataFrame:
    """(customer_id, vector ARRAY<FLOAT>) -> (customer_id, vector as MLlib wants it), order and partitions fixed."""
    ordered = customers.repartition(FIT_PARTITIONS, "customer_id").sortWithinPartitions("customer_id")
    return ordered.select("customer_id", array_to_vector("vector").alias("vector"))


def best_fit(points: DataFrame, k: int, segment: Segment) -> Fit:
    """The best by WSS of `segment.seeds` fits of k clusters; `points` as from points(), persisted."""
    fits = (_fit(points, k, segment.seed + i) for i in range(segment.seeds))
    return min(fits, key=lambda fit: fit.wss)


def _fit(points: DataFrame, k: int, seed: int) -> Fit:
    kmeans = KMeans(featuresCol="vector", k=k, seed=seed, solver="block", initMode="k-means||", maxIter=MAX_ITERATIONS)
    model = kmeans.fit(points)
    return Fit(model, np.array(model.clusterCenters()), model.summary.trainingCost)
