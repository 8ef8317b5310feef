"""The nearest centre, inside Spark's workers."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from jobs.errors import UserError
from jobs.traits import DORMANT

NEAREST = (
    "customer_id STRING, day DATE, segment_id INT, distance DOUBLE, runner_up_id INT, margin DOUBLE, is_outlier BOOLEAN, "
    "outlier_reason STRING"
)
# By whether the customer is far from the centre, and whether isolated.
OUTLIER_REASONS = {
    (True, False): "far from the segment",
    (False, True): "unlike other customers",
    (True, True): "far from the segment and unlike other customers",
}


@dataclass(frozen=True)
class Centres:
    """k centres by ascending segment id."""

    ids: np.ndarray  # k, int32
    points: np.ndarray  # k x latent, float64
    outlier_distance: np.ndarray  # k
    outlier_isolation: float = math.inf


def from_definitions(definitions: list[dict], outlier_isolation: float | None = None) -> Centres:
    """The centres of one model's rows of segments.definitions; dormant has none. Without `outlier_isolation` only distance
    makes an outlier."""
    rows = sorted((row for row in definitions if row["segment_id"] != DORMANT), key=itemgetter("segment_id"))
    return Centres(
        np.array([row["segment_id"] for row in rows], dtype=np.int32),
        np.array([row["center"] for row in rows], dtype=np.float64),
        np.array([row["outlier_distance"] for row in rows], dtype=np.float64),
        math.inf if outlier_isolation is None else outlier_isolation,
    )


def nearest(customers: DataFrame, centres: Centres) -> DataFrame:
    """(customer_id, day, is_active, vector, isolation_score) -> columns NEAREST; who is not active gets segment 0 and nulls.

    Evaluating it raises UserError, inside the workers, where an active customer has no vector.
    """
    rows = customers.select("customer_id", "day", "is_active", "vector", "isolation_score")
    return rows.mapInArrow(functools.partial(_nearest, centres), NEAREST)


def distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Euclidean distances (n x k) of points (n x d) from centres (k x d), each by its own differences: no cancellation.

    >>> distances(np.array([[0.0, 3.0]]), np.array([[0.0, 0.0], [4.0, 0.0]])).tolist()
    [[3.0, 5.0]]
    """
    found = np.empty((len(points), len(centres)))
    for column, centre in enumerate(centres):
        difference = points - centre
        found[:, column] = np.einsum("ij,ij->i", difference, difference)
    return np.sqrt(found)


def _nearest(centres: Centres, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    names = [part.split()[0] for part in NEAREST.split(", ")]
    for batch in batches:
        is_active = batch["is_active"].to_numpy(zero_copy_only=False)
        vectors = batch["vector"].filter(batch["is_active"])
        if vectors.null_count:
            row = int(np.flatnonzero(is_active)[np.argmax(vectors.is_null().to_numpy(zero_copy_only=False))])
            raise UserError(
                f"segment: encoded.customers, day {batch['day'][row]}: customer {batch['customer_id'][row]} has no "
                f"vector; run again: shoal encode --day {batch['day'][row]}"
            )
        points = vectors.flatten().to_numpy().astype(np.float64).reshape(len(vectors), -1)
        scores = batch["isolation_score"].filter(batch["is_active"]).to_numpy(zero_copy_only=False).astype(np.float64)
        found = distances(points, centres.points)
        every = np.arange(len(found))
        first = found.argmin(axis=1)  # of equals the first: the lower id
        distance = found[every, first]
        found[every, first] = np.inf
        second = found.argmin(axis=1)
        runner_up = found[every, second]
        margin = np.where(runner_up > 0, 1 - distance / np.where(runner_up > 0, runner_up, 1), 0.0)
        is_far = distance > centres.outlier_distance[first]
        is_isolated = scores > centres.outlier_isolation  # an unknown score is NaN
        reasons = [OUTLIER_REASONS.get(both) for both in zip(is_far.tolist(), is_isolated.tolist(), strict=True)]
        columns = [
            _spread(centres.ids[first], is_active, pa.int32(), DORMANT),
            _spread(distance, is_active, pa.float64()),
            _spread(centres.ids[second], is_active, pa.int32()),
            _spread(margin, is_active, pa.float64()),
            _spread(is_far | is_isolated, is_active, pa.bool_(), False),
            _spread(np.array(reasons, dtype=object), is_active, pa.string()),
        ]
        yield pa.RecordBatch.from_arrays([batch["customer_id"], batch["day"], *columns], names=names)


def _spread(values: np.ndarray, is_active: np.ndarray, kind: pa.DataType, otherwise: object = None) -> pa.Array:
    """The active customers' values at their rows; `otherwise` (None: null) at the others."""
    everyone = np.zeros(len(is_active), dtype=values.dtype)
    if otherwise is not None:
        everyone[:] = otherwise
    everyone[is_active] = values
    return pa.array(everyone, kind, mask=None if otherwise is not None else ~is_active)
