"""clean.returns: one row per return or cancellation line and the order line it is matched to.

A return that names an order, or has its number, is matched to that order first, whoever the row says the customer is: the
return is the customer's of the order. Another is matched to the latest earlier line of the same customer, product and price
with pieces left, then to the line before. A return without such a line has a row of its own, on its own day (rule
`unmatched`). No line gives back more than was sold on it: what is more is an `over_amount`, which counts nowhere (rule
`over_return`). Returns count on the day they happened: this table is the view by refund date, clean.orders the view by order
date. The pieces, and amount and over_amount, of the rows of a return line add up to what the line said.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from datetime import date

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from jobs.clean._return_matching import Line, Match, Return, match_order, match_price
from jobs.storage.table import Table

SCHEMA = """
    shop STRING COMMENT 'shop of the return and of its order; null where the source has one',
    return_order_id STRING NOT NULL COMMENT 'the return or credit note',
    return_line_no INT NOT NULL COMMENT 'its line',
    day DATE NOT NULL COMMENT 'day of the return, in the business time zone',
    returned_at TIMESTAMP NOT NULL COMMENT 'when, UTC',
    customer_id STRING COMMENT 'customer of the order undone, else of the return; null for an unknown guest',
    product_id STRING NOT NULL COMMENT 'product; what the line is where it is none and has no code',
    line_kind STRING NOT NULL COMMENT 'product, postage, fee or tax',
    category STRING COMMENT 'category of the product',
    kind STRING NOT NULL COMMENT 'return or cancellation',
    unit_price DECIMAL(18,4) NOT NULL COMMENT 'price of one, in the currency beside it',
    currency STRING NOT NULL COMMENT 'currency of unit_price',
    is_guest BOOLEAN NOT NULL COMMENT 'came without a customer id',
    undoes_order_id STRING COMMENT 'order the source says it undoes',
    quantity DECIMAL(18,4) NOT NULL COMMENT 'pieces given back on this row; 0 where the source does not say how many',
    amount DECIMAL(18,4) NOT NULL COMMENT 'money given back on this row, home currency',
    over_amount DECIMAL(18,4) NOT NULL COMMENT 'money beyond what was sold, home currency: it counts nowhere',
    order_id STRING COMMENT 'order undone; null where no line was found',
    line_no INT COMMENT 'its line; null where there is only an over_amount',
    order_day DATE COMMENT 'day of that order',
    rule STRING NOT NULL COMMENT 'by_order, by_amount, by_price, over_return or unmatched',
    row_day DATE COMMENT 'day of its row in bronze.orders: that of the order where the row has the time of the order',
    is_own_sale BOOLEAN COMMENT 'its row is that of the order line too, which a newer version gives back as a whole'"""
TABLE = Table("clean.returns", __doc__.split("\n\n")[0], SCHEMA, None, {"not_negative": "quantity >= 0"})

UNDOING = ("return", "cancellation")
LINE = (
    "order_key", "price_key", "at", "order_id", "line_no", "day", "customer_id", "product_id", "line_kind", "category", "kind",
    "unit_price", "currency", "is_guest", "undoes_order_id", "quantity", "amount",
    "shop", "row_day", "is_own_sale",
)  # fmt: skip
_MONEY = pl.Decimal(18, 4)
_AFTER_SHOP = "\x1f"  # no shop has it in its name


def order_key(order_id: str = "order_id") -> pl.Expr:
    """Return the key of the order that a return is about, within its shop: the one it names, else the one with its number."""
    parts = [pl.col("shop").fill_null(""), pl.coalesce("undoes_order_id", order_id)]
    return pl.concat_str(parts, separator=_AFTER_SHOP).alias("order_key")


def list_order_ids(order_keys: pl.Series) -> pl.Series:
    """Return the numbers of the orders with these keys."""
    return order_keys.str.split(_AFTER_SHOP).list.last().unique()


def price_key() -> pl.Expr:
    """Return the key within which returns are matched that name no order: customer, product and price. Null for a guest."""
    parts = [pl.col("shop").fill_null(""), "customer_id", "product_id", "currency", pl.col("unit_price").cast(pl.String)]
    return pl.when(pl.col("undoes_order_id").is_null()).then(pl.concat_str(parts, separator="|")).alias("price_key")


def find_orders(returns: pa.Table) -> pa.Array:
    """Return the order in clean.orders that each row of clean.returns stands in: the one undone, else its own."""
    return pc.coalesce(returns["order_id"], returns["return_order_id"])


def fill_rows(stored: pl.DataFrame) -> pl.DataFrame:
    """Return stored rows of clean.returns with what rows of an older lake lack: of which row they are."""
    return stored.with_columns(pl.coalesce("row_day", "day"), pl.col("is_own_sale").fill_null(False))


def restore_returned(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows of clean.returns, with their keys, put together again as the return lines that they came from."""
    own = [name for name in LINE if name not in ("at", "order_id", "line_no", "quantity", "amount", "shop", "row_day")]
    amounts = rows.with_columns(amount=pl.col("amount") + pl.col("over_amount").fill_null(0))
    lines = amounts.group_by("row_day", "shop", order_id="return_order_id", line_no="return_line_no").agg(
        pl.col(own).first(), pl.col("quantity", "amount").sum().cast(_MONEY), at=pl.col("returned_at").first()
    )
    return lines.select(LINE)


def find_changed_days(before: pl.DataFrame, after: pl.DataFrame) -> list[date]:
    """Return the days of return on which rows of clean.returns differ in what features take from them."""
    columns = ["day", "shop", "customer_id", "return_order_id", "return_line_no", "kind", "amount"]
    rows = [part.select(columns) for part in (before, after)]
    differing = [part.join(others, columns, "anti", nulls_equal=True)["day"] for part, others in (rows, reversed(rows))]
    return sorted(pl.concat(differing).unique())


def match_returns(lines: pl.DataFrame, returned: pl.DataFrame) -> pl.DataFrame:
    """Return clean.returns for these order lines and return lines, both with the columns LINE and `rate` (_money.add_rate).

    Of the order and of the price of a return all lines and returns must be there. Sorted by time and number of the return.
    About 5 µs of CPU a row.
    """
    is_wanted = [pl.col(key).is_in(returned[key].drop_nulls().unique().implode()) for key in ("order_key", "price_key")]
    in_order = ["at", "order_id", "line_no"]
    sold = lines.filter((pl.col("line_kind") != "discount") & pl.any_horizontal(is_wanted)).sort(in_order)
    back = returned.sort(in_order)
    matches = pl.DataFrame(list(_match_all(sold, back)), _MATCH_SCHEMA, orient="row").sort("returned", maintain_order=True)
    is_over = matches["rule"] == "over_return"
    line = sold.select("order_id", "line_no", order_day="day", of_order="customer_id")[matches["line"]]
    line = line.with_columns(line_no=pl.when(~is_over).then("line_no"))
    own = back.select(
        "day", "customer_id", "product_id", "line_kind", "category", "kind", "unit_price", "currency", "is_guest",
        "undoes_order_id", "shop", "row_day", "is_own_sale",
        return_order_id="order_id", return_line_no="line_no", returned_at="at",
    )[matches["returned"]]  # fmt: skip
    customer = pl.when(pl.col("order_id").is_null()).then("customer_id").otherwise("of_order")
    rows = own.hstack([*matches.select("rule", "quantity", "amount", "over_amount"), *line])
    return rows.with_columns(customer_id=customer).select(TABLE.columns)


_MATCH_SCHEMA = {
    "returned": pl.UInt32, "line": pl.UInt32, "rule": pl.String, "quantity": _MONEY, "amount": _MONEY, "over_amount": _MONEY,
}  # fmt: skip


def _match_all(sold: pl.DataFrame, back: pl.DataFrame) -> Iterator[Match]:
    """Match returns to the order that they are about, then the others by their price. Both in order of time."""
    own = ("line_no", "product_id", "line_kind", "unit_price", "currency", pl.col("rate").fill_null(1))
    lines = [Line(n, *row) for n, row in enumerate(sold.select(*own, "quantity", "amount").iter_rows())]
    names_order = pl.col("undoes_order_id").is_not_null()
    has_own_number = pl.col("order_id") == pl.coalesce("undoes_order_id", "order_id")
    returned = back.select(*own, has_own_number, names_order, "quantity", "amount").iter_rows()
    returned = [Return(n, *row) for n, row in enumerate(returned)]
    by_order = _group(sold["order_key"])
    for key, numbers in _group(back["order_key"]).items():
        if key in by_order:
            yield from match_order([lines[n] for n in by_order[key]], [returned[n] for n in numbers])
    by_price, sold_at, returned_at = _group(sold["price_key"]), sold["at"].to_list(), back["at"].to_list()
    for n, key in enumerate(back["price_key"]):
        if not returned[n].is_settled:
            numbers = by_price.get(key, [])
            earlier = numbers[: bisect_right(numbers, returned_at[n], key=sold_at.__getitem__)]
            yield from match_price([lines[number] for number in earlier], returned[n])


def _group(keys: pl.Series) -> dict[str, list[int]]:
    """Return the numbers of the rows of each key, in order; none of a row without one."""
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, key in enumerate(keys):
        if key is not None:
            numbers[key].append(number)
    return numbers
