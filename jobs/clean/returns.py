"""clean.returns: one row per return or cancellation line and the order line it is matched to.

A return that names an order is matched to lines of that order. Another is matched to the latest earlier line of the same
customer, product and price with pieces left, then to the line before. A return without such a line has a row of its own,
on its own day (rule `unmatched`). Returns count on the day they happened: this table is the view by refund date,
clean.orders the view by order date.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from jobs.storage.table import Table

SCHEMA = """
    shop STRING COMMENT 'shop of the return and of its order; null where the source has one',
    return_order_id STRING NOT NULL COMMENT 'the return or credit note',
    return_line_no INT NOT NULL COMMENT 'its line',
    day DATE NOT NULL COMMENT 'day of the return, UTC',
    returned_at TIMESTAMP NOT NULL COMMENT 'when, UTC',
    customer_id STRING COMMENT 'customer; null for an unknown guest',
    product_id STRING NOT NULL COMMENT 'product; what the line is where it is none and has no code',
    line_kind STRING NOT NULL COMMENT 'product, postage or fee',
    category STRING COMMENT 'category of the product',
    kind STRING NOT NULL COMMENT 'return or cancellation',
    unit_price DECIMAL(18,4) NOT NULL COMMENT 'price of one, in the currency beside it',
    currency STRING NOT NULL COMMENT 'currency of unit_price',
    is_guest BOOLEAN NOT NULL COMMENT 'came without a customer id',
    undoes_order_id STRING COMMENT 'order the source says it undoes',
    quantity DECIMAL(18,4) NOT NULL COMMENT 'pieces given back on this row',
    amount DECIMAL(18,4) NOT NULL COMMENT 'money given back on this row, home currency',
    order_id STRING COMMENT 'order undone; null where no line was found',
    line_no INT COMMENT 'its line',
    order_day DATE COMMENT 'day of that order',
    rule STRING NOT NULL COMMENT 'by_order, by_price or unmatched',
    row_day DATE COMMENT 'day of its row in bronze.orders: that of the order where the row has the time of the order',
    is_own_sale BOOLEAN COMMENT 'its row is that of the order line too, which a newer version gives back as a whole'"""
TABLE = Table("clean.returns", __doc__.split("\n\n")[0], SCHEMA, None, {"positive": "quantity > 0"})

UNDOING = ("return", "cancellation")
LINE = (
    "key", "at", "order_id", "line_no", "day", "customer_id", "product_id", "line_kind", "category", "kind", "unit_price",
    "currency", "is_guest", "undoes_order_id", "quantity", "amount", "shop", "row_day", "is_own_sale",
)  # fmt: skip
_CENT = Decimal("0.0001")


class Entry(NamedTuple):
    """What matching needs to know of an order line or a return line."""

    is_return: bool
    shop: str | None
    order_id: str
    line_no: int
    day: date
    unit_price: Decimal
    currency: str
    undoes_order_id: str | None
    quantity: Decimal
    amount: Decimal


class Match(NamedTuple):
    """Pieces of a return and the line that they are matched to, or None; the return and the line by their position."""

    returned: int
    line: int | None
    quantity: Decimal
    amount: Decimal


def match_key(order_id: str = "order_id") -> pl.Expr:
    """Return the key within which returns are matched: a customer and product, or a guest's order and product."""
    guest = pl.lit("o|") + pl.coalesce("undoes_order_id", order_id)
    return pl.concat_str([pl.coalesce(pl.lit("c|") + pl.col("customer_id"), guest), "product_id"], separator="|")


def find_orders(returns: pa.Table) -> pa.Array:
    """Return the order in clean.orders that each row of clean.returns stands in: the one undone, else its own."""
    return pc.coalesce(returns["order_id"], returns["return_order_id"])


def fill_rows(stored: pl.DataFrame) -> pl.DataFrame:
    """Return stored rows of clean.returns with what rows of an older lake lack: of which row they are."""
    return stored.with_columns(pl.coalesce("row_day", "day"), pl.col("is_own_sale").fill_null(False))


def restore_returned(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows of clean.returns, with their key, put together again as the return lines that they came from."""
    own = [name for name in LINE if name not in ("at", "order_id", "line_no", "quantity", "amount")]
    own = [name for name in own if name not in ("shop", "row_day")]
    lines = rows.group_by("shop", "row_day", order_id="return_order_id", line_no="return_line_no").agg(
        pl.col(own).first(), pl.col("quantity", "amount").sum().cast(pl.Decimal(18, 4)), at=pl.col("returned_at").first()
    )
    return lines.select(LINE)


def find_changed_days(before: pl.DataFrame, after: pl.DataFrame) -> list[date]:
    """Return the days of return on which rows of clean.returns differ in what features take from them."""
    columns = ["day", "shop", "customer_id", "return_order_id", "return_line_no", "kind", "amount"]
    rows = [part.select(columns) for part in (before, after)]
    differing = [part.join(others, columns, "anti", nulls_equal=True)["day"] for part, others in (rows, reversed(rows))]
    return sorted(pl.concat(differing).unique())


def match_returns(lines: pl.DataFrame, returned: pl.DataFrame) -> pl.DataFrame:
    """Return clean.returns for these order lines and return lines, both with the columns LINE.

    A key must have all its lines and returns. Sorted by key, time and number of the return. About 5 µs of CPU a row.
    """
    sold = lines.filter(pl.col("line_kind") != "discount").join(returned.select("key").unique(), "key", "semi")
    entries = pl.concat([rows.select(LINE).with_columns(is_return=pl.lit(n == 1)) for n, rows in enumerate((sold, returned))])
    in_order = entries.sort("key", "at", "is_return", "order_id", "line_no")
    matches = pl.DataFrame(list(_match_all(in_order)), _MATCH_SCHEMA, orient="row")
    back, line = in_order[matches["returned"]], in_order.select("order_id", "line_no", order_day="day")[matches["line"]]
    own = back.select(
        "day", "customer_id", "product_id", "line_kind", "category", "kind", "unit_price", "currency", "is_guest",
        "undoes_order_id", "shop", "row_day", "is_own_sale",
        return_order_id="order_id", return_line_no="line_no", returned_at="at",
    )  # fmt: skip
    rule = pl.when(pl.col("order_id").is_null()).then(pl.lit("unmatched")).when(pl.col("undoes_order_id").is_null())
    rule = rule.then(pl.lit("by_price")).otherwise(pl.lit("by_order"))
    return own.hstack([*matches.select("quantity", "amount"), *line]).with_columns(rule=rule).select(TABLE.columns)


_MATCH_SCHEMA = {
    "returned": pl.UInt32, "line": pl.UInt32, "quantity": pl.Decimal(18, 4), "amount": pl.Decimal(18, 4),
}  # fmt: skip


def _match_all(in_order: pl.DataFrame) -> Iterator[Match]:
    """Match the returns of each key; `in_order` has the rows of a key together, in order of time."""
    columns = [in_order[name].to_list() for name in ("key", *Entry._fields)]
    first = 0
    for _, rows in groupby(zip(*columns, strict=True), key=itemgetter(0)):
        entries = [Entry(*row[1:]) for row in rows]
        for match in match_entries(entries):
            line = None if match.line is None else match.line + first
            yield match._replace(returned=match.returned + first, line=line)
        first += len(entries)


def match_entries(entries: Sequence[Entry]) -> Iterator[Match]:
    """Match the returns of one key to its order lines, all in order of time.

    >>> line = Entry(False, None, "1", 1, date(2024, 3, 1), Decimal(2), "GBP", None, Decimal(5), Decimal(10))
    >>> back = line._replace(is_return=True, order_id="C1", day=date(2024, 3, 2), quantity=Decimal(7), amount=Decimal(14))
    >>> [(match.line, int(match.quantity), float(match.amount)) for match in match_entries([line, back])]
    [(0, 5, 10.0), (None, 2, 4.0)]
    """
    open_lines: list[int] = []
    left: dict[tuple, Decimal] = {}
    for number, entry in enumerate(entries):
        if not entry.is_return:
            open_lines.append(number)
            left[_line_id(entry)] = entry.quantity
            continue
        rest, money = entry.quantity, entry.amount
        own = (entry.shop, entry.order_id, entry.line_no)
        # A return with the number of its own sale takes that line first, else the latest.
        for line in sorted(reversed(open_lines), key=lambda number: _line_id(entries[number])[:3] != own):
            if rest <= 0:
                break
            id_ = _line_id(entries[line])
            if left[id_] <= 0 or not _may_match(entry, entries[line]):
                continue
            pieces = min(rest, left[id_])
            amount = money if pieces == rest else (entry.amount * pieces / entry.quantity).quantize(_CENT)
            left[id_] -= pieces
            rest -= pieces
            money -= amount
            yield Match(number, line, pieces, amount)
        if rest > 0:
            yield Match(number, None, rest, money)


def _line_id(line: Entry) -> tuple:
    return line.shop, line.order_id, line.line_no, line.day


def _may_match(returned: Entry, line: Entry) -> bool:
    """Return whether a line is of the order that a return names, or has its price where it names none."""
    if returned.shop != line.shop:
        return False
    if returned.undoes_order_id:
        return line.order_id == returned.undoes_order_id
    return (line.unit_price, line.currency) == (returned.unit_price, returned.currency)
