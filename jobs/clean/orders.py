"""clean.orders: one row per order line and version of its order, and one per return that is matched to no known line.

Inputs: bronze.orders, clean.products (a line without a price takes the list price of its day), clean.customers (a guest
is the customer with the same e-mail, if just one has it), bronze.rates. Rules that may be debated:
- A version of an order holds from `known_from` until `known_until`; what holds now has known_until 9999-12-31. In deliveries
  of snapshots the newest version of an order replaces all of its earlier lines. In deliveries of changes a later version
  replaces its numbered line, and an equal row without a number is a copy (_order_versions).
- A return or cancellation with the number of its own sale undoes that sale.
- A guest's order belongs to the account that gets the guest's address later, from then on (_order_owners).
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

from datetime import date

import polars as pl
import pyarrow as pa

from jobs import business_day
from jobs.business_day import FOREVER
from jobs.clean import (
    _ids,
    _money,
    _order_lines,
    _order_money,
    _order_outcomes,
    _order_owners,
    _order_rows,
    _people,
    _rows,
    orders_rejects,
    returns,
)
from jobs.storage.table import Table

SCHEMA = """
    shop STRING COMMENT 'shop within which an order number is unique; null where the source has one',
    order_id STRING NOT NULL COMMENT 'order; the credit note for a return without a known line',
    line_no INT NOT NULL COMMENT 'line in the order, counted by us where the source has none; below 0: postage, tax of the order',
    line_id STRING COMMENT 'id of the line as received; null where the source has none',
    known_from DATE COMMENT 'day from which the order is known to be so: its own day, or that of a later version',
    known_until DATE COMMENT 'day from which it no longer is; 9999-12-31 for what holds now',
    day DATE NOT NULL COMMENT 'day of the order, in the business time zone',
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
    is_unmatched BOOLEAN COMMENT 'a return without a known line, on its own day',
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
        "known_later": "known_from >= day AND known_until > known_from",
    },
)  # fmt: skip
IS_CURRENT = pl.col("known_until") == pl.lit(FOREVER)
_MONEY = pl.Decimal(18, 4)
_ZERO = pl.lit("0").cast(_MONEY)


def classify_orders(
    tables: dict[str, pa.Table],
    products: pl.DataFrame,
    people: _people.People,
    rates: pl.DataFrame,
    currency: str,
    limits: _order_rows.Limits,
    null_words: _ids.NullWords = _ids.NO_WORDS,
) -> dict[str, pa.Table]:
    """Type the rows of bronze.orders, refuse those that break a rule, and say which stand from when until when.

    Key: order. Input: `raw`, with the columns of _order_rows.BRONZE. `products` (products.find_product_validity), `people` and
    `rates` (_money.list_rates) are whole. Outputs: `lines`, the order lines and their earlier versions, as clean.orders without
    returns; `returned`, the return lines, with the columns returns.LINE; `rejects`, as received, for clean.orders_rejects;
    `measures` (_money.measure_rows) and `customers` (day, customer_id) of all rows. Sorted by order and line, rejects as the
    input. About 4 µs of CPU a row.
    """
    raw = _order_rows.rename_original(tables["raw"])
    typed, noted = _order_rows.type_rows(raw, products, rates, currency, limits, null_words)
    ruled = _order_owners.mark_guests(typed, people.shared)
    outcomes, content = _order_outcomes.find_outcomes(ruled, raw)
    owners = _order_owners.find_owners(outcomes, people)
    standing = _list_standing(outcomes, content)
    parts = _split_sales_and_returns(standing, outcomes, content, owners, limits.time_zone)
    settled = _order_money.settle_orders(*parts, outcomes, currency)
    own_sales = standing.filter("is_own_sale")["position"].implode()
    counted = _order_owners.add_owner(outcomes, owners).with_columns(is_own_sale=pl.col("position").is_in(own_sales))
    outputs = {
        "lines": _to_lines(settled.sales),
        "returned": _to_returned(settled.returns, limits.time_zone),
        "measures": pl.concat([_money.measure_rows(counted), settled.measures, _ids.measure_corrections(raw, noted)]),
        "customers": counted.select("day", "customer_id").drop_nulls().unique(),
    }
    rejects = _rows.select_rejects(raw, outcomes, orders_rejects.TABLE)
    return {name: rows.to_arrow() for name, rows in outputs.items()} | {"rejects": rejects}


def _list_standing(outcomes: pl.DataFrame, content: list[str]) -> pl.DataFrame:
    """Return the rows that stand on some day, with line_no, is_return and is_own_sale."""
    standing = _order_lines.number_lines(_order_lines.select_standing(outcomes, content))
    standing = standing.with_columns(is_return=pl.col("is_undoing") & (pl.col("line_kind") != "discount"))
    return _order_lines.mark_own_sales(standing)


def _split_sales_and_returns(
    standing: pl.DataFrame, outcomes: pl.DataFrame, content: list[str], owners: pl.DataFrame, time_zone: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the standing rows as (sales with their versions, returns with `at`, when they happened).

    A sale that was given back as a whole is both. Earlier versions of it, and of returns, are left out.
    """
    is_now = pl.col("until") == pl.lit(FOREVER)
    sales = standing.filter(~pl.col("is_return") | (pl.col("is_own_sale") & is_now))
    returned = _order_owners.add_owner(standing.filter(pl.col("is_return") & is_now), owners)
    dated = _order_lines.date_returns(returned, sales.filter(is_now), outcomes, content, time_zone)
    return _order_owners.list_states(sales, owners), dated


def _to_lines(sales: pl.DataFrame) -> pl.DataFrame:
    """Return sales as rows of clean.orders without what a return changes."""
    named = sales.rename({"gross": "gross_amount", "discount": "discount_amount"})
    return named.with_columns(pl.col("quantity").abs(), is_unmatched=pl.lit(False)).select(_UNRETURNED)


def _to_returned(rows: pl.DataFrame, time_zone: str) -> pl.DataFrame:
    """Return returns with the columns returns.LINE. One of an unknown number of pieces has the quantity 0."""
    returned = rows.with_columns(
        quantity=pl.when("is_counted").then(pl.col("quantity").abs()).otherwise(_ZERO),
        amount=(pl.col("gross") - pl.col("discount")).cast(_MONEY), row_day="day",
        day=business_day.to_day(pl.col("at"), time_zone),
    )  # fmt: skip
    numbered = _order_lines.number_repeated_returns(returned)
    return numbered.with_columns(returns.order_key(), returns.price_key()).select(returns.LINE)


_RETURNED = ("returned_quantity", "returned_amount", "returned_at", "net_amount", "status")  # what a return changes
_UNRETURNED = [name for name in TABLE.columns if name not in _RETURNED]


def fill_versions(stored: pl.DataFrame) -> pl.DataFrame:
    """Return stored rows of clean.orders with the version and the kind of row that rows of an older lake lack."""
    return stored.with_columns(
        pl.coalesce("known_from", "day"), pl.col("known_until").fill_null(FOREVER),
        pl.coalesce("is_unmatched", pl.col("quantity") == 0),
    )  # fmt: skip


def select_lines(tables: dict[str, pa.Table], keys: pl.Series) -> dict[str, pa.Table]:
    """Return the lines of classify_orders of which one of the keys of matching is one of these.

    Key: order. Input: `lines`. Output: `lines`, with the columns returns.LINE. About 0.2 µs of CPU a row.
    """
    lines = _rows.to_frame(tables["lines"])
    return {"lines": to_matchable(lines).filter(has_key(keys)).to_arrow()}


def has_key(keys: pl.Series) -> pl.Expr:
    """Return whether the order or the price of a row, as returns are matched by it, is one of these keys."""
    return pl.any_horizontal(pl.col(name).is_in(keys.implode()).fill_null(False) for name in ("order_key", "price_key"))


def to_matchable(lines: pl.DataFrame) -> pl.DataFrame:
    """Return the order lines of now with the columns that matching needs."""
    undoes = pl.lit(None, pl.String).alias("undoes_order_id")  # a line is of its own order
    amount = (pl.col("gross_amount") - pl.col("discount_amount")).cast(_MONEY)
    entries = lines.filter(IS_CURRENT).with_columns(
        undoes, at="ordered_at", kind=pl.lit("sale"), amount=amount, row_day="day", is_own_sale=pl.lit(False)
    )
    return entries.with_columns(returns.order_key(), returns.price_key()).select(returns.LINE)


def build_orders(tables: dict[str, pa.Table], days: frozenset[date]) -> dict[str, pa.Table]:
    """Return clean.orders of these days.

    Key: order. Inputs: `lines` of classify_orders; `stored`, rows of clean.orders of other days; `returned`, all rows of
    clean.returns of these orders. Output: `orders`, sorted by day, order, line and version. About 1 µs of CPU a row.
    """
    lines, stored, returned = (_rows.to_frame(tables[name]) for name in ("lines", "stored", "returned"))
    stored = fill_versions(stored)
    sold = pl.concat([lines.select(_UNRETURNED), stored.filter(~pl.col("is_unmatched")).select(_UNRETURNED)])
    rows = pl.concat([add_returns(sold, returned), _list_unmatched(returned.filter(pl.col("day").is_in(days)))])
    return {"orders": rows.sort("day", "order_id", "shop", "line_no", "known_from", maintain_order=True).to_arrow()}


def add_returns(lines: pl.DataFrame, returned: pl.DataFrame) -> pl.DataFrame:
    """Return order lines as rows of clean.orders, with what rows of clean.returns give back of them.

    An earlier version has what was given back before it ended, and no more pieces than it has.
    """
    key = ["shop", "order_id", "line_no", "day"]
    undoing = returned.drop_nulls("order_id").rename({"day": "returned_on", "order_day": "day"})
    undoing = undoing.select(
        *key, "returned_on", "returned_at", "return_order_id", "return_line_no", "quantity", "amount", "kind", "rule"
    )
    undoing = undoing.sort("returned_at", "return_order_id", "return_line_no")
    is_past = pl.col("known_until") < pl.lit(FOREVER)
    past = lines.filter(is_past).select(*key, "known_until").unique()
    before = undoing.join(past, key, "inner", nulls_equal=True, maintain_order="left")
    before = before.filter(pl.col("returned_on") < pl.col("known_until"))
    undoing = pl.concat([undoing.with_columns(known_until=pl.lit(FOREVER)), before.select(*undoing.columns, "known_until")])
    totals = undoing.group_by(*key, "known_until").agg(
        returned_quantity=pl.col("quantity").filter(pl.col("rule") != "by_amount").sum().cast(_MONEY),
        returned_amount=pl.col("amount").sum().cast(_MONEY),
        returned_at=pl.col("returned_at").max(),
        undone_by=pl.col("kind").last(),
    )
    joined = lines.join(totals, [*key, "known_until"], "left", nulls_equal=True, maintain_order="left")
    joined = joined.with_columns(pl.col("returned_quantity", "returned_amount").fill_null(_ZERO))
    is_all = (pl.col("returned_amount") > 0) & (pl.col("returned_amount") == pl.col("gross_amount") - pl.col("discount_amount"))
    pieces = pl.when(is_all).then("quantity").otherwise(pl.min_horizontal("returned_quantity", "quantity"))
    return _add_status(joined.with_columns(returned_quantity=pieces))


def _list_unmatched(returned: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of clean.orders that returns without a known line have."""
    alone = returned.filter(pl.col("order_id").is_null()).select(
        "shop", "day", "customer_id", "product_id", "line_kind", "category", "unit_price", "currency", "returned_at", "is_guest",
        line_id=pl.lit(None, pl.String), known_from="day", known_until=pl.lit(FOREVER), is_unmatched=pl.lit(True),
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
    lines = stored.filter(~pl.col("is_unmatched")).select(_UNRETURNED)
    unmatched = _list_unmatched(matched.filter(~pl.col("day").is_in(due)))
    rows = [stored.select(TABLE.columns), pl.concat([add_returns(lines, matched), unmatched])]
    differing = [a.join(b, TABLE.columns, "anti", nulls_equal=True)["day"] for a, b in (rows, reversed(rows))]
    return sorted(pl.concat(differing).unique())
