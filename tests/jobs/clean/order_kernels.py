"""The kernels of clean.orders run on rows of a test, without a lake; and days of orders cleaned in a lake."""

from dataclasses import replace
from datetime import date

import polars as pl
import pyarrow as pa

from jobs.bronze import rates
from jobs.clean import _money, _order_days, _people, customers, orders, products, returns
from jobs.config.settings import Clean, load_settings
from jobs.config.source_mapping import COLUMNS, Source, TableMapping
from jobs.quality.reconciliation import Account
from jobs.storage.lake import Lake
from tests.jobs.clean.kernels import NULL_WORDS

SHOP = Source("shop", "GBP", {"orders": (TableMapping("orders", "*", {c: c for c in COLUMNS["orders"]}),)})
NO_PRODUCTS, NO_CUSTOMERS, NO_RATES = (
    table.arrow_schema.empty_table() for table in (products.TABLE, customers.TABLE, rates.TABLE)
)
LIMITS = orders.Limits()


def classify(
    raw: pa.Table, listed: pa.Table = NO_PRODUCTS, people: pa.Table = NO_CUSTOMERS, rated: pa.Table = NO_RATES,
    rate_days: int = 0, limits: orders.Limits = LIMITS,
) -> dict[str, pa.Table]:  # fmt: skip
    """Return the outputs of orders.classify_orders."""
    named = _people.list_people(people, None, customers.NO_SHARED, 1)
    lookups = (products.find_product_validity(listed), named, _money.list_rates(rated, rate_days))
    return orders.classify_orders({"raw": raw}, *lookups, "GBP", limits, NULL_WORDS)


def match(classified: dict[str, pa.Table], rated: pa.Table = NO_RATES, rate_days: int = 0) -> tuple[pa.Table, pa.Table]:
    """Return clean.orders and clean.returns of classified rows, all days at once."""
    lines, returned = (pl.DataFrame(pl.from_arrow(classified[name])) for name in ("lines", "returned"))
    listed = _money.list_rates(rated, rate_days)
    sides = (_money.add_rate(rows, listed, "GBP") for rows in (orders.to_matchable(lines), returned))
    matched = returns.match_returns(*sides).to_arrow()
    days = frozenset(pl.concat([lines["day"], returned["day"]]))
    tables = {"lines": classified["lines"], "stored": orders.TABLE.arrow_schema.empty_table(), "returned": matched}
    return orders.build_orders(tables, days)["orders"], matched


def clean_days(lake: Lake, raw: pa.Table, days: list[date]) -> dict[date, Account]:
    """Land rows in the place of those of these days, and clean these days. Returns their accounts."""
    lake.replace_rows(orders.BRONZE, raw, days)
    rows_in = {day: n for (day,), n in lake.count_by(orders.BRONZE.name, ["day"]).items()}
    settings = replace(load_settings({}), clean=Clean())
    accounts = _order_days.clean_order_days(lake, settings, SHOP, days, dict.fromkeys(days, "inputs"), rows_in)
    return {account.day: account for account in accounts}
