"""Rows of bronze.orders in their types, priced, and with the rules that they break."""

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from jobs import business_day, parsing
from jobs.bronze import orders as bronze_orders
from jobs.clean import _ids, _money, _rows, returns
from jobs.clean._return_matching import UNKNOWN_PRODUCT

# What a line is and what happened are two columns of a mapping; a vendor may have one for both, so their words may
# stand in either. These are refused by the rule of that name.
LINE_KINDS = ("product", "postage", "fee", "tax", "discount")
_NO_SALE = {
    "gift_card": "gift_card",
    "test": "test_order",
    "void": "void",
    "bad_debt": "bad_debt",
    "adjustment": "adjustment",
}
# In an older lake original_order_id has its old name, undoes_order_id.
BRONZE = replace(bronze_orders.TABLE, schema=f"{bronze_orders.TABLE.schema},\n undoes_order_id STRING")
_IDS = ["order_id", "customer_id", "product_id", "original_order_id"]
_TEXTS = ["shop", "line_id", "email_key", "product_name", "category", "currency", "kind", "line_kind"]
_MONEY = pl.Decimal(18, 4)


@dataclass(frozen=True)
class Limits:
    """What an order may be: `most_amount` of a line, home currency, and its first possible day.

    A row without a quantity is one piece where the source has no quantities (`has_quantity`), or where it has an amount.
    Days are those of `time_zone`.
    """

    most_amount: Decimal = Decimal(1_000_000_000)
    first_day: date = date(1990, 1, 1)
    has_quantity: bool = True
    time_zone: str = business_day.UTC


def find_orders(raw: pa.Table, null_words: _ids.NullWords) -> pa.Array:
    """Return the order of each row of bronze.orders: the key of classify_orders."""
    return _ids.clean_ids(raw, ["order_id"], null_words)[0]["order_id"].to_arrow()


def find_product_lookups(raw: pa.Table, null_words: _ids.NullWords) -> pl.DataFrame:
    """Return the rows (key, day) of bronze.orders that look up clean.products."""
    ids, _ = _ids.clean_ids(raw, ["product_id"], null_words)
    texts = ids.hstack(parsing.clean_texts(raw, ["unit_price", "category"])).with_columns(_rows.take_column(raw, "day"))
    lacks = texts.filter(pl.col("unit_price").is_null() | pl.col("category").is_null())
    return lacks.select("day", key="product_id").drop_nulls().unique()


def type_rows(
    raw: pa.Table, products: pl.DataFrame, rates: pl.DataFrame, currency: str, limits: Limits, null_words: _ids.NullWords
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows of bronze.orders in their types, priced in the home currency, with the rules that they break.

    `position` is the number of the row. Beside it what was noted of ids (_ids.clean_ids).
    """
    lines, noted = _type_lines(raw, currency, limits, null_words)
    typed = _name_kinds(_count_pieces(lines, limits))
    priced = _add_product(typed, products, currency)
    rated = _money.add_amounts(_money.add_rate(priced, rates, currency), limits.most_amount)
    return rated.with_columns(_rows.find_broken_rules(raw, rated, _list_rules(limits))), noted


def rename_original(raw: pa.Table) -> pa.Table:
    """Return the rows with the order that a return undoes in original_order_id alone."""
    names = pc.coalesce(raw["original_order_id"], raw["undoes_order_id"])
    renamed = raw.set_column(raw.column_names.index("original_order_id"), "original_order_id", names)
    return renamed.drop_columns(["undoes_order_id"])


def _type_lines(raw: pa.Table, currency: str, limits: Limits, null_words: _ids.NullWords) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the columns of each row in their types; and what was noted of ids."""
    ids, noted = _ids.clean_ids(raw, _IDS, null_words)
    texts = ids.rename({"original_order_id": "undoes_order_id"}).hstack(parsing.clean_texts(raw, _TEXTS))
    times = [parsing.parse_time(_rows.take_column(raw, name)).alias(name) for name in ("ordered_at", "updated_at")]
    number = parsing.parse_integer(_rows.take_column(raw, "line_no"))
    sent_number = parsing.clean_text(raw["line_no"])
    origin = [_rows.take_column(raw, name) for name in ("_delivery", "_left_out", "_file_day")]
    lines = texts.hstack([number, *times, *_money.parse_amounts(raw), *_rows.take_origin(raw), *origin]).with_columns(
        pl.col("_delivery").fill_null("changes"),
        pl.col("_left_out").fill_null(False),
        has_scientific_id=_ids.is_scientific(noted),
        line_no=pl.when(pl.col("line_no") >= 0).then("line_no"),  # numbers below 0 are of the lines that we make
        line_id=pl.coalesce("line_id", pl.when(number.is_null()).then(sent_number)),
        currency=pl.col("currency").str.to_uppercase().fill_null(currency),
        kind=pl.col("kind").str.to_lowercase().fill_null("sale"),
        line_kind=pl.col("line_kind").str.to_lowercase(),
        ordered_on=business_day.to_day(pl.col("ordered_at"), limits.time_zone),
        updated_on=business_day.to_day(pl.col("updated_at"), limits.time_zone),
    )
    return lines, noted


def _count_pieces(typed: pl.DataFrame, limits: Limits) -> pl.DataFrame:
    """Give one piece to rows without a quantity, where the source has none or the row has an amount."""
    is_one_piece = ~pl.col("is_counted") & (pl.col("has_amount") | (not limits.has_quantity))
    return typed.with_columns(quantity=pl.when(is_one_piece).then(pl.lit(1).cast(_MONEY)).otherwise("quantity"))


def _name_kinds(typed: pl.DataFrame) -> pl.DataFrame:
    """`kind` says what happened, `line_kind` what the line is, wherever the mapping said it.

    A sale with a quantity, a price or an amount below 0 is a return. A product without an id is a product of its name.
    """
    says_what = pl.col("kind").is_in(LINE_KINDS)
    what = pl.coalesce("line_kind", pl.when(says_what).then("kind"), pl.lit("product"))
    kind = pl.when(says_what).then(pl.lit("sale")).otherwise("kind")
    is_negative = pl.any_horizontal((pl.col(c) < 0).fill_null(False) for c in ("quantity", "exact_price", "line_amount"))
    gives_back = (kind == "sale") & what.is_in(LINE_KINDS) & (what != "discount") & is_negative
    name = pl.when(what.is_in(LINE_KINDS) & (what != "product")).then(what).otherwise(
        pl.coalesce("product_name", pl.lit(UNKNOWN_PRODUCT))
    )  # fmt: skip
    return typed.with_columns(
        product_id=pl.coalesce("product_id", name),
        line_kind=what,
        is_negative=is_negative,
        kind=pl.when(gives_back).then(pl.lit("return")).otherwise(kind),
    )


def _add_product(typed: pl.DataFrame, products: pl.DataFrame, currency: str) -> pl.DataFrame:
    """Fill price and category from the product as known on the day."""
    listed = products.rename(
        {"key": "product_id", "category": "listed_category", "price": "list_price", "currency": "list_currency"}
    )
    is_valid = (pl.col("day") >= pl.col("since")) & (pl.col("until").is_null() | (pl.col("day") < pl.col("until")))
    lacks = typed.filter(pl.col("category").is_null() | ~pl.col("is_priced")).select("product_id", "day").unique()
    held = lacks.join(listed, "product_id", "inner").filter(is_valid).drop("since", "until")
    from_list = ~pl.col("is_priced") & pl.col("list_price").is_not_null()
    list_currency = pl.col("list_currency").fill_null(currency)
    return typed.join(held, ["product_id", "day"], "left", maintain_order="left").with_columns(
        category=pl.when(pl.col("line_kind") == "product").then(pl.coalesce("category", "listed_category")),
        price_source=pl.when(from_list).then(pl.lit("list")).otherwise(pl.lit("line")),
        currency=pl.when(from_list).then(list_currency).otherwise("currency"),
        unit_price=pl.when(from_list).then("list_price").otherwise("unit_price"),
        exact_price=pl.when(from_list).then(pl.col("list_price").cast(pl.Decimal(22, 8))).otherwise("exact_price"),
    )


def _list_rules(limits: Limits) -> dict[str, pl.Expr]:
    """Return the rules by which a line is refused, in the order in which they decide."""
    kind, line_kind, quantity = (pl.col(name) for name in ("kind", "line_kind", "quantity"))
    has_price = pl.col("exact_price").is_not_null() | pl.col("line_amount").is_not_null()
    return {
        "left_out": pl.col("_left_out"),
        "no_time": pl.col("ordered_at").is_null(),
        "scientific_id": pl.col("has_scientific_id"),
        "implausible_day": pl.col("ordered_on") < limits.first_day,
        "future": pl.col("ordered_on") > pl.col("day"),
        "no_order_id": pl.col("order_id").is_null(),
        **{rule: (kind == word) | (line_kind == word) for word, rule in _NO_SALE.items()},
        "unknown_kind": ~kind.is_in(["sale", *returns.UNDOING, *_NO_SALE]) | ~line_kind.is_in([*LINE_KINDS, *_NO_SALE]),
        "bad_quantity": quantity.is_null() | (quantity == 0),
        "bad_price": pl.col("is_priced") & ~has_price,
        "bad_amount": pl.col("has_bad_amount"),
        "no_price": ~pl.col("is_priced") & ~has_price,
        "missing_rate": pl.col("rate").is_null(),
        "bad_discount": pl.col("is_bad_discount"),
        "implausible_amount": pl.col("is_implausible"),
    }  # fmt: skip
