"""What the segment tables of a day are made from."""

from datetime import date

import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.storage import models
from jobs.storage.lake import Lake


def champion(settings: Settings, day: date) -> dict:
    """The model that is champion on `day`, as of models.champion_history(); raises UserError where there is none."""
    found = models.champion(settings.models, day)
    if found is None:
        raise UserError(f"segment: no model is champion on {day} in {settings.models}; run first: shoal train --day {day}")
    return found


def champion_version(settings: Settings, day: date) -> str:
    """Its version alone."""
    return champion(settings, day)["version"]


def known_customers(lake: Lake, version: str, day: date) -> DataFrame:
    """All customers of `day`: (customer_id, day, is_active, vector, isolation_score), the last two null where `version` did not
    encode them.

    Raises UserError where the day was not encoded with `version`.
    """
    if not lake.count_by("encoded.customers", ["day"], (ds.field("day") == day) & (ds.field("model_version") == version)):
        raise UserError(
            f"segment: encoded.customers has no rows of model {version} on {day}; run first: shoal encode --day {day}"
        )
    encoded = lake.read("encoded.customers", day, day).where(F.col("model_version") == version)
    features = lake.read("features.customers", day, day).select("customer_id", "day", "is_active")
    return features.join(encoded.select("customer_id", "vector", "isolation_score"), "customer_id", how="left")
