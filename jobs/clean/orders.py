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
- Postage and fees are money of the customer's, but no products: they have no category, and may have no product id.
- A discount line only reduces the order, whatever its sign: it has a discount_amount and no gross, and no return is
  matched to it.
- A return reduces the line that it is matched to, on whatever day it comes. clean.returns has the matches.
"""

from dataclasses import replace
from datetime import date

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from jobs import parsing
from jobs.bronze import orders as bronze_orders
from jobs.clean import _money, _order_lines, _order_outcomes, _order_owners, _rows, customers, orders_rejects, returns
from jobs.clean._order_versions import FOREVER
from jobs.storage.table import Table

SCHEMA = """
    shop STRING COMMENT 'shop within which an order number is unique; null where the source has one',
    order_id STRING NOT NULL COMMENT 'order; the credit note for a return without a known line',
    line_no INT NOT NULL COMMENT 'line in the order, counted by us where the source has none',
    line_id STRING COMMENT 'id of the line as received; null where the source has none',
    known_from DATE COMMENT 'day from which the order is known to be so: its own day, or that of a later version',
    known_until DATE COMMENT 'day from which it no longer is; 9999-12-31 for what holds now',
    day DATE NOT NULL COMMENT 'day of the order, UTC',
    ordered_at TIMESTAMP NOT NULL COMMENT 'when, UTC',
    customer_id STRING COMMENT 'customer; null for an unknown guest',
    product_id STRING NOT NULL COMMENT 'product; what the line is where it is none and has no code',
    line_kind STRING NOT NULL COMMENT 'product, postage, fee or discount',
    category STRING COMMENT 'category of the product',
    quantity DECIMAL(18,4) NOT NULL COMMENT 'pieces ordered; 0 for a return without a known line',
    unit_price DECIMAL(18,4) NOT NULL COMMENT 'price of one, in the currency beside it',
    currency STRING NOT NULL COMMENT 'currency of unit_price; all amounts are in the home currency',
    gross_amount DECIMAL(18,4) NOT NULL COMMENT 'quantity times price, home currency; 0 on a discount line',
    discount_amount DECIMAL(18,4) NOT NULL COMMENT 'taken off, home currency',
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
        "line_kind_known": "line_kind IN ('product', 'postage', 'fee', 'discount')",
        "known_later": "known_from >= day AND known_until > known_from",
    },
)  # fmt: skip
# What a line is and what happened are two columns of a mapping; a vendor may have one for both, so their words may
# stand in either. These are refused by the rule of that name.
LINE_KINDS = ("product", "postage", "fee", "discount")
_NO_SALE = {
    "gift_card": "gift_card",
    "test": "test_order",
    "void": "void",
    "bad_debt": "bad_debt",
    "adjustment": "adjustment",
}
# In an older lake original_order_id has its old name, undoes_order_id.
BRONZE = replace(bronze_orders.TABLE, schema=f"{bronze_orders.TABLE.schema},\n undoes_order_id STRING")
_TEXTS = [
    "shop", "order_id", "customer_id", "email_key", "product_id", "category", "currency", "kind", "line_kind",
    "original_order_id", "line_id",
]  # fmt: skip
IS_CURRENT = pl.col("known_until") == pl.lit(FOREVER)
_MONEY = pl.Decimal(18, 4)
_ZERO = pl.lit("0").cast(_MONEY)


def find_orders(raw: pa.Table) -> pa.Array:
    """Return the order of each row of bronze.orders: the key of classify_orders."""
    return parsing.clean_text(raw["order_id"]).to_arrow()


def find_product_lookups(raw: pa.Table) -> pl.DataFrame:
    """Return the rows (key, day) of bronze.orders that look up clean.products."""
    texts = parsing.clean_texts(raw, ["product_id", "unit_price", "category"]).with_columns(_rows.take_column(raw, "day"))
    lacks = texts.filter(pl.col("unit_price").is_null() | pl.col("category").is_null())
    return lacks.select("day", key="product_id").drop_nulls().unique()


def find_customer_lookups(raw: pa.Table) -> pl.DataFrame:
    """Return the rows (key, day) of bronze.orders that look up clean.customers: those of guests."""
    is_guest = parsing.clean_text(raw["customer_id"]).is_null()
    return customers.find_lookups(raw.filter(is_guest.to_arrow()))


def classify_orders(
    tables: dict[str, pa.Table],
    products: pl.DataFrame,
    mails: pl.DataFrame,
    merges: pl.DataFrame,
    rates: pl.DataFrame,
    currency: str,
) -> dict[str, pa.Table]:
    """Type the rows of bronze.orders, refuse those that break a rule, and say which stand from when until when.

    Key: order. Input: `raw`, with the columns of BRONZE. `products` (products.find_product_validity), `mails`
    (customers.find_mail_owners), `merges` (_order_owners.find_owners) and `rates` (_money.list_rates) are whole. Outputs:
    `lines`, the order lines and their earlier versions, as clean.orders without returns; `returned`, the return lines, with
    the columns returns.LINE; `rejects`, as received, for clean.orders_rejects; `measures` (_money.measure_rows) and
    `customers` (day, customer_id) of all rows. Sorted by order and line, rejects as the input. About 4 µs of CPU a row.
    """
    raw = _rename_original(tables["raw"])
    typed = _name_kinds(_type_lines(raw, currency))
    priced = _add_product(typed, products, currency)
    rated = _money.add_amounts(_money.add_rate(priced, rates, currency))
    ruled = rated.with_columns(_rows.find_broken_rules(raw, rated, _list_rules()))
    outcomes, content = _order_outcomes.find_outcomes(ruled, raw)
    owners = _order_owners.find_owners(outcomes, mails, merges)
    standing = _list_standing(outcomes, content)
    lines, returned = _split_lines_and_returns(standing, outcomes, content, owners)
    own_sales = standing.filter("is_own_sale")["position"]
    counted = _order_owners.add_owner(outcomes, owners).with_columns(is_own_sale=pl.col("position").is_in(own_sales.implode()))
    outputs = {
        "lines": lines,
        "returned": returned,
        "measures": _money.measure_rows(counted),
        "customers": counted.select("day", "customer_id").drop_nulls().unique(),
    }
    rejects = _rows.select_rejects(raw, outcomes, orders_rejects.TABLE)
    return {name: rows.to_arrow() for name, rows in outputs.items()} | {"rejects": rejects}


def _rename_original(raw: pa.Table) -> pa.Table:
    """Return the rows with the order that a return undoes in original_order_id alone."""
    names = pc.coalesce(raw["original_order_id"], raw["undoes_order_id"])
    renamed = raw.set_column(raw.column_names.index("original_order_id"), "original_order_id", names)
    return renamed.drop_columns(["undoes_order_id"])


def _type_lines(raw: pa.Table, currency: str) -> pl.DataFrame:
    """Return the columns of each row in their types; `position` is its number."""
    texts = parsing.clean_texts(raw, _TEXTS).rename({"original_order_id": "undoes_order_id"})
    parsed = {
        "line_no": parsing.parse_integer,
        "ordered_at": parsing.parse_time,
        "updated_at": parsing.parse_time,
        "quantity": parsing.parse_number,
        "unit_price": parsing.parse_number,
        "discount_amount": parsing.parse_number,
    }
    values = pl.DataFrame([parse(_rows.take_column(raw, name)).alias(name) for name, parse in parsed.items()])
    sent = parsing.clean_texts(raw, ["unit_price", "discount_amount", "line_no"])
    is_number = values["line_no"].is_not_null()
    origin = [_rows.take_column(raw, name) for name in ("_delivery", "_left_out", "_file_day")]
    return (
        texts.hstack([*values, *_rows.take_origin(raw), *origin])
        .with_columns(
            pl.col("_delivery").fill_null("changes"),
            pl.col("_left_out").fill_null(False),
            line_id=pl.coalesce("line_id", pl.when(~is_number).then(sent["line_no"])),
            is_guest=pl.col("customer_id").is_null(),
            currency=pl.col("currency").str.to_uppercase().fill_null(currency),
            kind=pl.col("kind").str.to_lowercase().fill_null("sale"),
            line_kind=pl.col("line_kind").str.to_lowercase(),
            is_priced=sent["unit_price"].is_not_null(),
            discount=pl.when(sent["discount_amount"].is_null()).then(_ZERO).otherwise("discount_amount"),
        )
        .drop("discount_amount")
    )


def _name_kinds(typed: pl.DataFrame) -> pl.DataFrame:
    """`kind` says what happened, `line_kind` what the line is, wherever the mapping said it."""
    says_what = pl.col("kind").is_in(LINE_KINDS)
    what = pl.coalesce("line_kind", pl.when(says_what).then("kind"), pl.lit("product"))
    return typed.with_columns(
        product_id=pl.coalesce("product_id", pl.when(what.is_in(LINE_KINDS[1:])).then(what)),
        line_kind=what,
        kind=pl.when(says_what).then(pl.lit("sale")).otherwise("kind"),
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
    )


def _list_rules() -> dict[str, pl.Expr]:
    """Return the rules by which a line is refused, in the order in which they decide."""
    kind, line_kind, quantity, price = (pl.col(name) for name in ("kind", "line_kind", "quantity", "unit_price"))
    gross, discount, is_rated = pl.col("gross"), pl.col("discount"), pl.col("rate").is_not_null()
    is_discount = line_kind == "discount"
    may_be_negative = kind.is_in(returns.UNDOING) | is_discount
    is_computable = quantity.is_not_null() & price.is_not_null() & is_rated
    return {
        "left_out": pl.col("_left_out"),
        "no_time": pl.col("ordered_at").is_null(),
        "future": pl.col("ordered_at").dt.date() > pl.col("day"),
        "no_order_id": pl.col("order_id").is_null(),
        **{rule: (kind == word) | (line_kind == word) for word, rule in _NO_SALE.items()},
        "unknown_kind": ~kind.is_in(["sale", *returns.UNDOING, *_NO_SALE]) | ~line_kind.is_in([*LINE_KINDS, *_NO_SALE]),
        "no_product": pl.col("product_id").is_null(),
        "bad_quantity": quantity.is_null() | (quantity == 0) | (~may_be_negative & (quantity < 0)),
        "bad_price": (price < 0).fill_null(False) | (pl.col("is_priced") & price.is_null()),
        "no_price": price.is_null() & ~pl.col("is_priced"),
        "missing_rate": ~is_rated,
        "bad_amount": gross.is_null() & is_computable,
        "bad_discount": (discount.is_null() & is_rated)
        | (discount < 0)
        | (~is_discount & (gross >= 0) & (discount > gross)),
    }  # fmt: skip


def _list_standing(outcomes: pl.DataFrame, content: list[str]) -> pl.DataFrame:
    """Return the rows that stand on some day, with line_no, is_return and is_own_sale."""
    standing = _order_lines.number_lines(_order_lines.select_standing(outcomes, content))
    standing = standing.with_columns(is_return=pl.col("is_undoing") & (pl.col("line_kind") != "discount"))
    return _order_lines.mark_own_sales(standing)


def _split_lines_and_returns(
    standing: pl.DataFrame, outcomes: pl.DataFrame, content: list[str], owners: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the standing rows as (order lines with their versions, return lines).

    A sale that was given back as a whole is both. Earlier versions of it, and of returns, are left out.
    """
    is_now = pl.col("until") == pl.lit(FOREVER)
    sales = standing.filter(~pl.col("is_return") | (pl.col("is_own_sale") & is_now))
    stated = _order_owners.list_states(sales, owners).rename({"gross": "gross_amount", "discount": "discount_amount"})
    amount = (pl.col("gross") - pl.col("discount")).cast(_MONEY)
    returned = _order_owners.add_owner(standing.filter(pl.col("is_return") & is_now), owners)
    dated = _order_lines.date_returns(returned, sales.filter(is_now), outcomes, content).with_columns(
        pl.col("quantity").abs(), amount=amount, row_day="day", day=pl.col("at").dt.date()
    )
    dated = _order_lines.number_repeated_returns(dated).with_columns(key=returns.match_key())
    stated = stated.with_columns(pl.col("quantity").abs(), is_unmatched=pl.lit(False))
    return stated.select([*_UNRETURNED, "undoes_order_id"]), dated.select(returns.LINE)


_RETURNED = ("returned_quantity", "returned_amount", "returned_at", "net_amount", "status")  # what a return changes
_UNRETURNED = [name for name in TABLE.columns if name not in _RETURNED]


def fill_versions(stored: pl.DataFrame) -> pl.DataFrame:
    """Return stored rows of clean.orders with the version and the kind of row that rows of an older lake lack."""
    return stored.with_columns(
        pl.coalesce("known_from", "day"), pl.col("known_until").fill_null(FOREVER),
        pl.coalesce("is_unmatched", pl.col("quantity") == 0),
    )  # fmt: skip


def select_lines(tables: dict[str, pa.Table], keys: pl.Series) -> dict[str, pa.Table]:
    """Return the lines of classify_orders whose key of matching is one of these.

    Key: order. Input: `lines`. Output: `lines`, with the columns returns.LINE. About 0.2 µs of CPU a row.
    """
    lines = pl.DataFrame(pl.from_arrow(tables["lines"]))
    return {"lines": to_matchable(lines).filter(pl.col("key").is_in(keys.implode())).to_arrow()}


def to_matchable(lines: pl.DataFrame) -> pl.DataFrame:
    """Return the order lines of now with the columns that matching needs; stored ones no longer name the order that they undo."""
    undoes = pl.col("undoes_order_id") if "undoes_order_id" in lines.columns else pl.lit(None, pl.String).alias("undoes_order_id")
    amount = (pl.col("gross_amount") - pl.col("discount_amount")).cast(_MONEY)
    entries = lines.filter(IS_CURRENT).with_columns(
        undoes, at="ordered_at", kind=pl.lit("sale"), amount=amount, row_day="day", is_own_sale=pl.lit(False)
    )
    return entries.with_columns(key=returns.match_key()).select(returns.LINE)


def build_orders(tables: dict[str, pa.Table], days: frozenset[date]) -> dict[str, pa.Table]:
    """Return clean.orders of these days.

    Key: order. Inputs: `lines` of classify_orders; `stored`, rows of clean.orders of other days; `returned`, all rows of
    clean.returns of these orders. Output: `orders`, sorted by day, order, line and version. About 1 µs of CPU a row.
    """
    lines, stored, returned = (pl.DataFrame(pl.from_arrow(tables[name])) for name in ("lines", "stored", "returned"))
    stored = fill_versions(stored)
    sold = pl.concat([lines.select(_UNRETURNED), stored.filter(~pl.col("is_unmatched")).select(_UNRETURNED)])
    rows = pl.concat([add_returns(sold, returned), _list_unmatched(returned.filter(pl.col("day").is_in(days)))])
    return {"orders": rows.sort("day", "order_id", "shop", "line_no", "known_from", maintain_order=True).to_arrow()}


def add_returns(lines: pl.DataFrame, returned: pl.DataFrame) -> pl.DataFrame:
    """Return order lines as rows of clean.orders, with what rows of clean.returns give back of them.

    An earlier version has what was given back before it ended, and no more pieces than it has.
    """
    key = ["shop", "order_id", "line_no", "day"]
    undoing = returned.drop_nulls("order_id").drop("day").rename({"order_day": "day"})
    undoing = undoing.select(*key, "returned_at", "return_order_id", "return_line_no", "quantity", "amount", "kind")
    undoing = undoing.sort("returned_at", "return_order_id", "return_line_no")
    is_past = pl.col("known_until") < pl.lit(FOREVER)
    past = lines.filter(is_past).select(*key, "known_until").unique()
    before = undoing.join(past, key, "inner", nulls_equal=True, maintain_order="left")
    before = before.filter(pl.col("returned_at").dt.date() < pl.col("known_until"))
    undoing = pl.concat([undoing.with_columns(known_until=pl.lit(FOREVER)), before.select(*undoing.columns, "known_until")])
    totals = undoing.group_by(*key, "known_until").agg(
        returned_quantity=pl.col("quantity").sum().cast(_MONEY),
        returned_amount=pl.col("amount").sum().cast(_MONEY),
        returned_at=pl.col("returned_at").max(),
        undone_by=pl.col("kind").last(),
    )
    joined = lines.join(totals, [*key, "known_until"], "left", nulls_equal=True, maintain_order="left")
    joined = joined.with_columns(pl.col("returned_quantity", "returned_amount").fill_null(_ZERO))
    pieces = pl.when(is_past).then(pl.min_horizontal("returned_quantity", "quantity")).otherwise("returned_quantity")
    return _add_status(joined.with_columns(pieces))


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
        pl.when(pl.col("returned_quantity") == 0).then(pl.lit("placed"))
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
