"""Cleaning days of orders: order lines and returns, and the earlier days whose lines a return changes."""

from collections import Counter
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from functools import partial

import polars as pl
import pyarrow.dataset as ds

from jobs.bronze import rates as bronze_rates
from jobs.business_day import FOREVER
from jobs.clean import _ids, _money, _order_rows, _people, _return_days, _rows, orders, orders_rejects, products, returns
from jobs.clean._order_versions import SNAPSHOTS
from jobs.config.policy import load_policy
from jobs.config.settings import Settings
from jobs.config.source_mapping import Source
from jobs.engine.runner import Result, Runner, count_buckets, open_runner
from jobs.engine.tasks import COLLECT, KEEP, Write
from jobs.errors import UserError
from jobs.quality import reconciliation
from jobs.storage.delta import sum_by
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows

_TABLES = (orders.TABLE, orders_rejects.TABLE, returns.TABLE)
_CURRENT = ds.field("known_until").is_null() | (ds.field("known_until") == FOREVER)  # null: of an older lake


def clean_order_days(
    lake: Lake, settings: Settings, source: Source, due: list[date], inputs: dict[date, str], rows_in: dict[date, int]
) -> list[reconciliation.Account]:
    """Clean the orders of the days `due`, and restate the order lines that their returns change. Returns the accounts.

    `inputs` are the fingerprints and `rows_in` the bronze rows of all landed days. Days that share an order of snapshots with
    a due day are cleaned with it.
    """
    due = _add_days_of_moved_orders(lake, due, rows_in)
    n_rows = sum(rows_in[day] for day in due)
    rates = _read_rates(lake, settings, source)
    with open_runner(lake, settings, n_rows) as runner:
        n_buckets = count_buckets(n_rows)
        opened = {table.name: lake.open_for_write(table) for table in _TABLES}
        null_words = load_policy(settings.policy).null_words
        raw = runner.read(
            {"raw": Rows(_order_rows.BRONZE, partial(_order_rows.find_orders, null_words=null_words), days=due)}, n_buckets
        )
        outputs = {
            "lines": KEEP, "returned": COLLECT, "measures": COLLECT, "customers": COLLECT,
            "rejects": Write(orders_rejects.TABLE, gather=True),
        }  # fmt: skip
        classified = runner.run(_choose_kernel(lake, settings, source, rates), raw, outputs)
        opened[orders_rejects.TABLE.name].commit(classified.files["rejects"], due)
        written, restated = _return_days.write_returns(lake, runner, classified, due, rates, source.currency)
        opened[orders.TABLE.name].commit(_build_orders(lake, runner, classified, due, written, n_buckets), written)
    measures = _measure_days(lake, classified, due)
    _ids.log_corrections(orders.TABLE.name, measures.values())
    check_returns(lake, written)
    accounts = _rows.account_days(lake, _count_accepted(lake, due), orders_rejects.TABLE, due, rows_in, inputs, measures)
    return accounts + [_account_returns(lake, day) for day in restated if day not in rows_in]


def _add_days_of_moved_orders(lake: Lake, due: list[date], landed: Iterable[date]) -> list[date]:
    """Return the due days, and the days on which other versions of their orders of snapshots lie, and so on.

    Reads the order numbers of all other days, where the due days have rows of snapshots; nothing else.
    """
    columns = ("order_id", "_delivery", "day")
    all_days, new = set(due), set(due)
    while others := set(landed).difference(all_days):
        rows = _read_orders(lake, Rows(_order_rows.BRONZE, "order_id", columns, new))
        ids = rows.filter(pl.col("_delivery") == SNAPSHOTS)["order_id"].drop_nulls().unique()
        if ids.is_empty():
            break
        same = _read_orders(lake, Rows(_order_rows.BRONZE, "order_id", columns, others, ids.to_arrow().cast("string")))
        new = set(same.filter(pl.col("_delivery") == SNAPSHOTS)["day"])
        all_days |= new
        if not new:
            break
    return sorted(all_days)


def _read_orders(lake: Lake, rows: Rows) -> pl.DataFrame:
    return _rows.to_frame(read_rows(lake.root, rows))


def _read_rates(lake: Lake, settings: Settings, source: Source) -> pl.DataFrame:
    """Return the rates of the source, _money.list_rates; none where it has none."""
    rates = lake.read_arrow(bronze_rates.TABLE) if source.has("rates") else bronze_rates.TABLE.arrow_schema.empty_table()
    return _money.list_rates(rates, settings.clean.rate_days)


def _choose_kernel(lake: Lake, settings: Settings, source: Source, rates: pl.DataFrame) -> partial:
    """Return orders.classify_orders with what it looks up."""
    return partial(
        orders.classify_orders,
        products=products.find_product_validity(lake.read_arrow(products.TABLE)),
        people=_people.read_people(lake, settings, source),
        rates=rates,
        currency=source.currency,
        limits=_order_rows.Limits(
            Decimal(str(settings.clean.most_amount)),
            settings.clean.first_day,
            "quantity" in source.columns("orders"),
            settings.business_time_zone,
        ),
        null_words=load_policy(settings.policy).null_words,
    )


def _account_returns(lake: Lake, day: date) -> reconciliation.Account:
    """Return the account of a day without landed orders, on which an order of another day was given back or cancelled."""
    rows = lake.read_small_table(returns.TABLE, ["return_order_id", "return_line_no", "amount"], ds.field("day") == day)
    inputs = reconciliation.fingerprint_inputs(*sorted(map(str, rows)))
    return reconciliation.Account(day, 0, 0, inputs)


def _build_orders(lake: Lake, runner: Runner, classified: Result, due: list[date], written: list[date], n_buckets: int) -> list:
    """Return the files of clean.orders of the days `written`, with the returns as they are stored now."""
    others = sorted(set(written).difference(due))
    stored = runner.read(
        {
            "stored": Rows(orders.TABLE, "order_id", days=others),
            "returned": Rows(returns.TABLE, returns.find_orders),
        },
        n_buckets,
    )
    kernel = partial(orders.build_orders, days=frozenset(written))
    result = runner.run(kernel, {"lines": classified.kept["lines"], **stored}, {"orders": Write(orders.TABLE, gather=True)})
    return result.files["orders"]


def _measure_days(lake: Lake, classified: Result, days: list[date]) -> dict[date, dict[str, Decimal]]:
    """Return the measures of each day: of the rows that came in, and of its tables, which are written.

    gross - discounts - given_back, in the tables, is what came in less what was refused, repeated and `uncounted`: beyond what
    was sold. `given_back` and `net` are by the day of the rows, which is the refund date or that of the order; with what is
    uncounted of returns they stay as they are when a later day gives a return another line.
    """
    rows, named = (_rows.to_frame(classified.collected[name]) for name in ("measures", "customers"))
    measures: dict[date, dict[str, Decimal]] = {}
    for day, measure, value in rows.group_by("day", "measure").agg(pl.col("value").sum()).iter_rows():
        measures.setdefault(day, {"customers": Decimal(0)})[measure] = value
    for day, n_customers in named.group_by("day").agg(pl.col("customer_id").n_unique()).iter_rows():
        measures[day]["customers"] = Decimal(n_customers)
    within, none = ds.field("day").isin(days), (Decimal(0), Decimal(0))
    sold = sum_by(lake.root, orders.TABLE.name, ["day"], ["gross_amount", "discount_amount"], within & _CURRENT)
    back = sum_by(lake.root, returns.TABLE.name, ["row_day"], ["amount", "over_amount"], ds.field("row_day").isin(days))
    for day, sums in measures.items():
        gross, discounts = sold.get((day,), none)
        given_back, over = back.get((day,), none)
        sums |= {"gross": gross, "discounts": discounts, "given_back": given_back, "net": gross - discounts - given_back}
        sums |= {"uncounted_over_return": -over} if over else {}
    return measures


def check_returns(lake: Lake, days: Iterable[date]) -> None:
    """Raise UserError where clean.orders of these days does not say of the money given back what clean.returns says."""
    by_order: Counter = Counter()
    for (day, order_day), (amount,) in sum_by(lake.root, returns.TABLE.name, ["day", "order_day"], ["amount"]).items():
        by_order[order_day or day] += amount
    within = ds.field("day").isin(list(days)) & _CURRENT
    stated = sum_by(lake.root, orders.TABLE.name, ["day"], ["returned_amount"], within)
    for day in sorted(days):
        amount = stated.get((day,), (Decimal(0),))[0]
        if amount != by_order[day]:
            raise UserError(
                f"reconcile: clean.orders, day {day}: {amount:,.2f} given back, {by_order[day]:,.2f} by clean.returns;"
                f" clean the day again: shoal clean --day {day}"
            )


def _count_accepted(lake: Lake, days: list[date]) -> Counter:
    """Return the accepted source rows by day: each is an order line, or a return line that may stand on several rows.

    Lines with a number below 0 are made of the amounts of an order.
    """
    is_line = ds.field("day").isin(days) & ~ds.field("is_unmatched") & (ds.field("line_no") >= 0) & _CURRENT
    lines = lake.count_by(orders.TABLE.name, ["day"], is_line)
    is_return = ds.field("row_day").isin(days) & ~ds.field("is_own_sale") & (ds.field("return_line_no") >= 0)
    return_lines = lake.count_by(returns.TABLE.name, ["row_day", "shop", "return_order_id", "return_line_no"], is_return)
    return Counter({day: n for (day,), n in lines.items()}) + Counter(day for day, *_ in return_lines)
