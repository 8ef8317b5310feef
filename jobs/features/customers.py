"""features.customers: one row per customer known by the day, customers without any order or event included.

Inputs: features.customer_days, clean.customers. As of the day: nothing later is seen, not even who a visitor was.
"""

import json
from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import catalogue
from jobs.errors import UserError
from jobs.features import customer_days
from jobs.lake import Lake, Table
from jobs.settings import Settings

_FIXED = """
    customer_id STRING NOT NULL COMMENT 'customer',
    day DATE NOT NULL COMMENT 'as of the end of this day, UTC',
    is_active BOOLEAN NOT NULL COMMENT 'any event or order in the last dormant_days days; else dormant',
    country STRING COMMENT 'country, as the customer record has it',
    first_known_day DATE NOT NULL COMMENT 'registered or first seen',
    first_seen_day DATE COMMENT 'first day with an event, order or return',
    last_seen_day DATE COMMENT 'last day with an event or order',
    first_order_day DATE COMMENT 'first day with an order',
    last_order_day DATE COMMENT 'last day with an order'"""


def _comment(feature: catalogue.Feature) -> str:
    text = f"{feature.meaning} ({feature.unit}; {feature.missing})".replace("'", "")
    return f"{feature.name} {feature.sql_type} COMMENT '{text}'"


SCHEMA = ",\n    ".join(
    [
        _FIXED,
        *map(_comment, catalogue.FEATURES),
        "vector ARRAY<FLOAT> NOT NULL COMMENT 'the features of the table property shoal.vector, in that order'",
    ]
)
TABLE = Table(
    "features.customers",
    __doc__.split("\n\n")[0],
    SCHEMA,
    "day",
    {"seen_by_day": "last_seen_day IS NULL OR last_seen_day <= day"},
    # whose files to skip is decided by the day; bounds of all columns would be a fifth of the time to write them
    {"delta.dataSkippingNumIndexedCols": "9"},
)


def customers(days: DataFrame, known: DataFrame, day: date, dormant_days: int) -> DataFrame:
    """features.customers of one day out of features.customer_days and clean.customers, both of any length."""
    seen = days.where((F.col("day") <= day) & (F.col("identified_on") <= day))
    as_of = F.lit(day)
    sums = [_sum(*wanted, day).alias(_name(*wanted)) for wanted in catalogue.sums()]
    acted = (F.col("events") > 0) | (F.col("orders") > 0)
    ordered = F.col("orders") > 0
    life = seen.groupBy("customer_id").agg(
        *sums,
        F.min("day").alias("first_seen_day"),
        F.max(F.when(acted, F.col("day"))).alias("last_seen_day"),
        F.min(F.when(ordered, F.col("day"))).alias("first_order_day"),
        F.max(F.when(ordered, F.col("day"))).alias("last_order_day"),
    )
    zeros = {_name(*wanted): F.coalesce(_name(*wanted), F.lit(0)) for wanted in catalogue.sums()}
    everyone = (
        _registered(known, day)
        .join(life, "customer_id", "full")
        .join(_variety(seen, day), "customer_id", "left")
        .withColumns(zeros)
        .withColumns({"products_bought": _zero("products_bought"), "categories_bought": _zero("categories_bought")})
        .withColumn("first_known_day", F.coalesce(F.least("registered_day", "first_seen_day"), as_of))
        .withColumn("day", as_of)
    )
    active = F.coalesce(F.col("last_seen_day") > F.date_sub(as_of, dormant_days), F.lit(False))
    features = {f.name: F.expr(f.expression).cast(f.sql_type) for f in catalogue.FEATURES}
    with_features = everyone.withColumns({**features, "is_active": active})
    vector = F.array(*(F.col(name).cast("float") for name in catalogue.VECTOR))
    return with_features.withColumn("vector", vector).select(*TABLE.columns)


def _sum(partial: str, near: int | None, far: int | None, day: date):
    if far is None:
        return F.sum(partial)
    within = (F.col("day") > day - timedelta(days=far)) & (F.col("day") <= day - timedelta(days=near))
    return F.sum(F.when(within, F.col(partial)))


def _name(partial: str, near: int | None, far: int | None) -> str:
    return f"{partial}__life" if far is None else f"{partial}__{near}_{far}" if near else f"{partial}__{far}"


def _zero(name: str):
    return F.coalesce(name, F.lit(0))


def _registered(known: DataFrame, day: date) -> DataFrame:
    """Customers with a record by the day: their newest country, and since when they are known."""
    registered = F.least(F.to_date("registered_at"), F.when(F.col("day") > F.lit("1970-01-01").cast("date"), F.col("day")))
    return (
        known.where(F.col("day") <= day)
        .groupBy("customer_id")
        .agg(F.max_by("country", "day").alias("country"), F.min(registered).alias("registered_day"))
        .where(F.coalesce(F.col("registered_day") <= day, F.lit(True)))
    )


def _variety(seen: DataFrame, day: date) -> DataFrame:
    """Exact distinct counts and the largest category of the last 365 days."""
    recent = seen.where((F.col("day") > day - timedelta(days=365)) & F.col("bought").isNotNull())
    bought = recent.select("customer_id", F.explode("bought").alias("b")).select("customer_id", "b.*")
    by_category = bought.groupBy("customer_id", "category").agg(
        F.sum("amount").alias("amount"), F.collect_set("product_id").alias("products")
    )
    return by_category.groupBy("customer_id").agg(
        F.size(F.array_distinct(F.flatten(F.collect_list("products")))).alias("products_bought"),
        F.count("category").alias("categories_bought"),
        F.max(F.when(F.col("category").isNotNull(), F.col("amount"))).alias("top_category_amount"),
        F.sum("amount").alias("bought_amount"),
    )


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Write the customers as of `day`; raises UserError where none is known."""
    frame = customers(lake.read(customer_days.TABLE), lake.read("clean.customers"), day, settings.features.dormant_days)
    rows = lake.replace_days(TABLE, frame, [day])
    if not rows:
        raise UserError(f"features: no customer is known on {day}; check the mapping's customer_id")
    lake.set_property(TABLE, "shoal.vector", json.dumps(catalogue.VECTOR))
