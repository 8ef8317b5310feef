"""clean.orders: one row per order line, and one per return that is matched to no known line.

Inputs: bronze.orders, clean.products (a line without a price takes the list price of its day), clean.customers (a guest
is the customer with the same e-mail, if just one has it), bronze.rates. Rules that may be debated:
- The same order and line again is a newer version, and the latest is kept. Without line numbers an equal row is a copy.
- Gift cards, test orders, voids, bad debts and bookkeeping adjustments are no sales. Foreign money without a rate is
  refused.
- Postage, fees and tax are money of the customer's, but no products: they have no category, and may have no product id.
- The amount of a line decides over quantity times price. A product line without a product id is a product of its name.
- A sale with a quantity, price or amount below 0 is a return of that product: a till has such lines.
- Discounts, postage and tax of a whole order are spread over its lines, or made lines of: _order_money has the rules.
- A discount line only reduces the order, whatever its sign: it has a discount_amount and no gross, and no return is
  matched to it.
- A return reduces the line that it is matched to, on whatever day it comes. clean.returns has the matches.
"""

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from jobs import parsing
from jobs.bronze import orders as bronze_orders
from jobs.clean import _ids, _money, _order_money, _people, _rows, customers, orders_rejects, returns
from jobs.clean._return_matching import UNKNOWN_PRODUCT
from jobs.storage.table import Table

SCHEMA = """
    order_id STRING NOT NULL COMMENT 'order; the credit note for a return without a known line',
    line_no INT NOT NULL COMMENT 'line in the order, counted by us where the source has none; below 0: postage, tax of the order',
    day DATE NOT NULL COMMENT 'day of the order, UTC',
    ordered_at TIMESTAMP NOT NULL COMMENT 'when, UTC',
    customer_id STRING COMMENT 'customer; null for an unknown guest',
    product_id STRING NOT NULL COMMENT 'product; its name where it has no code, what the line is where it is none',
    line_kind STRING NOT NULL COMMENT 'product, postage, fee, tax or discount',
    category STRING COMMENT 'category of the product',
    quantity DECIMAL(18,4) NOT NULL COMMENT 'pieces ordered; 0 for a return without a known line',
    unit_price DECIMAL(18,4) NOT NULL COMMENT 'price of one, in the currency beside it',
    currency STRING NOT NULL COMMENT 'currency of unit_price; all amounts are in the home currency',
    gross_amount DECIMAL(18,4) NOT NULL COMMENT 'amount of the line, else quantity times price, home currency; 0 on a discount',
    discount_amount DECIMAL(18,4) NOT NULL COMMENT 'taken off, home currency, with its share of a discount of the order',
    returned_quantity DECIMAL(18,4) NOT NULL COMMENT 'pieces given back so far',
    returned_amount DECIMAL(18,4) NOT NULL COMMENT 'money given back so far, home currency',
    returned_at TIMESTAMP COMMENT 'when last given back, UTC',
    net_amount DECIMAL(18,4) NOT NULL COMMENT 'gross less discount less returned, home currency',
    status STRING NOT NULL COMMENT 'placed, cancelled, returned or partly_returned',
    is_guest BOOLEAN NOT NULL COMMENT 'came without a customer id',
    price_source STRING NOT NULL COMMENT 'line: as sent; list: the list price of the product'"""
TABLE = Table(
    "clean.orders", __doc__.split("\n\n")[0], SCHEMA, "day",
    {
        "adds_up": "net_amount = gross_amount - discount_amount - returned_amount",
        "status_known": "status IN ('placed', 'cancelled', 'returned', 'partly_returned')",
        "line_kind_known": "line_kind IN ('product', 'postage', 'fee', 'tax', 'discount')",
    },
)  # fmt: skip
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
_TEXTS = ["email_key", "product_name", "category", "currency", "kind", "line_kind"]
_MONEY = pl.Decimal(18, 4)
_ZERO = pl.lit("0").cast(_MONEY)


@dataclass(frozen=True)
class Limits:
    """What an order may be: `most_amount` of a line, home currency, and its first possible day.

    A row without a quantity is one piece where the source has no quantities (`has_quantity`), or where it has an amount.
    """

    most_amount: Decimal = Decimal(1_000_000_000)
    first_day: date = date(1990, 1, 1)
    has_quantity: bool = True


def find_orders(raw: pa.Table, null_words: _ids.NullWords) -> pa.Array:
    """Return the order of each row of bronze.orders: the key of classify_orders."""
    return _ids.clean_ids(raw, ["order_id"], null_words)[0]["order_id"].to_arrow()


def find_product_lookups(raw: pa.Table, null_words: _ids.NullWords) -> pl.DataFrame:
    """Return the rows (key, day) of bronze.orders that look up clean.products."""
    ids, _ = _ids.clean_ids(raw, ["product_id"], null_words)
    texts = ids.hstack(parsing.clean_texts(raw, ["unit_price", "category"])).with_columns(_rows.take_column(raw, "day"))
    lacks = texts.filter(pl.col("unit_price").is_null() | pl.col("category").is_null())
    return lacks.select("day", key="product_id").drop_nulls().unique()


def classify_orders(
    tables: dict[str, pa.Table],
    products: pl.DataFrame,
    people: _people.People,
    rates: pl.DataFrame,
    currency: str,
    limits: Limits,
    null_words: _ids.NullWords = _ids.NO_WORDS,
) -> dict[str, pa.Table]:
    """Type the rows of bronze.orders, refuse those that break a rule, and keep one of equal lines and of versions of a line.

    Key: order. Input: `raw`, with the columns of BRONZE. `products` (products.find_product_validity), `people` and
    `rates` (_money.list_rates) are whole. Outputs: `lines`, the order lines, as clean.orders
    without returns; `returned`, the return lines, with the columns returns.LINE; `rejects`, as received, for
    clean.orders_rejects; `measures` (_money.measure_rows) and `customers` (day, customer_id) of all rows. Sorted by order and
    line, rejects as the input. About 4 µs of CPU a row.
    """
    raw = _rename_original(tables["raw"])
    lines, noted = _type_lines(raw, currency, null_words)
    typed = _name_kinds(_count_pieces(lines, limits))
    priced = _add_product(typed, products, currency)
    named = customers.add_known_customer(priced, people.mails, people.shared)
    named = named.with_columns(is_guest=pl.col("customer_id").is_null(), customer_id="known_customer_id")
    rated = _money.add_amounts(_money.add_rate(named, rates, currency), limits.most_amount)
    ruled = rated.with_columns(_rows.find_broken_rules(raw, rated, _list_rules(limits)))
    outcomes = _find_outcomes(ruled, raw)
    settled = _order_money.settle_orders(_number_lines(outcomes), outcomes, currency)
    lines, returned = _split_lines_and_returns(settled.rows)
    outputs = {
        "lines": lines,
        "returned": returned,
        "measures": pl.concat([_money.measure_rows(outcomes), settled.measures, _ids.measure_corrections(raw, noted)]),
        "customers": outcomes.select("day", "customer_id").drop_nulls().unique(),
    }
    rejects = _rows.select_rejects(raw, outcomes, orders_rejects.TABLE)
    return {name: rows.to_arrow() for name, rows in outputs.items()} | {"rejects": rejects}


def _rename_original(raw: pa.Table) -> pa.Table:
    """Return the rows with the order that a return undoes in original_order_id alone."""
    names = pc.coalesce(raw["original_order_id"], raw["undoes_order_id"])
    renamed = raw.set_column(raw.column_names.index("original_order_id"), "original_order_id", names)
    return renamed.drop_columns(["undoes_order_id"])


def _type_lines(raw: pa.Table, currency: str, null_words: _ids.NullWords) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the columns of each row in their types, `position` being its number; and what was noted of ids."""
    ids, noted = _ids.clean_ids(raw, _IDS, null_words)
    texts = ids.rename({"original_order_id": "undoes_order_id"}).hstack(parsing.clean_texts(raw, _TEXTS))
    times = [parsing.parse_time(_rows.take_column(raw, name)).alias(name) for name in ("ordered_at", "updated_at")]
    line_no = parsing.parse_integer(_rows.take_column(raw, "line_no"))
    lines = texts.hstack([line_no, *times, *_money.parse_amounts(raw), *_rows.take_origin(raw)]).with_columns(
        has_scientific_id=_ids.is_scientific(noted),
        line_no=pl.when(pl.col("line_no") >= 0).then("line_no"),  # numbers below 0 are of the lines that we make
        currency=pl.col("currency").str.to_uppercase().fill_null(currency),
        kind=pl.col("kind").str.to_lowercase().fill_null("sale"),
        line_kind=pl.col("line_kind").str.to_lowercase(),
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
        "no_time": pl.col("ordered_at").is_null(),
        "scientific_id": pl.col("has_scientific_id"),
        "implausible_day": _rows.is_before(pl.col("ordered_at"), limits.first_day),
        "future": pl.col("ordered_at").dt.date() > pl.col("day"),
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


# What makes two lines of an order equal, beside what the mapping does not name.
_CONTENT = [
    "ordered_at", "customer_id", "email_key", "product_id", "product_name", "quantity", "exact_price", "line_amount", "discount",
    "order_discount", "order_shipping", "order_tax", "currency", "kind", "line_kind", "undoes_order_id", "version",
]  # fmt: skip
_SAME_LINE = ["order_id", "day", "line_no", "is_refused"]


def _find_outcomes(ruled: pl.DataFrame, raw: pa.Table) -> pl.DataFrame:
    """Add outcome and rules: of equal lines one is kept (`exact`), of a numbered line its latest version (`superseded`)."""
    is_numbered = pl.col("line_no").is_not_null()
    rows = ruled.with_columns(is_refused=pl.col("rules").list.len() > 0, version=pl.when(is_numbered).then("updated_at"))
    rows = rows.with_columns(is_latest=pl.col("position").is_in(_find_latest_versions(rows).implode()))
    rows = rows.with_columns(is_first=_find_first_of_equal(rows, raw))
    is_kept = pl.when(is_numbered).then("is_latest").otherwise("is_first")
    return rows.with_columns(
        outcome=pl.when(pl.col("is_refused") & (is_numbered | is_kept)).then(pl.lit("reject"))
        .when(is_kept).then(pl.lit("kept")).otherwise(pl.lit("duplicate")),
        repeated=pl.when("is_first").then(pl.lit("superseded")).otherwise(pl.lit("exact")),
    ).with_columns(
        rules=pl.when(pl.col("outcome") == "duplicate").then(pl.concat_list("repeated")).otherwise("rules")
    )  # fmt: skip


def _find_latest_versions(rows: pl.DataFrame) -> pl.Series:
    """Return the positions of numbered lines that are the latest version of their line."""
    newest_first = ["updated_at", "_file", "_row"]
    numbered = rows.filter(pl.col("line_no").is_not_null()).sort(newest_first, descending=True, nulls_last=True)
    return numbered.unique(_SAME_LINE, keep="first", maintain_order=True)["position"]


def _find_first_of_equal(rows: pl.DataFrame, raw: pa.Table) -> pl.Series:
    """Return whether each row is the first of the lines equal to it: the latest version, else the first in the files."""
    columns = [name for name in (*_SAME_LINE, *_CONTENT) if rows[name].null_count() < len(rows)]
    alike = rows.filter(rows.select(columns).is_duplicated())
    others = _rows.encode_extra(raw["_extra"].take(alike["position"].to_arrow())).alias("others")
    in_order = alike.with_columns(others).sort(pl.col("is_latest").not_(), "_file", "_row")
    firsts = in_order.unique([*columns, "others"], keep="first", maintain_order=True)["position"]
    is_repeated = pl.col("position").is_in(alike["position"].implode()) & ~pl.col("position").is_in(firsts.implode())
    return rows.select(~is_repeated).to_series()


# The columns of a kept row that lines and returns are made of.
_OF_LINES = [
    "order_id", "line_no", "day", "ordered_at", "customer_id", "product_id", "line_kind", "category", "kind", "quantity",
    "is_counted", "unit_price", "currency", "gross", "discount", "is_guest", "price_source", "undoes_order_id", "_file", "_row",
]  # fmt: skip


def _number_lines(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Return the kept rows; a line without a number gets its place in the order of the day."""
    place = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("order_id", "day")
    kept = outcomes.lazy().filter(pl.col("outcome") == "kept").select(_OF_LINES).collect()
    in_order = kept.sort("order_id", "day", "_file", "_row")
    return in_order.with_columns(line_no=pl.coalesce("line_no", place), quantity=pl.col("quantity").abs())


def _split_lines_and_returns(kept: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return rows as (order lines, return lines). A return of an unknown number of pieces has the quantity 0."""
    is_return = pl.col("kind").is_in(returns.UNDOING) & (pl.col("line_kind") != "discount")
    lines = kept.filter(~is_return).rename({"gross": "gross_amount", "discount": "discount_amount"})
    amount = (pl.col("gross") - pl.col("discount")).cast(_MONEY)
    keys = (returns.order_key(), returns.price_key())
    pieces = pl.when("is_counted").then("quantity").otherwise(_ZERO)
    returned = kept.filter(is_return).with_columns(*keys, at="ordered_at", amount=amount, quantity=pieces)
    return lines.select(_UNRETURNED), returned.select(returns.LINE)


_RETURNED = ("returned_quantity", "returned_amount", "returned_at", "net_amount", "status")  # what a return changes
_UNRETURNED = [name for name in TABLE.columns if name not in _RETURNED]


def select_lines(tables: dict[str, pa.Table], keys: pl.Series) -> dict[str, pa.Table]:
    """Return the lines of classify_orders of which one of the keys of matching is one of these.

    Key: order. Input: `lines`. Output: `lines`, with the columns returns.LINE. About 0.2 µs of CPU a row.
    """
    lines = pl.DataFrame(pl.from_arrow(tables["lines"]))
    return {"lines": to_matchable(lines).filter(has_key(keys)).to_arrow()}


def has_key(keys: pl.Series) -> pl.Expr:
    """Return whether the order or the price of a row, as returns are matched by it, is one of these keys."""
    return pl.any_horizontal(pl.col(name).is_in(keys.implode()).fill_null(False) for name in ("order_key", "price_key"))


def to_matchable(lines: pl.DataFrame) -> pl.DataFrame:
    """Return order lines with the columns that matching needs."""
    undoes = pl.lit(None, pl.String).alias("undoes_order_id")  # a line is of its own order
    amount = (pl.col("gross_amount") - pl.col("discount_amount")).cast(_MONEY)
    entries = lines.with_columns(undoes, at="ordered_at", kind=pl.lit("sale"), amount=amount)
    return entries.with_columns(returns.order_key(), returns.price_key()).select(returns.LINE)


def build_orders(tables: dict[str, pa.Table], days: frozenset[date]) -> dict[str, pa.Table]:
    """Return clean.orders of these days.

    Key: order. Inputs: `lines` of classify_orders; `stored`, rows of clean.orders of other days; `returned`, all rows of
    clean.returns of these orders. Output: `orders`, sorted by day, order and line. About 1 µs of CPU a row.
    """
    lines, stored, returned = (pl.DataFrame(pl.from_arrow(tables[name])) for name in ("lines", "stored", "returned"))
    sold = pl.concat([lines.select(_UNRETURNED), stored.filter(pl.col("quantity") > 0).select(_UNRETURNED)])
    rows = pl.concat([add_returns(sold, returned), _list_unmatched(returned.filter(pl.col("day").is_in(days)))])
    return {"orders": rows.sort("day", "order_id", "line_no", maintain_order=True).to_arrow()}


def add_returns(lines: pl.DataFrame, returned: pl.DataFrame) -> pl.DataFrame:
    """Return order lines as rows of clean.orders, with what rows of clean.returns give back of them."""
    in_order = returned.drop_nulls("order_id").sort("returned_at", "return_order_id", "return_line_no")
    totals = in_order.group_by("order_id", "line_no", day="order_day").agg(
        returned_quantity=pl.col("quantity").filter(pl.col("rule") != "by_amount").sum().cast(_MONEY),
        returned_amount=pl.col("amount").sum().cast(_MONEY),
        returned_at=pl.col("returned_at").max(),
        undone_by=pl.col("kind").last(),
    )
    joined = lines.join(totals, ["order_id", "line_no", "day"], "left", maintain_order="left")
    joined = joined.with_columns(pl.col("returned_quantity", "returned_amount").fill_null(_ZERO))
    is_all = (pl.col("returned_amount") > 0) & (pl.col("returned_amount") == pl.col("gross_amount") - pl.col("discount_amount"))
    pieces = pl.when(is_all).then("quantity").otherwise(pl.min_horizontal("returned_quantity", "quantity"))
    return _add_status(joined.with_columns(returned_quantity=pieces))


def _list_unmatched(returned: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of clean.orders that returns without a known line have."""
    alone = returned.filter(pl.col("order_id").is_null()).select(
        "day", "customer_id", "product_id", "line_kind", "category", "unit_price", "currency", "returned_at", "is_guest",
        order_id="return_order_id", line_no="return_line_no", ordered_at="returned_at", quantity=_ZERO, gross_amount=_ZERO,
        discount_amount=_ZERO, returned_quantity="quantity", returned_amount="amount", undone_by=pl.lit("return"),
        price_source=pl.lit("line"),
    )  # fmt: skip
    return _add_status(alone)


def _add_status(rows: pl.DataFrame) -> pl.DataFrame:
    net = pl.col("gross_amount") - pl.col("discount_amount") - pl.col("returned_amount")
    status = (
        pl.when(pl.col("undone_by").is_null()).then(pl.lit("placed"))
        .when(pl.col("returned_quantity") < pl.col("quantity")).then(pl.lit("partly_returned"))
        .when(pl.col("undone_by") == "cancellation").then(pl.lit("cancelled"))
        .otherwise(pl.lit("returned"))
    )  # fmt: skip
    return rows.with_columns(net_amount=net.cast(_MONEY), status=status).select(TABLE.columns)


def find_restated_days(stored: pl.DataFrame, matched: pl.DataFrame, due: list[date]) -> list[date]:
    """Return the days other than `due` on which stored rows of clean.orders become others by these rows of clean.returns.

    `stored` are the order lines of these days that the returns may be matched to, and the rows of the returns that were
    matched to no line.
    """
    lines = stored.filter(pl.col("quantity") > 0).select(_UNRETURNED)
    unmatched = _list_unmatched(matched.filter(~pl.col("day").is_in(due)))
    rows = [stored.select(TABLE.columns), pl.concat([add_returns(lines, matched), unmatched])]
    differing = [a.join(b, TABLE.columns, "anti", nulls_equal=True)["day"] for a, b in (rows, reversed(rows))]
    return sorted(pl.concat(differing).unique())
