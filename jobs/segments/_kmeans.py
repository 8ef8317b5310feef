"""K-Means by MLlib over all active customers, repeatable bit for bit: the only thing that a segmented day needs Spark for."""

import math

import numpy as np
import pyarrow as pa
from pyspark.ml.clustering import KMeans
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession

from jobs.config.settings import Segment
from jobs.engine.fitted_models import fitted_model
from jobs.progress import log

# Sums of two addends do not depend on their order, sums of three do: the fit is the same whichever of two tasks ends first.
FIT_PARTITIONS = 2
MAX_ITERATIONS = 50
TOLERANCE = 0.001  # of the inertia: a fit this near to the target is good enough


def fit_best_centres(spark: SparkSession, customers: pa.Table, k: int, segment: Segment, target: float) -> np.ndarray:
    """(customer_id, vector) of the active customers -> the centres (k x latent) of the fit with the lowest inertia.

    At most `segment.seeds` fits are made. The first fit whose inertia is within TOLERANCE of `target` is the last. Fewer than k
    centres come out where the customers do not differ enough.
    """
    points = to_points(spark.createDataFrame(customers)).persist()
    try:
        return _fit_seeds(points, k, segment, target)
    finally:
        points.unpersist()


def to_points(customers: DataFrame) -> DataFrame:
    """(customer_id, vector ARRAY<FLOAT>) -> (customer_id, vector of MLlib's type), in a fixed order and fixed partitions."""
    ordered = customers.repartition(FIT_PARTITIONS, "customer_id").sortWithinPartitions("customer_id")
    return ordered.select("customer_id", array_to_vector("vector").alias("vector"))


def _fit_seeds(points: DataFrame, k: int, segment: Segment, target: float) -> np.ndarray:
    centres, lowest_inertia = np.empty((0, 0)), math.inf
    for number in range(segment.seeds):
        kmeans = KMeans(
            featuresCol="vector", k=k, seed=segment.seed + number, solver="block", initMode="k-means||", maxIter=MAX_ITERATIONS
        )
        with fitted_model(kmeans, points) as model:
            if not centres.size or model.summary.trainingCost < lowest_inertia:
                centres, lowest_inertia = np.array(model.clusterCenters()), model.summary.trainingCost
        if lowest_inertia <= target * (1 + TOLERANCE):
            break
    difference = f"{lowest_inertia / target - 1:+.2%}" if target else "none"
    log(
        f"fit   {k} clusters of all active customers, start {number + 1} of at most {segment.seeds}; "
        f"inertia against the centres of the sample: {difference}"
    )
    return centres
