"""The customers of a day with their segment and what the marts say of them."""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.errors import UserError
from jobs.lake import Lake

CUSTOMER_COLUMNS = ("customer_id", "recency_days", "orders_365d", "net_365d")
SEGMENT_COLUMNS = ("customer_id", "segment_id", "runner_up_id", "margin", "is_outlier", "model_version")


def members(lake: Lake, day: date) -> DataFrame:
    """CUSTOMER_COLUMNS of features.customers and SEGMENT_COLUMNS of segments.assignments, one row per customer.

    `vector` is null for dormant customers: they are in their segment by rule, and may be nineteen of twenty.
    Raises UserError where the day has no assignments.
    """
    assignments = lake.read("segments.assignments", day, day)
    if assignments.isEmpty():
        raise UserError(f"publish: segments.assignments has no rows on {day}; run first: shoal segment --day {day}")
    customers = lake.read("features.customers", day, day).select(
        *CUSTOMER_COLUMNS, F.when(F.col("is_active"), F.col("vector")).alias("vector")
    )
    return customers.join(assignments.select(*SEGMENT_COLUMNS), "customer_id", how="inner")


def definitions(lake: Lake, day: date) -> DataFrame:
    """The rows of segments.definitions of the model that `day` was assigned with."""
    version = lake.read("segments.assignments", day, day).select("model_version").first()[0]
    return lake.read("segments.definitions").where(F.col("model_version") == version)
