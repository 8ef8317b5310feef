"""K-Means by MLlib over all active customers, repeatable bit for bit."""

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
from jobs.errors import UserError
from jobs.progress import log
from jobs.segments import _centres
from jobs.storage.vectors import to_matrix
from jobs.traits import DORMANT

# Sums of two addends do not depend on their order, sums of three do: the fit is the same whichever of two tasks ends first.
FIT_PARTITIONS = 2
MAX_ITERATIONS = 50
TOLERANCE = 0.001  # of the inertia: a fit this near to the target is good enough


def fit_centres(active: DataFrame, sample_centres: np.ndarray, previous: DataFrame | None, segment: Segment) -> np.ndarray:
    """(customer_id, vector) of the active customers -> centres (k x latent), float32 as they are stored.

    `sample_centres` (k x latent) are those of the sample. MLlib starts again until its inertia is as low as theirs.
    `previous` is segments.assignments under the model before, or None. Where it has as many segments, and their inertia in the
    new space is at most `segment.continuity` above that of the new fit, their centres are kept: fewer customers move then.
    Raises UserError where all customers lie in one place.
    """
    k = len(sample_centres)
    points = to_points(active).persist()
    try:
        centres = fit_best_centres(points, k, segment, inertia(points, sample_centres))
        if previous is not None:
            centres = _keep_previous(points, centres, transfer_centres(points, previous), segment.continuity)
    finally:
        points.unpersist()
    centres = np.unique(centres.astype(np.float32), axis=0)
    if len(centres) < 2:
        raise UserError("segment: all active customers lie in one place; train again: shoal train --retrain")
    if len(centres) < k:
        log(f"segment: asked for {k} clusters, the customers gave {len(centres)}")
    return centres


def to_points(customers: DataFrame) -> DataFrame:
    """(customer_id, vector ARRAY<FLOAT>) -> (customer_id, vector of MLlib's type), in a fixed order and fixed partitions."""
    ordered = customers.repartition(FIT_PARTITIONS, "customer_id").sortWithinPartitions("customer_id")
    return ordered.select("customer_id", array_to_vector("vector").alias("vector"))


def inertia(points: DataFrame, centres: np.ndarray) -> float:
    """Return the sum of the squared distances of `points`, made by to_points(), from the nearest of centres (k x latent)."""
    vectors = points.select(vector_to_array("vector", "float32").alias("vector"))
    return vectors.mapInArrow(functools.partial(_sum_squares, centres), "squares DOUBLE").agg(F.sum("squares")).first()[0]


def transfer_centres(points: DataFrame, previous: DataFrame) -> np.ndarray:
    """Return the centres (m x latent) of the `previous` segments, of segments.assignments, in the space of `points`.

    A centre is the mean of the segment's active customers. In a space that has not changed, this is one step of K-Means from
    the previous centres (Lloyd 1982).
    """
    members = points.select("customer_id", vector_to_array("vector", "float32").alias("vector")).join(
        previous.where(F.col("segment_id") != DORMANT).select("customer_id", "segment_id"), "customer_id", how="inner"
    )
    ordered = members.repartition(FIT_PARTITIONS, "customer_id").sortWithinPartitions("customer_id")
    latent = len(points.first()["vector"])
    return traits.feature_statistics(ordered, [str(number) for number in range(latent)]).mean


def fit_best_centres(points: DataFrame, k: int, segment: Segment, target: float) -> np.ndarray:
    """Return the centres (k x latent) of the fit with the lowest inertia, of at most `segment.seeds` fits.

    The first fit whose inertia is within TOLERANCE of `target` is the last. `points` come from to_points() and are persisted.
    Fewer than k centres come out where the customers do not differ enough.
    """
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


def _keep_previous(points: DataFrame, centres: np.ndarray, previous: np.ndarray, continuity: float) -> np.ndarray:
    """Return the previous centres where they are as many and nearly as good as the new ones, else the new ones."""
    if len(previous) != len(centres):
        return centres
    new_inertia, previous_inertia = inertia(points, centres), inertia(points, previous)
    is_kept = previous_inertia <= new_inertia * (1 + continuity)
    difference = f"{previous_inertia / new_inertia - 1:+.2%}" if new_inertia else "none"
    log(
        f"fit   the previous centres in the new space: inertia {difference} against the new fit; "
        f"they are {'kept' if is_kept else 'not kept'}"
    )
    return previous if is_kept else centres


def _sum_squares(centres: np.ndarray, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        squares = _centres.euclidean_distances(to_matrix(batch["vector"]), centres).min(axis=1) ** 2
        yield pa.RecordBatch.from_arrays([pa.array([squares.sum()], pa.float64())], names=["squares"])
