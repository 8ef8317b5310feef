"""clean.products: one row per product and day on which its attributes became known or changed.

The attributes as known at a day are the newest row up to it. A missing price stays missing, unless the policy of
clean.products.price asks for another treatment; `price_rule` then says which price is not the shop's own.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.clean import _rows, _versions
from jobs.storage.table import Table

SCHEMA = """
    product_id STRING NOT NULL COMMENT 'product',
    day DATE NOT NULL COMMENT 'day from which this is known; 1970-01-01 where the source states none',
    name STRING COMMENT 'name',
    brand STRING COMMENT 'brand',
    category STRING COMMENT 'category',
    price DECIMAL(18,4) COMMENT 'list price, in the currency beside it; null unless above 0',
    currency STRING COMMENT 'currency of the price',
    price_rule STRING COMMENT 'listed; interpolated or modelled where the policy asks for it; null without a price'"""
TABLE = Table("clean.products", __doc__.split("\n\n")[0], SCHEMA, None, {"price_positive": "price IS NULL OR price > 0"})
VALUES = ["name", "brand", "category", "price", "currency"]


def classify_products(raw: DataFrame, currency: str, missing_price: str = "null") -> DataFrame:
    """Return every bronze product, typed, with its `outcome` and `rules`; `missing_price` is a method of the policy."""
    price = _rows.number("price")
    typed = raw.select(
        "_extra", "_file", "_row", "day",
        _rows.text("product_id").alias("product_id"),
        _rows.text("name").alias("name"),
        _rows.text("brand").alias("brand"),
        _rows.text("category").alias("category"),
        F.when(price > 0, price).alias("price"),
        F.coalesce(F.upper(_rows.text("currency")), F.lit(currency)).alias("currency"),
    ).withColumn("price_rule", F.when(F.col("price").isNotNull(), "listed"))  # fmt: skip
    filled = {"interpolate": _interpolated, "model": _modelled}.get(missing_price, lambda unchanged: unchanged)(typed)
    rules = {"no_product": F.col("product_id").isNull()}
    if missing_price == "drop":
        rules["no_list_price"] = F.col("price").isNull()
    return _versions.versions(filled.withColumn("rules", _rows.broken_rules(rules)), "product_id", VALUES)


def product_validity(products: DataFrame) -> DataFrame:
    """Return what an order takes from a product, and when it is valid: key, since, until (exclusive), value."""
    value = F.struct("category", "price", "currency").alias("value")
    named = {"product_id": "key", "valid_from": "since", "valid_to": "until"}
    intervals = _versions.intervals(products, "product_id").withColumnsRenamed(named)
    return intervals.select("key", "since", "until", value)


def _interpolated(typed: DataFrame) -> DataFrame:
    """A missing price on the line between the product's prices before and after it; missing without either."""
    in_order = Window.partitionBy("product_id", "currency").orderBy("day", "_file", "_row")
    known = F.when(F.col("price").isNotNull(), F.struct("day", "price"))
    before = F.last(known, ignorenulls=True).over(in_order)
    after = F.first(known, ignorenulls=True).over(in_order.rowsBetween(0, Window.unboundedFollowing))
    share = F.datediff("day", before.day) / F.nullif(F.datediff(after.day, before.day), F.lit(0))
    return _filled(typed, before.price + (after.price - before.price) * share, "interpolated")


def _modelled(typed: DataFrame) -> DataFrame:
    """A missing price by a linear regression of the logarithm of the known ones on brand, category and currency."""
    # imported where it is asked for: it takes half a second, and most shops do not ask
    from pyspark.ml import Pipeline
    from pyspark.ml.feature import OneHotEncoder, StringIndexer, VectorAssembler
    from pyspark.ml.regression import LinearRegression

    from jobs.engine.fitted_models import hold_model

    by = ("brand", "category", "currency")
    named = typed.withColumns({f"_{name}": F.coalesce(name, F.lit("none")) for name in by} | {"_log": F.log("price")})
    known = named.where(F.col("_log").isNotNull() & F.col("product_id").isNotNull())
    if known.isEmpty():
        return typed
    indexed, one_hot = [f"_{name}_index" for name in by], [f"_{name}_one_hot" for name in by]
    stages = [
        StringIndexer(inputCols=[f"_{name}" for name in by], outputCols=indexed, handleInvalid="keep"),
        OneHotEncoder(inputCols=indexed, outputCols=one_hot),
        VectorAssembler(inputCols=one_hot, outputCol="_features"),
        LinearRegression(featuresCol="_features", labelCol="_log", predictionCol="_predicted", regParam=0.01),
    ]
    model = Pipeline(stages=stages).fit(known)
    hold_model(model)  # what it predicts is read when the table is written
    predicted = model.transform(named)
    return _filled(predicted, F.exp("_predicted"), "modelled").select(*typed.columns)


def _filled(typed: DataFrame, price: Column, rule: str) -> DataFrame:
    """`price` where none is listed, said by `rule`; a price that rounds to none stays missing."""
    found = typed.withColumn("_price", price).withColumn("_price", F.expr("try_cast(_price AS DECIMAL(18,4))"))
    missing = F.col("price").isNull() & (F.col("_price") > 0)
    return found.withColumns(
        {
            "price_rule": F.when(missing, rule).otherwise(F.col("price_rule")),
            "price": F.when(missing, F.col("_price")).otherwise(F.col("price")),
        }
    ).drop("_price")
