"""K-Means by MLlib over the active customers, repeatable bit for bit."""

import functools
import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pyspark.ml.clustering import KMeans
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import traits
from jobs.config.settings import Segment
from jobs.engine.fitted_models import fitted_model
from jobs.progress import log
from jobs.segments import _centres
from jobs.traits import DORMANT

# Sums of two addends do not depend on their order, those of three do: whichever of two tasks ends first, the same fit.
FIT_PARTITIONS = 2
MAX_ITERATIONS = 50
NEARLY = 0.001  # of the sum of squares


def points(customers: DataFrame) -> DataFrame:
    """(customer_id, vector ARRAY<FLOAT>) -> (customer_id, vector as MLlib wants it), order and partitions fixed."""
    ordered = customers.repartition(FIT_PARTITIONS, "customer_id").sortWithinPartitions("customer_id")
    return ordered.select("customer_id", array_to_vector("vector").alias("vector"))


def spread(points: DataFrame, centres: np.ndarray) -> float:
    """Sum of the squared distances of points, as of points(), from the nearest of centres (k x latent)."""
    vectors = points.select(vector_to_array("vector", "float32").alias("vector"))
    return vectors.mapInArrow(functools.partial(_squares, centres), "squares DOUBLE").agg(F.sum("squares")).first()[0]


def carried_over(points: DataFrame, before: DataFrame) -> np.ndarray:
    """Where the segments `before`, of segments.assignments, lie among points(): the means of their active customers (m x latent).

    In a space that has not changed this is one step of K-Means from the centres before (Lloyd 1982).
    """
    members = points.select("customer_id", vector_to_array("vector", "float32").alias("vector")).join(
        before.where(F.col("segment_id") != DORMANT).select("customer_id", "segment_id"), "customer_id", how="inner"
    )
    ordered = members.repartition(FIT_PARTITIONS, "customer_id").sortWithinPartitions("customer_id")
    latent = len(points.first()["vector"])
    return traits.statistics(ordered, [str(number) for number in range(latent)]).mean


def best_centres(points: DataFrame, k: int, segment: Segment, enough: float) -> np.ndarray:
    """Centres (k x latent) of the best of at most `segment.seeds` fits by within-cluster sum of squares; the first that comes
    within NEARLY of `enough` is the last.

    `points` as from points(), persisted. Fewer than k come out where the customers do not differ enough.
    """
    centres, inertia = np.empty((0, 0)), math.inf
    for number in range(segment.seeds):
        kmeans = KMeans(
            featuresCol="vector", k=k, seed=segment.seed + number, solver="block", initMode="k-means||", maxIter=MAX_ITERATIONS
        )
        with fitted_model(kmeans, points) as model:
            if not centres.size or model.summary.trainingCost < inertia:
                centres, inertia = np.array(model.clusterCenters()), model.summary.trainingCost
        if inertia <= enough * (1 + NEARLY):
            break
    than_wanted = f"{inertia / enough - 1:+.2%}" if enough else "none"
    log(
        f"fit   {k} clusters of all active customers, start {number + 1} of at most {segment.seeds}; "
        f"sum of squares against the centres of the sample: {than_wanted}"
    )
    return centres


def _squares(centres: np.ndarray, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        points = batch["vector"].flatten().to_numpy().reshape(batch.num_rows, -1)
        squares = _centres.distances(points, centres).min(axis=1) ** 2
        yield pa.RecordBatch.from_arrays([pa.array([squares.sum()], pa.float64())], names=["squares"])
