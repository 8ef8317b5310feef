"""A sample of the active customers of a day, as an encoder is given them."""

import json
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.errors import UserError
from jobs.storage.lake import Lake


@dataclass(frozen=True)
class Sample:
    """n customers: ids, and what an encoder is given of them (n x features, n x attributes)."""

    ids: pa.Array
    given: tuple[np.ndarray, np.ndarray]


def sample(lake: Lake, day: date, meta: dict, n: int) -> Sample:
    """At most n active customers of features.customers on `day`, for the model that `meta` is of.

    Raises UserError where the table has not what the model was trained on.
    """
    properties = lake.properties("features.customers")
    names, attributes = (json.loads(properties.get(key, "[]")) for key in ("shoal.vector", "shoal.attributes"))
    if names != meta["features"] or not set(meta["attributes"]) <= set(attributes):
        raise UserError("segment: features.customers and the model have other features; train again: shoal train --retrain")
    active = lake.read("features.customers", day, day).where("is_active")
    rows = drawn(active, n).select("customer_id", "vector", *meta["attributes"]).toArrow()
    texts = np.full((len(rows), len(meta["attributes"])), "", dtype=object)
    for column, name in enumerate(meta["attributes"]):
        texts[:, column] = rows[name].fill_null("").to_numpy()
    return Sample(rows["customer_id"].combine_chunks(), (matrix(rows["vector"]), texts))


def drawn(customers: DataFrame, n: int) -> DataFrame:
    """At most n of the customers, as good as drawn by lot and the same each time, in an order of their own."""
    return customers.orderBy(F.xxhash64("customer_id"), "customer_id").limit(n)


def matrix(vectors: pa.ChunkedArray) -> np.ndarray:
    """n x d float32; null becomes NaN."""
    values = vectors.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return values.reshape(len(vectors), -1 if len(vectors) else 1)
