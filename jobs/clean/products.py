"""clean.products: one row per product and day on which its attributes became known or changed.

The attributes as known at a day are the newest row up to it.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.clean import _rows, _versions
from jobs.lake import Table
from jobs.source import COLUMNS

SCHEMA = """
    product_id STRING NOT NULL COMMENT 'product',
    day DATE NOT NULL COMMENT 'day from which this is known; 1970-01-01 where the source states none',
    name STRING COMMENT 'name',
    brand STRING COMMENT 'brand',
    category STRING COMMENT 'category',
    price DECIMAL(18,4) COMMENT 'list price, in the currency beside it; null unless above 0',
    currency STRING COMMENT 'currency of the price'"""
TABLE = Table("clean.products", __doc__.split("\n\n")[0], SCHEMA, None, {"price_positive": "price IS NULL OR price > 0"})
REJECTS = _rows.rejects_table("products", COLUMNS["products"])
VALUES = ["name", "brand", "category", "price", "currency"]


def judged(raw: DataFrame, currency: str) -> DataFrame:
    """Every bronze product, typed, with `outcome` and `rules`."""
    price = _rows.number("price")
    typed = raw.select(
        "_extra", "_file", "_row", "day",
        _rows.text("product_id").alias("product_id"),
        _rows.text("name").alias("name"),
        _rows.text("brand").alias("brand"),
        _rows.text("category").alias("category"),
        F.when(price > 0, price).alias("price"),
        F.coalesce(F.upper(_rows.text("currency")), F.lit(currency)).alias("currency"),
    )  # fmt: skip
    rules = {"no_product": F.col("product_id").isNull()}
    return _versions.versions(typed.withColumn("rules", _rows.broken_rules(rules)), "product_id", VALUES)


def known(products: DataFrame) -> DataFrame:
    """What an order takes from a product and when it holds: key, since, until, value."""
    value = F.struct("category", "price", "currency").alias("value")
    named = {"product_id": "key", "valid_from": "since", "valid_to": "until"}
    intervals = _versions.intervals(products, "product_id").withColumnsRenamed(named)
    return intervals.select("key", "since", "until", value)
