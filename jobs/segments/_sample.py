"""A sample of the active customers of a day: as an encoder reads them, or as vectors."""

import json
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.encoder import to_inputs
from jobs.errors import UserError
from jobs.storage.lake import Lake
from jobs.storage.vectors import to_matrix


@dataclass(frozen=True)
class Sample:
    """n customers as an encoder reads them."""

    ids: pa.Array  # n
    inputs: tuple[np.ndarray, np.ndarray]  # features (n x d) and attributes (n x a)


def draw_sample(lake: Lake, day: date, meta: dict, n: int) -> Sample:
    """Return at most n active customers of features.customers on `day`; `meta` is the meta.json of the model that encodes them.

    Raises UserError where the table lacks features or attributes that the model was trained on.
    """
    properties = lake.properties("features.customers")
    features, attributes = (json.loads(properties.get(key, "[]")) for key in ("shoal.vector", "shoal.attributes"))
    if features != meta["features"] or not set(meta["attributes"]) <= set(attributes):
        raise UserError("segment: features.customers and the model have other features; train again: shoal train --retrain")
    active = lake.read("features.customers", day, day).where("is_active")
    rows = draw_customers(active, n).select("customer_id", "vector", *meta["attributes"]).toArrow()
    return Sample(rows["customer_id"].combine_chunks(), to_inputs(rows, list(meta["attributes"])))


def draw_vectors(customers: DataFrame, n: int) -> np.ndarray:
    """Return the vectors (n x latent) of at most n active customers who have one."""
    active = customers.where("is_active AND vector IS NOT NULL")
    return to_matrix(draw_customers(active, n).select("vector").toArrow()["vector"])


def draw_customers(customers: DataFrame, n: int) -> DataFrame:
    """Return at most n customers in the order of a hash of their ids: random customers, but the same ones each time."""
    return customers.orderBy(F.xxhash64("customer_id"), "customer_id").limit(n)
