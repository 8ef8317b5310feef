"""The inputs that the segment tables of a day share."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.config.settings import Settings
from jobs.encoder import features_table
from jobs.errors import UserError
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table
from jobs.storage.vectors import to_matrix

# The columns of encoded.customers that are read.
ENCODED = Table(
    "encoded.customers",
    "The vector that the encoder of the day gives the customer.",
    "customer_id STRING, day DATE, model_version STRING, vector ARRAY<FLOAT>, isolation_score DOUBLE",
    partition="day",
)


@dataclass(frozen=True)
class ActiveCustomers:
    """The n active customers of a day whom a model has encoded, in the order of their ids."""

    day: date
    ids: pa.Array  # n
    vectors: np.ndarray  # n x latent, float32
    isolation_scores: np.ndarray  # n; NaN where not known
    n_dormant: int
    first_missing: str | None  # the first active customer whom the model has not encoded


def champion(settings: Settings, day: date) -> dict:
    """Return the champion of `day`, an entry of models.champion_history(). Raises UserError where there is none."""
    entry = models.champion(settings.models, day)
    if entry is None:
        raise UserError(f"segment: no model is champion on {day} in {settings.models}; run first: shoal train --day {day}")
    return entry


def champion_version(settings: Settings, day: date) -> str:
    """Return the version of the champion of `day`. Raises UserError where there is none."""
    return champion(settings, day)["version"]


def require_encoded(lake: Lake, version: str, day: date) -> None:
    """Raise UserError where the model `version` encoded nobody on `day`."""
    if not lake.count_by("encoded.customers", ["day"], (ds.field("day") == day) & (ds.field("model_version") == version)):
        raise UserError(
            f"segment: encoded.customers has no rows of model {version} on {day}; run first: shoal encode --day {day}"
        )


def customers_of(day: date) -> Rows:
    """Return which rows hold all customers of `day`: (customer_id, day, is_active)."""
    return Rows(features_table(), "customer_id", ("customer_id", "day", "is_active"), [day])


def encodings_of(day: date, only: pa.Array | None = None) -> Rows:
    """Return which rows hold the vectors of `day`, of all customers or `only` of some."""
    return Rows(ENCODED, "customer_id", ("customer_id", "model_version", "vector", "isolation_score"), [day], only)


def read_active(lake: Lake, version: str, day: date) -> ActiveCustomers:
    """Return the active customers of `day` whom the model `version` encoded. Raises UserError where it encoded nobody."""
    require_encoded(lake, version, day)
    customers = read_rows(lake.root, customers_of(day))
    active_ids = customers["customer_id"].filter(customers["is_active"])
    encoded = read_rows(lake.root, encodings_of(day, active_ids.combine_chunks()))
    encoded = encoded.filter((pc.field("model_version") == version) & pc.field("vector").is_valid())
    encoded = encoded.take(pl.Series(pl.from_arrow(encoded["customer_id"])).arg_sort().to_arrow())
    missing = None
    if len(encoded) < len(active_ids):
        missing = pc.min(active_ids.filter(pc.invert(pc.is_in(active_ids, encoded["customer_id"].combine_chunks())))).as_py()
    ids, scores = encoded["customer_id"].combine_chunks(), encoded["isolation_score"].to_numpy().astype(np.float64)
    return ActiveCustomers(day, ids, to_matrix(encoded["vector"]), scores, customers.num_rows - len(active_ids), missing)


def require_all_encoded(customers: ActiveCustomers) -> None:
    """Raise UserError where an active customer has no vector."""
    if customers.first_missing is not None:
        raise UserError(describe_missing(customers.day, customers.first_missing))


def describe_missing(day: date, customer_id: str) -> str:
    """Return the error of an active customer without a vector."""
    return f"segment: encoded.customers, day {day}: customer {customer_id} has no vector; run again: shoal encode --day {day}"
