"""The money of whole orders: discounts spread over their lines, postage and tax as lines of their own.

Rules that may be debated:
- A discount, postage or tax of the order stands on one of its rows or the same on each, and is taken once. Other values on
  the rows are shares of it, and are added up; 0 is no value.
- A discount of the order, and what the discount of a line is more than the line, is spread over the product lines in
  proportion to the money left on them, then over the other lines. What the order does not cost is `over_discount`, which
  counts nowhere.
- Postage and tax below 0 reduce the order. Rows that are all returns give the amounts of their order back.
- Each version of an order is settled by itself. Where all its lines are given back by their own rows, so are those that we make.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

import polars as pl

from jobs.business_day import FOREVER
from jobs.clean._order_versions import ORDER
from jobs.clean._spreading import from_units, spread, to_units

LINE_NUMBERS = {"postage": -1, "tax": -2}  # of the lines that we make; numbers of a source are not below 0
_AMOUNTS = ("order_discount", "order_shipping", "order_tax")
_ORDER_DAY = [*ORDER, "day"]
_VERSION = [*_ORDER_DAY, "known_from"]
_ZERO = Decimal(0)
_MONEY = pl.Decimal(18, 4)
_MADE_SCHEMA = {"line_kind": pl.String, "gross": _MONEY, "discount": _MONEY}
_MEASURES = {"day": pl.Date, "measure": pl.String, "value": pl.Decimal(38, 4)}


class Settled(NamedTuple):
    """Sales and returns with the money of their orders settled, and measures (day, measure, value) of what was settled."""

    sales: pl.DataFrame
    returns: pl.DataFrame
    measures: pl.DataFrame


class Line(NamedTuple):
    """A line of an order: amounts in units of 0.0001, home currency; `row` is its place, None for a line that we make."""

    row: int | None
    line_kind: str
    gross: int
    discount: int
    is_return: bool = False
    is_own_sale: bool = False  # given back by its own row, which a return beside it says


def settle_orders(sales: pl.DataFrame, returned: pl.DataFrame, outcomes: pl.DataFrame, currency: str) -> Settled:
    """Settle the money of orders. Key: shop, order and day.

    `sales` are order lines with their versions, `returned` the return lines of now, both with line_no; `outcomes` all rows, of
    which refused ones may state amounts of an order. About 10 µs of CPU a row of an order with such amounts, none for others.
    """
    rows = _join_sides(sales, returned)
    stated = _find_order_amounts(rows, outcomes)
    has_surplus = (pl.col("line_kind") != "discount") & (pl.col("discount") > pl.col("gross"))
    concerned = pl.concat([stated.select(_VERSION), rows.filter(has_surplus).select(_VERSION)]).unique()
    of_these = rows.join(concerned, _VERSION, "semi", nulls_equal=True)
    if not len(of_these):
        return Settled(sales, returned, pl.DataFrame(schema=_MEASURES))
    in_order = of_these.sort(*_VERSION, "line_no", "file_rank", "_row")
    settled, measures = _settle_rows(in_order, stated, currency)
    all_rows = pl.concat([rows.join(concerned, _VERSION, "anti", nulls_equal=True), settled])
    all_sales = all_rows.filter(~pl.col("is_return")).select(sales.columns)
    back = all_rows.filter("is_return").select(returned.columns)
    own = _settle_own_sales(
        returned.filter("is_own_sale"), all_sales.filter(pl.col("is_own_sale") & (pl.col("known_until") == pl.lit(FOREVER)))
    )
    return Settled(all_sales, pl.concat([back, own]), measures)


def _join_sides(sales: pl.DataFrame, returned: pl.DataFrame) -> pl.DataFrame:
    """Return the sales, and the returns that are none too as rows of the present version of their order."""
    now = sales.filter(pl.col("known_until") == pl.lit(FOREVER)).group_by(_ORDER_DAY).agg(pl.col("known_from").max())
    back = returned.filter(~pl.col("is_own_sale")).join(now, _ORDER_DAY, "left", nulls_equal=True, maintain_order="left")
    back = back.with_columns(
        pl.coalesce("known_from", "day").alias("known_from"), known_until=pl.lit(FOREVER), is_return=pl.lit(True)
    )
    return pl.concat([sales.with_columns(is_return=pl.lit(False)), back], how="diagonal")


def _find_order_amounts(rows: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Return the amounts of the versions that have any, and whether the values on their rows differ."""
    has_any = pl.any_horizontal((pl.col(name) != 0).fill_null(False) for name in _AMOUNTS)
    now = rows.filter(pl.col("known_until") == pl.lit(FOREVER)).select(_VERSION).unique()
    refused = outcomes.lazy().filter(has_any & (pl.col("outcome") == "reject")).select(*_ORDER_DAY, *_AMOUNTS).collect()
    refused = refused.join(now, _ORDER_DAY, "inner", nulls_equal=True)
    amounts_of_rows = pl.concat([part.select(*_VERSION, *_AMOUNTS) for part in (rows.filter(has_any), refused)])
    values = {name: pl.col(name).filter(pl.col(name) != 0) for name in _AMOUNTS}
    amounts = {
        name: pl.when(value.n_unique() == 1).then(value.first()).otherwise(value.sum()).cast(_MONEY)
        for name, value in values.items()
    }
    differs = pl.any_horizontal(value.n_unique() > 1 for value in values.values())
    return amounts_of_rows.group_by(_VERSION).agg(**amounts, differs=differs)


def _settle_rows(rows: pl.DataFrame, stated: pl.DataFrame, currency: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows of some versions, and of the lines that we make, settled; and the measures of those of now.

    Rows of a version stand together.
    """
    versions = rows.select(*_VERSION, "known_until").unique(_VERSION, maintain_order=True)
    stated = versions.join(stated, _VERSION, "left", nulls_equal=True, maintain_order="left")
    amounts = stated.select("day", pl.col("known_until") == pl.lit(FOREVER), *_AMOUNTS, "differs")
    discounts, added, measures = list(rows["discount"]), [], []
    for lines, (day, is_now, *values, differs) in zip(_group_lines(rows), amounts.iter_rows(), strict=True):
        settled, counted = settle_order(lines, *(to_units(value or _ZERO) for value in values))
        for line in settled:
            if line.row is None:
                first = lines[0].row
                added.append((first, line.line_kind, from_units(line.gross), from_units(line.discount), line.is_own_sale))
            else:
                discounts[line.row] = from_units(line.discount)
        measures += [(day, name, from_units(units)) for name, units in counted.items() if is_now]
        measures += [(day, "differing_order_amounts", Decimal(1))] if differs and is_now else []
    settled = rows.with_columns(discount=pl.Series(discounts, dtype=_MONEY))
    return pl.concat([settled, _make_lines(settled, added, currency)]), pl.DataFrame(measures, _MEASURES, orient="row")


def _settle_own_sales(returned: pl.DataFrame, sales: pl.DataFrame) -> pl.DataFrame:
    """Return the returns of sales that their own rows give back, with the amounts of these sales, lines that we make too."""
    settled = [
        "line_no", "line_kind", "product_id", "category", "quantity", "is_counted", "unit_price", "currency", "gross", "discount",
    ]  # fmt: skip
    kept = returned.drop(settled)
    joined = kept.join(sales.select("position", *settled), "position", "inner", maintain_order="left_right")
    return joined.select(returned.columns)


def _group_lines(rows: pl.DataFrame) -> Iterator[list[Line]]:
    """Return the lines of each version; `rows` has those of a version together. Sales come first."""
    columns = rows.select(pl.struct(_VERSION).rle_id(), "line_kind", "gross", "discount", "is_return", "is_own_sale")
    for _, lines in groupby(enumerate(columns.iter_rows()), key=lambda line: line[1][0]):
        order = [
            Line(row, kind, to_units(gross), to_units(discount), is_return, is_own_sale)
            for row, (_, kind, gross, discount, is_return, is_own_sale) in lines
        ]
        yield sorted(order, key=lambda line: line.is_return)


def settle_order(lines: Sequence[Line], discount: int, shipping: int, tax: int) -> tuple[list[Line], dict[str, int]]:
    """Return the lines of an order with the lines that its amounts become, and the measures of it.

    `amount` is what the amounts of the order add to the day's net, `uncounted_over_discount` what of its discounts does not
    count. Both are below 0 where they reduce the net. Lines that their own row gives back add nothing.

    >>> settle_order([Line(0, "product", 5_0000, 10_0000), Line(1, "product", 100_0000, 0)], 0, 0, 0)[0]
    [Line(row=0, line_kind='product', gross=50000, discount=50000, is_return=False, is_own_sale=False), \
Line(row=1, line_kind='product', gross=1000000, discount=50000, is_return=False, is_own_sale=False)]
    """
    gives_back = lines[0].is_return
    extras = {"postage": abs(shipping) if gives_back else shipping, "tax": abs(tax) if gives_back else tax}
    pool = discount - sum(amount for amount in extras.values() if amount < 0)
    is_own_sale = all(line.is_own_sale for line in lines)
    added = [Line(None, kind, amount, 0, gives_back, is_own_sale) for kind, amount in extras.items() if amount > 0]
    settled, over = [], 0
    for is_return in (False, True):
        side = [line for line in (*lines, *added) if line.is_return == is_return]
        reduced, rest = _reduce(side, pool if is_return == gives_back else 0)
        settled += reduced
        over += rest if is_return else -rest
    amount = _add_up(settled) - _add_up(lines) + over
    return settled, {"amount": amount, "uncounted_over_discount": over}


def _add_up(lines: Sequence[Line]) -> int:
    """Return what lines add to the net. One that is given back by its own row adds nothing."""
    return sum((line.discount - line.gross) * (1 if line.is_return else -1) for line in lines if not line.is_own_sale)


def _reduce(lines: Sequence[Line], pool: int) -> tuple[list[Line], int]:
    """Spread `pool`, and what discounts are more than their lines, over the lines. Returns them and what is left."""
    pool += sum(max(line.discount - line.gross, 0) for line in lines if line.line_kind != "discount")
    reduced = [line if line.line_kind == "discount" else line._replace(discount=min(line.discount, line.gross)) for line in lines]
    for is_product in (True, False):
        numbers = [n for n, line in enumerate(lines) if (line.line_kind == "product") == is_product]
        of_kind = [n for n in numbers if lines[n].line_kind != "discount"]
        shares = spread(pool, [reduced[n].gross - reduced[n].discount for n in of_kind])
        for n, share in zip(of_kind, shares, strict=True):
            reduced[n] = reduced[n]._replace(discount=reduced[n].discount + share)
        pool -= sum(shares)
    return reduced, pool


def _make_lines(rows: pl.DataFrame, added: list[tuple[int, str, Decimal, Decimal]], currency: str) -> pl.DataFrame:
    """Return the lines that amounts of orders become: copies of a row of their order with kind and amounts of their own."""
    kinds, grosses, discounts, own = ([line[n] for line in added] for n in (1, 2, 3, 4))
    amounts = pl.DataFrame({"line_kind": kinds, "gross": grosses, "discount": discounts}, _MADE_SCHEMA)
    one_piece = pl.lit(Decimal(1)).cast(_MONEY)
    return rows[[line[0] for line in added]].with_columns(
        *amounts, product_id=amounts["line_kind"], category=pl.lit(None, pl.String), unit_price=amounts["gross"],
        currency=pl.lit(currency), quantity=one_piece,
        line_no=amounts["line_kind"].replace_strict(LINE_NUMBERS, return_dtype=pl.Int32),
        is_counted=pl.lit(True), price_source=pl.lit("line"), is_own_sale=pl.Series(own, dtype=pl.Boolean),
        line_id=pl.lit(None, pl.String),
    )  # fmt: skip
