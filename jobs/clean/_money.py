"""The money of the orders as received and as it is in the tables: it must be equal to the cent."""

from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal

import pyarrow.dataset as ds
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.clean import orders, returns, rules
from jobs.errors import UserError
from jobs.storage.delta import sum_by
from jobs.storage.lake import Lake

_MEASURE = "DECIMAL(18,4)"


def measure_days(lake: Lake, outcomes: DataFrame, days: list[date]) -> dict[date, dict[str, Decimal]]:
    """Return sums of each of `days`, in the home currency, after its tables are written.

    `amount` is what came in before any rule, where a return or a discount counts as less: gross - discounts - given_back in
    the tables, and what was refused and repeated, by rule. `given_back` and `net` are by refund date, so that a later
    day leaves them as they are. Beside it counts that a shop can hold against its own books.
    """
    first, amount = F.get("rules", F.lit(0)), _amount()
    apart = {
        f"{kind}_{rule}": F.sum(F.when((F.col("outcome") == outcome) & (first == rule), amount))
        for kind, outcome in ((rules.REFUSED, "reject"), (rules.REPEATED, "duplicate"))
        for rule in sorted(r.name for r in rules.RULES if (r.table, r.kind) == ("orders", kind))
    }
    counted = {
        "amount": F.sum(amount),
        "without_amount": F.count_if(amount.isNull()),
        "without_customer": F.count_if(F.col("is_guest")),
        "undoing_lines": F.count_if(F.col("kind").isin(*orders.UNDOING)),
        "orders": F.count_distinct("order_id"),
        "customers": F.count_distinct("customer_id"),
        **apart,
    }
    rows = outcomes.groupBy("day").agg(*(value.cast(_MEASURE).alias(name) for name, value in counted.items())).collect()
    came_in = {row.day: {name: row[name] for name in counted if row[name] is not None} for row in rows}
    within, none = ds.field("day").isin(days), (Decimal(0), Decimal(0))
    sold = sum_by(lake.root, orders.TABLE.name, ["day"], ["gross_amount", "discount_amount"], within)
    back = sum_by(lake.root, returns.TABLE.name, ["day"], ["amount"], within)
    for day, found in came_in.items():
        gross, discounts = sold.get((day,), none)
        given_back = back.get((day,), none)[0]
        found |= {"gross": gross, "discounts": discounts, "given_back": given_back, "net": gross - discounts - given_back}
    return came_in


def read_rates(lake: Lake) -> dict[date, list[tuple[str, str]]]:
    """Return the rates of each day as they were landed, the last of each currency."""
    found: dict[date, dict[str, str]] = {}
    rows = lake.read_small_table("bronze.rates", ["day", "currency", "rate", "_file", "_row"])
    for row in sorted(rows, key=lambda row: (row["_file"], row["_row"])):
        found.setdefault(row["day"], {})[row["currency"]] = row["rate"]
    return {day: sorted(of_day.items(), key=str) for day, of_day in found.items()}


def rates_for(rates: Mapping[date, list], day: date, rate_days: int) -> list:
    """Return the rates that orders of a day may take."""
    return [rate for back in range(rate_days + 1) for rate in rates.get(day - timedelta(days=back), [])]


def _amount() -> Column:
    """What a row adds to the day's net by itself; null where it cannot be read."""
    amount = F.col("gross") - F.col("discount")
    less = F.when(F.col("line_kind") == "discount", False).otherwise(
        F.col("kind").isin(*orders.UNDOING) | (F.col("quantity") < 0)
    )
    return F.when(less, -amount).otherwise(amount)


def check_returns(lake: Lake, days: list[date]) -> None:
    """Raise UserError where clean.orders of these days does not say of the money given back what clean.returns says."""
    by_order: Counter = Counter()
    for (day, order_day), (amount,) in sum_by(lake.root, returns.TABLE.name, ["day", "order_day"], ["amount"]).items():
        by_order[order_day or day] += amount
    stated = sum_by(lake.root, orders.TABLE.name, ["day"], ["returned_amount"], ds.field("day").isin(days))
    for day in sorted(days):
        found = stated.get((day,), (Decimal(0),))[0]
        if found != by_order[day]:
            raise UserError(
                f"reconcile: clean.orders, day {day}: {found:,.2f} given back, {by_order[day]:,.2f} by clean.returns;"
                f" clean the day again: shoal clean --day {day}"
            )
