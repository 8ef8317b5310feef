"""Cleaning days of orders: order lines and returns, and the earlier days whose lines a return changes."""

from collections import Counter
from datetime import date
from decimal import Decimal

import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.clean import _money, _rows, customers, orders, orders_rejects, products, returns
from jobs.config.settings import Settings
from jobs.config.source_mapping import Source
from jobs.quality import reconciliation
from jobs.storage.lake import Cache, Lake, with_cached_frames

_NO_RATES = "rated_on STRING, currency STRING, rate STRING, _file STRING, _row BIGINT"


@with_cached_frames
def clean_order_days(
    cache: Cache, lake: Lake, settings: Settings, source: Source, due: list[date], inputs: dict[date, str],
    rows_in: dict[date, int],
) -> list[reconciliation.Account]:  # fmt: skip
    """Clean the orders of the days `due`, and restate the order lines that their returns change. Returns the accounts.

    `inputs` are the fingerprints and `rows_in` the bronze rows of all landed days.
    """
    raw = _read_bronze(lake, due)
    rates = lake.read("bronze.rates") if "rates" in source.mappings else lake.spark.createDataFrame([], _NO_RATES)
    lookups = (lake.read(products.TABLE), lake.read(customers.TABLE), rates)
    limits = (settings.clean.max_customers_per_mail, settings.clean.rate_days)
    outcomes = cache(orders.classify_orders(raw, *lookups, source.currency, *limits))
    _rows.write_rejects(lake, outcomes, raw, orders_rejects.TABLE, due)
    written = orders.write_orders(lake, outcomes, due)
    measures = _money.measure_days(lake, outcomes, due)
    _money.check_returns(lake, written)
    # every accepted row is an order line, or a return line that may stand on several rows
    is_due = ds.field("day").isin(due)
    lines = lake.count_by(orders.TABLE.name, ["day"], is_due & (ds.field("quantity") > Decimal("0.0000")))
    return_lines = lake.count_by(returns.TABLE.name, ["day", "return_order_id", "return_line_no"], is_due)
    rows_out = Counter({day: n for (day,), n in lines.items()}) + Counter(day for day, *_ in return_lines)
    return _rows.account_days(lake, rows_out, orders_rejects.TABLE, due, rows_in, inputs, measures)


def _read_bronze(lake: Lake, days: list[date]) -> DataFrame:
    """Return the rows of bronze.orders of these days. In an older lake original_order_id has its old name, undoes_order_id."""
    raw = lake.read("bronze.orders", days[0], days[-1]).where(F.col("day").isin(*days))
    names = [name for name in ("original_order_id", "undoes_order_id") if name in raw.columns]
    return raw.withColumn("original_order_id", F.coalesce(*names))
