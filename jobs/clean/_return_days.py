"""Matching the returns of days that are cleaned, and stored returns that compete with them for order lines.

The order of a changed line may give its returns other lines, which leaves more or less to returns that are matched by price.
So these prices are matched again too. What other orders give back of lines of these prices stays, and is needed to know what
is left of them.
"""

from datetime import date
from functools import partial
from typing import NamedTuple

import polars as pl
import pyarrow.compute as pc

from jobs.clean import _money, _rows, orders, returns
from jobs.engine.runner import Result, Runner
from jobs.engine.tasks import COLLECT
from jobs.quality import reconciliation
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows

_NONE = pl.Series([], dtype=pl.String)
_RETURN = ["row_day", "shop", "return_order_id", "return_line_no"]
_LINE = ["shop", "order_id", "line_no", "day"]


class Affected(NamedTuple):
    """Keys of orders and prices whose returns are matched again, of further orders that this needs, and their lines.

    `rows` are rows of clean.orders of other days than the due ones, these lines and more.
    """

    orders: pl.Series
    prices: pl.Series
    needed_orders: pl.Series
    rows: pl.DataFrame

    @property
    def keys(self) -> pl.Series:
        """The keys of the returns that are matched again."""
        return pl.concat([self.orders, self.prices])


def write_returns(
    lake: Lake, runner: Runner, classified: Result, due: list[date], rates: pl.DataFrame, currency: str
) -> tuple[list[date], list[date]]:
    """Match the returns of the due days, and stored ones that compete with them; write clean.returns.

    Returns the days of clean.orders to write: the due days, and the others on which that changes a row; and all days other than
    the due ones of which the two tables now say something else, which have another revision.
    """
    keys = (returns.order_key("return_order_id"), returns.price_key())
    stored = returns.fill_rows(_rows.to_frame(lake.read_arrow(returns.TABLE))).with_columns(*keys)
    returned, is_due = _rows.to_frame(classified.collected["returned"]), pl.col("row_day").is_in(due)
    lines = _select_lines(runner, classified, _list_keys(returned, stored))
    others = stored.filter(~is_due)
    changed = [returned, lines, stored.filter(is_due | pl.col("order_day").is_in(due))]
    affected = _find_affected(lake, due, changed, others, _list_keys(returned, others))
    all_keys = pl.concat([affected.keys, affected.needed_orders])
    earlier = affected.rows.filter(~pl.col("is_unmatched"))
    sold = pl.concat([lines, orders.to_matchable(earlier).filter(orders.has_key(all_keys))])
    back = pl.concat([returned, returns.restore_returned(others.filter(orders.has_key(all_keys)))])
    matched = returns.match_returns(*(_money.add_rate(rows, rates, currency) for rows in (sold, back)))
    is_affected = orders.has_key(affected.keys)
    kept = others.filter(~is_affected).select(returns.TABLE.columns)
    matched = pl.concat(
        [matched.join(kept, _RETURN, "anti", nulls_equal=True), kept.join(matched, _RETURN, "semi", nulls_equal=True)]
    )
    changing = orders.to_matchable(earlier).filter(is_affected).select(_LINE)
    changing = earlier.join(changing, _LINE, "semi", nulls_equal=True, maintain_order="left")
    before = stored.filter(is_due | is_affected)
    alone = _find_alone(affected.rows, before)
    of_lines = orders.find_restated_days(pl.concat([changing, alone]), matched, due)
    of_returns = returns.find_changed_days(before, matched.join(kept, _RETURN, "anti", nulls_equal=True))
    restated = sorted({*of_lines, *of_returns}.difference(due))
    cause = reconciliation.fingerprint_inputs(*sorted(map(str, matched.rows()))) if restated else ""
    reconciliation.mark_restated(lake, orders.TABLE.name, restated, cause)
    lake.replace_rows(returns.TABLE, pl.concat([kept.join(matched, _RETURN, "anti", nulls_equal=True), matched]).to_arrow())
    return sorted({*due, *of_lines}), restated


def _find_affected(
    lake: Lake, due: list[date], changed: list[pl.DataFrame], others: pl.DataFrame, returned: pl.Series
) -> Affected:
    """Return what the changed lines and returns affect. `others` are the stored returns of other days, `returned` all keys."""
    touched, prices = (_take_keys(changed, name, returned) for name in ("order_key", "price_key"))
    rows = _read_rows(lake, due, touched, _find_products(changed, prices))
    again = others.filter(pl.col("order_key").is_in(touched.implode()))
    of_orders = orders.to_matchable(rows.filter(~pl.col("is_unmatched"))).filter(pl.col("order_key").is_in(touched.implode()))
    more = _take_keys([of_orders, again], "price_key", returned)
    more = more.filter(~more.is_in(prices.implode()))
    alone = again.filter(pl.col("order_id").is_null()).select(key=returns.order_key("return_order_id"))["key"]
    rows = pl.concat([rows, _read_rows(lake, due, alone, _find_products([of_orders, again], more))])
    prices = pl.concat([prices, more])
    by_price = [orders.to_matchable(rows.filter(~pl.col("is_unmatched"))), others]
    needed = _take_keys([part.filter(pl.col("price_key").is_in(prices.implode())) for part in by_price], "order_key", returned)
    needed = needed.filter(~needed.is_in(touched.implode()))
    rows = pl.concat([rows, _read_rows(lake, due, needed, _NONE)])
    return Affected(touched, prices, needed, rows.unique([*_LINE, "known_from", "is_unmatched"], maintain_order=True))


def _find_products(rows: list[pl.DataFrame], prices: pl.Series) -> pl.Series:
    """Return the products of the rows with one of these keys of a price."""
    return _take_keys([part.filter(pl.col("price_key").is_in(prices.implode())) for part in rows], "product_id")


def _select_lines(runner: Runner, classified: Result, keys: pl.Series) -> pl.DataFrame:
    """Return the order lines of the due days that have one of these keys of matching."""
    kernel = partial(orders.select_lines, keys=keys)
    selected = runner.run(kernel, {"lines": classified.kept["lines"]}, {"lines": COLLECT})
    return _rows.to_frame(selected.collected["lines"])


def _find_alone(rows: pl.DataFrame, returned: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of clean.orders of those of these returns that had no line."""
    alone = returned.filter(pl.col("order_id").is_null())
    ids = alone.select("shop", "day", order_id="return_order_id", line_no="return_line_no")
    return rows.filter("is_unmatched").join(ids, ids.columns, "semi", nulls_equal=True)


def _read_rows(lake: Lake, due: list[date], order_keys: pl.Series, product_ids: pl.Series) -> pl.DataFrame:
    """Return the rows of clean.orders of other days than the due ones, of these orders or products."""
    days = set(lake.days(orders.TABLE.name)).difference(due) if len(order_keys) + len(product_ids) else ()
    ids = {"order_id": returns.list_order_ids(order_keys), "product_id": product_ids}
    is_in = [pc.field(name).isin(values.to_arrow().cast("string")) for name, values in ids.items()]
    rows = _rows.to_frame(read_rows(lake.root, Rows(orders.TABLE, "order_id", days=days, where=is_in[0] | is_in[1])))
    return orders.fill_versions(rows)


def _take_keys(rows: list[pl.DataFrame], column: str, among: pl.Series | None = None) -> pl.Series:
    """Return the distinct values of a column of several tables, those `among` others where given."""
    values = pl.concat([part[column] for part in rows]).drop_nulls().unique()
    return values if among is None else values.filter(values.is_in(among.implode()))


def _list_keys(*rows: pl.DataFrame) -> pl.Series:
    """Return the keys of matching of these rows, of orders and of prices."""
    return _take_keys([part.select(key=pl.col(name)) for part in rows for name in ("order_key", "price_key")], "key")
