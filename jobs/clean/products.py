"""clean.products: one row per product and day on which its attributes became known or changed.

The attributes as known at a day are the newest row up to it. A missing price stays missing, unless the policy of
clean.products.price asks for another treatment; `price_rule` then says which price is not the shop's own.
"""

import polars as pl
import pyarrow as pa

from jobs import parsing
from jobs.clean import _ids, _rows, _versions
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
_LOOKED_UP = ["category", "price", "currency"]


def classify_products(
    raw: pa.Table, currency: str, missing_price: str = "null", null_words: _ids.NullWords = _ids.NO_WORDS
) -> pl.DataFrame:
    """Return every bronze product, typed, with its `position`, `outcome` and `rules`; `missing_price` is a method of the policy.

    About 2 µs of CPU a row.
    """
    ids, noted = _ids.clean_ids(raw, ["product_id"], null_words)
    texts = ids.hstack(parsing.clean_texts(raw, ["name", "brand", "category", "currency"]))
    price = parsing.parse_number(_rows.take_column(raw, "price")).alias("price")
    typed = texts.hstack([price, *_rows.take_origin(raw)]).with_columns(
        price=pl.when(pl.col("price") > 0).then("price"),
        currency=pl.col("currency").str.to_uppercase().fill_null(currency),
        price_rule=pl.when(pl.col("price") > 0).then(pl.lit("listed")),
    )
    filled = {"interpolate": _interpolate_prices, "model": _model_prices}.get(missing_price, lambda unchanged: unchanged)(typed)
    rules = {"no_product": pl.col("product_id").is_null(), "scientific_id": _ids.is_scientific(noted)}
    if missing_price == "drop":
        rules["no_list_price"] = pl.col("price").is_null()
    return _versions.classify_versions(filled.with_columns(_rows.find_broken_rules(raw, filled, rules)), "product_id", VALUES)


def build_products(raw: pa.Table, outcomes: pl.DataFrame) -> pa.Table:
    """Return clean.products out of the rows of classify_products that are kept, sorted by product and day."""
    return outcomes.filter(pl.col("outcome") == "kept").sort("product_id", "day").select(TABLE.columns).to_arrow()


def find_product_validity(products: pa.Table) -> pl.DataFrame:
    """Return what an order takes from a product, and when: key, since, until (exclusive), category, price, currency."""
    versions = _rows.to_frame(products.select(["product_id", "day", *_LOOKED_UP]))
    return _versions.find_validity(versions, "product_id", _LOOKED_UP)


def _interpolate_prices(typed: pl.DataFrame) -> pl.DataFrame:
    """A missing price on the line between the product's prices before and after it; missing without either."""
    day, price = pl.when(pl.col("price").is_not_null()).then(pl.col("day").cast(pl.Int32)), pl.col("price")
    in_order = {"partition_by": ["product_id", "currency"], "order_by": ["day", "_file", "_row"]}
    placed = typed.select(
        "position",
        day_of_row=pl.col("day").cast(pl.Int32),
        day=day.forward_fill().over(**in_order),
        next_day=day.backward_fill().over(**in_order),
        price=price.forward_fill().over(**in_order),
        next_price=price.backward_fill().over(**in_order),
    ).sort("position")
    gap = pl.col("next_day") - pl.col("day")
    share = pl.when(gap != 0).then((pl.col("day_of_row") - pl.col("day")) / gap)
    rise = (pl.col("next_price") - pl.col("price")).cast(pl.Float64)
    prices = placed.select(pl.col("price").cast(pl.Float64) + rise * share).to_series()
    return _fill_prices(typed, prices, "interpolated")


def _model_prices(typed: pl.DataFrame) -> pl.DataFrame:
    """A missing price by a ridge regression of the logarithm of the known ones on brand, category and currency."""
    from jobs.clean._price_model import predict_prices  # here, because SciPy takes half a second, and most shops do not ask

    is_known = typed.select(pl.col("price").is_not_null() & pl.col("product_id").is_not_null()).to_series()
    if not is_known.any():
        return typed
    predictors = typed.select(pl.col(name).fill_null("none") for name in ("brand", "category", "currency"))
    prices = typed.filter(is_known)["price"].cast(pl.Float64)
    return _fill_prices(typed, predict_prices(predictors, is_known, prices), "modelled")


def _fill_prices(typed: pl.DataFrame, prices: pl.Series, rule: str) -> pl.DataFrame:
    """These prices where none is listed, said by `rule`; a price that rounds to none stays missing."""
    filled = parsing.parse_number(prices.cast(pl.String)).alias("filled")
    is_missing = pl.col("price").is_null() & (pl.col("filled") > 0)
    return typed.with_columns(filled).with_columns(
        price_rule=pl.when(is_missing).then(pl.lit(rule)).otherwise("price_rule"),
        price=pl.when(is_missing).then("filled").otherwise("price"),
    ).drop("filled")  # fmt: skip
