"""The money of whole orders: discounts spread over their lines, postage and tax as lines of their own.

Rules that may be debated:
- A discount, postage or tax of the order stands on one of its rows or the same on each, and is taken once. Other values on
  the rows are shares of it, and are added up; 0 is no value.
- A discount of the order, and what the discount of a line is more than the line, is spread over the product lines in
  proportion to the money left on them, then over the other lines. What the order does not cost is `over_discount`, which
  counts nowhere.
- Postage and tax below 0 reduce the order. Rows that are all returns give the amounts of their order back.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

import polars as pl

from jobs.clean import returns
from jobs.clean._spreading import from_units, spread, to_units

LINE_NUMBERS = {"postage": -1, "tax": -2}  # of the lines that we make; numbers of a source are not below 0
_AMOUNTS = ("order_discount", "order_shipping", "order_tax")
_ORDER = ["order_id", "day"]
_ZERO = Decimal(0)
_MONEY = pl.Decimal(18, 4)
_MADE_SCHEMA = {"line_kind": pl.String, "gross": _MONEY, "discount": _MONEY}
_MEASURES = {"day": pl.Date, "measure": pl.String, "value": pl.Decimal(38, 4)}


class Settled(NamedTuple):
    """Kept rows with the money of their orders settled, and measures (day, measure, value) of what was settled."""

    rows: pl.DataFrame
    measures: pl.DataFrame


class Line(NamedTuple):
    """A line of an order: amounts in units of 0.0001, home currency; `row` is its place, None for a line that we make."""

    row: int | None
    line_kind: str
    gross: int
    discount: int
    is_return: bool = False


def settle_orders(kept: pl.DataFrame, outcomes: pl.DataFrame, currency: str) -> Settled:
    """Settle the money of orders. Key: order and day.

    `kept` are the kept rows with line_no; `outcomes` all rows, of which refused ones may state amounts of a kept order.
    About 10 µs of CPU a row of an order with such amounts, none for others.
    """
    stated = _find_order_amounts(outcomes)
    has_surplus = (pl.col("line_kind") != "discount") & (pl.col("discount") > pl.col("gross"))
    concerned = pl.concat([stated.select(_ORDER), kept.filter(has_surplus).select(_ORDER)]).unique()
    rows = kept.join(concerned, _ORDER, "semi").sort(*_ORDER, "line_no", "_file", "_row")
    if not len(rows):
        return Settled(kept, pl.DataFrame(schema=_MEASURES))
    stated = rows.select(_ORDER).unique(maintain_order=True).join(stated, _ORDER, "left", maintain_order="left")
    discounts, added, measures = list(rows["discount"]), [], []
    for lines, (_, day, *amounts, differs) in zip(_group_lines(rows), stated.iter_rows(), strict=True):
        settled, counted = settle_order(lines, *(to_units(amount or _ZERO) for amount in amounts))
        for line in settled:
            if line.row is None:
                added.append((lines[0].row, line.line_kind, from_units(line.gross), from_units(line.discount)))
            else:
                discounts[line.row] = from_units(line.discount)
        measures += [(day, name, from_units(units)) for name, units in counted.items()]
        measures += [(day, "differing_order_amounts", Decimal(1))] if differs else []
    settled = rows.with_columns(discount=pl.Series(discounts, dtype=_MONEY))
    all_rows = pl.concat([kept.join(concerned, _ORDER, "anti"), settled, _make_lines(settled, added, currency)])
    return Settled(all_rows, pl.DataFrame(measures, _MEASURES, orient="row"))


def _find_order_amounts(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the amounts of the orders that have any, and whether the values on their rows differ. Repeated rows have none."""
    has_any = pl.any_horizontal((pl.col(name) != 0).fill_null(False) for name in _AMOUNTS)
    values = {name: pl.col(name).filter(pl.col(name) != 0) for name in _AMOUNTS}
    amounts = {
        name: pl.when(value.n_unique() == 1).then(value.first()).otherwise(value.sum()).cast(_MONEY)
        for name, value in values.items()
    }
    differs = pl.any_horizontal(value.n_unique() > 1 for value in values.values())
    stated = rows.lazy().select(*_ORDER, *_AMOUNTS, "outcome").filter(has_any & (pl.col("outcome") != "duplicate")).collect()
    return stated.group_by(_ORDER).agg(**amounts, differs=differs)


def _group_lines(rows: pl.DataFrame) -> Iterator[list[Line]]:
    """Return the lines of each order; `rows` has those of an order together. Sales come first."""
    columns = rows.select(*_ORDER, "line_kind", "gross", "discount", is_return=pl.col("kind").is_in(returns.UNDOING))
    for _, lines in groupby(enumerate(columns.iter_rows()), key=lambda line: line[1][:2]):
        order = [
            Line(row, kind, to_units(gross), to_units(discount), is_return)
            for row, (_, _, kind, gross, discount, is_return) in lines
        ]
        yield sorted(order, key=lambda line: line.is_return)


def settle_order(lines: Sequence[Line], discount: int, shipping: int, tax: int) -> tuple[list[Line], dict[str, int]]:
    """Return the lines of an order with the lines that its amounts become, and the measures of it.

    `amount` is what the amounts of the order add to the day's net, `uncounted_over_discount` what of its discounts does not
    count. Both are below 0 where they reduce the net.

    >>> settle_order([Line(0, "product", 5_0000, 10_0000), Line(1, "product", 100_0000, 0)], 0, 0, 0)[0]
    [Line(row=0, line_kind='product', gross=50000, discount=50000, is_return=False), \
Line(row=1, line_kind='product', gross=1000000, discount=50000, is_return=False)]
    """
    gives_back = lines[0].is_return
    extras = {"postage": abs(shipping) if gives_back else shipping, "tax": abs(tax) if gives_back else tax}
    pool = discount - sum(amount for amount in extras.values() if amount < 0)
    added = [Line(None, kind, amount, 0, gives_back) for kind, amount in extras.items() if amount > 0]
    settled, over = [], 0
    for is_return in (False, True):
        side = [line for line in (*lines, *added) if line.is_return == is_return]
        reduced, rest = _reduce(side, pool if is_return == gives_back else 0)
        settled += reduced
        over += rest if is_return else -rest
    amount = sum(line.gross for line in added) - pool
    return settled, {"amount": -amount if gives_back else amount, "uncounted_over_discount": over}


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
    kinds, grosses, discounts = ([line[n] for line in added] for n in (1, 2, 3))
    amounts = pl.DataFrame({"line_kind": kinds, "gross": grosses, "discount": discounts}, _MADE_SCHEMA)
    one_piece = pl.lit(Decimal(1)).cast(_MONEY)
    return rows[[line[0] for line in added]].with_columns(
        *amounts, product_id=amounts["line_kind"], category=pl.lit(None, pl.String), unit_price=amounts["gross"],
        currency=pl.lit(currency), quantity=one_piece,
        line_no=amounts["line_kind"].replace_strict(LINE_NUMBERS, return_dtype=pl.Int32),
        is_counted=pl.lit(True), price_source=pl.lit("line"),
    )  # fmt: skip
