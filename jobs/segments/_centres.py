"""The centres of the segments, and the nearest one of each customer inside Spark's workers."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from jobs.errors import UserError
from jobs.storage.vectors import to_matrix
from jobs.traits import DORMANT

NEAREST = (
    "customer_id STRING, day DATE, segment_id INT, distance DOUBLE, runner_up_id INT, margin DOUBLE, is_outlier BOOLEAN, "
    "outlier_reason STRING"
)
# Keys: whether the customer is far from the centre, and whether isolated.
OUTLIER_REASONS = {
    (True, False): "far from the segment",
    (False, True): "unlike other customers",
    (True, True): "far from the segment and unlike other customers",
}


@dataclass(frozen=True)
class Centres:
    """k centres in ascending order of segment id."""

    ids: np.ndarray  # k, int32
    points: np.ndarray  # k x latent, float64
    outlier_distance: np.ndarray  # k
    outlier_isolation: float = math.inf

    @classmethod
    def from_definitions(cls, definitions: list[dict], outlier_isolation: float | None = None) -> Self:
        """Return the centres in one model's rows of segments.definitions; the dormant segment has none.

        Without `outlier_isolation` only the distance makes a customer an outlier.
        """
        rows = sorted((row for row in definitions if row["segment_id"] != DORMANT), key=itemgetter("segment_id"))
        return cls(
            np.array([row["segment_id"] for row in rows], dtype=np.int32),
            np.array([row["center"] for row in rows], dtype=np.float64),
            np.array([row["outlier_distance"] for row in rows], dtype=np.float64),
            math.inf if outlier_isolation is None else outlier_isolation,
        )


class TwoNearest(NamedTuple):
    """The nearest and the second nearest centre of n customers."""

    nearest: np.ndarray  # n: index of the centre; the lower of two that are equally near
    second: np.ndarray  # n
    distance: np.ndarray  # n: from the nearest centre
    margin: np.ndarray  # n: 1 - distance / distance from the second; 0: on the border, 1: at the centre


def find_nearest(customers: DataFrame, centres: Centres) -> DataFrame:
    """(customer_id, day, is_active, vector, isolation_score) -> columns NEAREST.

    A customer who is not active gets segment 0 and nulls. Evaluating the frame raises UserError, inside the workers, where an
    active customer has no vector.
    """
    rows = customers.select("customer_id", "day", "is_active", "vector", "isolation_score")
    return rows.mapInArrow(functools.partial(_assign_batches, centres), NEAREST)


def euclidean_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the distances (n x k) of points (n x d) from centres (k x d), summed from differences: no cancellation.

    >>> euclidean_distances(np.array([[0.0, 3.0]]), np.array([[0.0, 0.0], [4.0, 0.0]])).tolist()
    [[3.0, 5.0]]
    """
    squares = np.empty((len(points), len(centres)))
    for column, centre in enumerate(centres):
        difference = points - centre
        squares[:, column] = np.einsum("ij,ij->i", difference, difference)
    return np.sqrt(squares)


def find_two_nearest(distances: np.ndarray) -> TwoNearest:
    """Return the two nearest of k centres for each row of distances (n x k).

    >>> nearest, second, distance, margin = find_two_nearest(np.array([[3.0, 9.0, 6.0], [0.0, 0.0, 1.0]]))
    >>> nearest.tolist(), second.tolist(), distance.tolist(), margin.tolist()
    ([0, 0], [2, 1], [3.0, 0.0], [0.5, 0.0])
    """
    rows = np.arange(len(distances))
    nearest = distances.argmin(axis=1)
    distance = distances[rows, nearest]
    others = distances.copy()
    others[rows, nearest] = np.inf
    second = others.argmin(axis=1)
    to_second = others[rows, second]
    margin = np.where(to_second > 0, 1 - distance / np.where(to_second > 0, to_second, 1), 0.0)
    return TwoNearest(nearest, second, distance, margin)


def _assign_batches(centres: Centres, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    names = [part.split()[0] for part in NEAREST.split(", ")]
    for batch in batches:
        is_active = batch["is_active"].to_numpy(zero_copy_only=False)
        vectors = batch["vector"].filter(batch["is_active"])
        _require_vectors(batch, vectors, is_active)
        nearest, second, distance, margin = find_two_nearest(euclidean_distances(to_matrix(vectors, np.float64), centres.points))
        scores = batch["isolation_score"].filter(batch["is_active"]).to_numpy(zero_copy_only=False).astype(np.float64)
        is_far = distance > centres.outlier_distance[nearest]
        is_isolated = scores > centres.outlier_isolation  # an unknown score is NaN
        reasons = [OUTLIER_REASONS.get(key) for key in zip(is_far.tolist(), is_isolated.tolist(), strict=True)]
        columns = [
            _for_all(centres.ids[nearest], is_active, pa.int32(), DORMANT),
            _for_all(distance, is_active, pa.float64()),
            _for_all(centres.ids[second], is_active, pa.int32()),
            _for_all(margin, is_active, pa.float64()),
            _for_all(is_far | is_isolated, is_active, pa.bool_(), False),
            _for_all(np.array(reasons, dtype=object), is_active, pa.string()),
        ]
        yield pa.RecordBatch.from_arrays([batch["customer_id"], batch["day"], *columns], names=names)


def _require_vectors(batch: pa.RecordBatch, vectors: pa.Array, is_active: np.ndarray) -> None:
    if vectors.null_count:
        row = int(np.flatnonzero(is_active)[np.argmax(vectors.is_null().to_numpy(zero_copy_only=False))])
        raise UserError(
            f"segment: encoded.customers, day {batch['day'][row]}: customer {batch['customer_id'][row]} has no "
            f"vector; run again: shoal encode --day {batch['day'][row]}"
        )


def _for_all(values: np.ndarray, is_active: np.ndarray, kind: pa.DataType, default: object = None) -> pa.Array:
    """Return the values of the active customers in a column of all customers; the others get `default` (None: null)."""
    column = np.zeros(len(is_active), dtype=values.dtype)
    if default is not None:
        column[:] = default
    column[is_active] = values
    return pa.array(column, kind, mask=None if default is not None else ~is_active)
