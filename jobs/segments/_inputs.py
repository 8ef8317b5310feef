"""The inputs that the segment tables of a day share."""

from datetime import date

import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.storage import models
from jobs.storage.lake import Lake


def champion(settings: Settings, day: date) -> dict:
    """Return the champion of `day`, an entry of models.champion_history(). Raises UserError where there is none."""
    entry = models.champion(settings.models, day)
    if entry is None:
        raise UserError(f"segment: no model is champion on {day} in {settings.models}; run first: shoal train --day {day}")
    return entry


def champion_version(settings: Settings, day: date) -> str:
    """Return the version of the champion of `day`. Raises UserError where there is none."""
    return champion(settings, day)["version"]


def read_customers(lake: Lake, version: str, day: date) -> DataFrame:
    """Return all customers of `day`: (customer_id, day, is_active, vector, isolation_score).

    The last two are null where the model `version` did not encode the customer. Raises UserError where it encoded nobody.
    """
    if not lake.count_by("encoded.customers", ["day"], (ds.field("day") == day) & (ds.field("model_version") == version)):
        raise UserError(
            f"segment: encoded.customers has no rows of model {version} on {day}; run first: shoal encode --day {day}"
        )
    encoded = lake.read("encoded.customers", day, day).where(F.col("model_version") == version)
    features = lake.read("features.customers", day, day).select("customer_id", "day", "is_active")
    return features.join(encoded.select("customer_id", "vector", "isolation_score"), "customer_id", how="left")
