"""The money of order lines: rates of foreign currencies, amounts in the home currency, and sums to hold against the tables."""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from functools import reduce
from operator import or_

import duckdb
import polars as pl
import pyarrow as pa

from jobs import parsing
from jobs.clean import _rows, returns, rules
from jobs.storage.lake import Lake

_HOME_RATE = pl.lit("1").cast(pl.Decimal(18, 8))
# A product of quantity, price and rate has 20 digits after the point, and is rounded once.
_GROSS = "pieces * abs(exact_price) * rate"
_AMOUNTS = """
    SELECT
        abs({unit_price}) AS unit_price,
        TRY(CAST({gross} AS DECIMAL(18,4))) AS gross,
        TRY(CAST(abs(discount) * rate AS DECIMAL(18,4))) AS discount,
        {order_amounts}
    FROM (SELECT *, abs(CAST(quantity AS DECIMAL(24,4))) AS pieces FROM lines)"""
_GROSS_OF_AMOUNT = f"CASE WHEN line_amount IS NOT NULL THEN abs(line_amount) * rate ELSE {_GROSS} END"
_PRICE_OF_AMOUNT = """coalesce(unit_price, TRY(CAST(
        (2 * CAST(abs(line_amount) * 100000000 AS HUGEINT) + CAST(pieces * 10000 AS HUGEINT))
        // (2 * CAST(pieces * 10000 AS HUGEINT)) * CAST(0.0001 AS DECIMAL(5,4)) AS DECIMAL(18,4)
    )))"""
_MONEY = pl.Decimal(18, 4)
_MORE_DIGITS = r"\.[0-9]{5}|[eE]"  # than the four of a price that is shown
_ORDER_AMOUNTS = ("order_discount", "order_shipping", "order_tax")


def list_rates(raw: pa.Table, rate_days: int) -> pl.DataFrame:
    """Return when each rate of bronze.rates holds: currency, since, until (exclusive), rate.

    The last row of a day counts. A rate holds until the next one, and for `rate_days` days after its own at most.
    """
    rows = pl.DataFrame([_rows.take_column(raw, name) for name in ("currency", "_file", "_row")]).with_columns(
        since=parsing.parse_time(_rows.take_column(raw, "rated_on")).dt.date(),
        rate=parsing.parse_rate(_rows.take_column(raw, "rate")),
        currency=pl.col("currency").str.strip_chars(" ").str.to_uppercase(),
    )
    in_order = rows.drop_nulls(["currency", "since"]).sort("currency", "since", "_file", "_row")
    last_of_day = in_order.unique(["currency", "since"], keep="last", maintain_order=True)
    ends = pl.col("since") + pl.duration(days=rate_days + 1)
    until = pl.min_horizontal(pl.col("since").shift(-1).over("currency"), ends)
    return last_of_day.select("currency", "since", "rate", until=until)


def add_rate(lines: pl.DataFrame, rates: pl.DataFrame, currency: str) -> pl.DataFrame:
    """Add `rate`, home currency units per unit of the currency of each line; null where there is none above 0."""
    is_valid = (pl.col("day") >= pl.col("since")) & (pl.col("day") < pl.col("until")) & (pl.col("rate") > 0)
    asked = lines.select("currency", "day").unique().join(rates, "currency", "inner").filter(is_valid)
    rated = lines.join(asked.select("currency", "day", "rate"), ["currency", "day"], "left", maintain_order="left")
    return rated.with_columns(rate=pl.when(pl.col("currency") == currency).then(_HOME_RATE).otherwise("rate"))


def parse_amounts(raw: pa.Table) -> pl.DataFrame:
    """Return quantity, prices and amounts of each row of bronze.orders as numbers in the currency of the row.

    `exact_price` and `line_amount` have eight digits after the point, `unit_price` is the price rounded to four. A discount
    that is not stated is 0. `is_counted` says whether the row has a quantity, `is_priced` a price or an amount,
    `has_bad_amount` an amount, beside the price and the discount, that is no number.
    """
    names = ["quantity", "unit_price", "line_amount", "discount_amount", *_ORDER_AMOUNTS]
    is_sent = parsing.clean_texts(raw, names).select(pl.all().is_not_null())
    texts = {name: _rows.take_column(raw, name) for name in names}
    parsed = pl.DataFrame([parsing.parse_number(texts[name], 8 if name == "line_amount" else 4) for name in names])
    prices = parsed["unit_price"].cast(pl.Decimal(22, 8))
    if texts["unit_price"].str.contains(_MORE_DIGITS).any():
        prices = parsing.parse_number(texts["unit_price"], 8)
    parsed = parsed.with_columns(prices.alias("exact_price"))
    is_bad = [is_sent[name] & parsed[name].is_null() for name in ("line_amount", *_ORDER_AMOUNTS)]
    flags = pl.DataFrame({
        "is_counted": is_sent["quantity"],
        "has_amount": is_sent["line_amount"],
        "is_priced": is_sent["unit_price"] | is_sent["line_amount"],
        "is_bad_discount": is_sent["discount_amount"] & parsed["discount_amount"].is_null(),
        "has_bad_amount": reduce(or_, is_bad),
    })  # fmt: skip
    no_discount = pl.Series([Decimal(0)], dtype=_MONEY)
    discount = parsed["discount_amount"].zip_with(is_sent["discount_amount"], no_discount.new_from_index(0, len(parsed)))
    return parsed.drop("discount_amount").hstack([*flags, discount.alias("discount")])


def add_amounts(lines: pl.DataFrame, most: Decimal) -> pl.DataFrame:
    """Add `gross`, turn the discount and the amounts of the order into the home currency, and say what `is_implausible`.

    The gross is the line's amount, else quantity times exact price, whatever their signs. Null where the rate is missing or
    an amount is above `most`. A discount line has no gross; discounts and prices are not below 0.
    """
    limited = ["gross", "discount", *_ORDER_AMOUNTS]
    most_money = pl.lit(most).cast(_MONEY)
    amounts = _multiply(lines).with_columns(pl.when(pl.col(c).abs() <= most_money).then(c).alias(c) for c in limited)
    gross = pl.coalesce("line_amount", pl.when(pl.col("quantity").is_not_null()).then("exact_price"))
    is_stated = lines.select(pl.col(limited[1:]).is_not_null(), gross=gross.is_not_null())
    too_large = [is_stated[c] & amounts[c].is_null() & lines["rate"].is_not_null() for c in limited]
    is_discount = pl.col("line_kind") == "discount"
    return lines.with_columns(*amounts, is_implausible=reduce(or_, too_large)).with_columns(
        gross=pl.when(is_discount & pl.col("gross").is_not_null()).then(pl.lit(0).cast(_MONEY)).otherwise("gross"),
        discount=pl.when(is_discount).then((pl.col("gross") + pl.col("discount")).cast(_MONEY)).otherwise("discount"),
    )


def _multiply(lines: pl.DataFrame) -> pl.DataFrame:
    """Return prices, gross, discount and the amounts of the order, in the home currency but for the price."""
    names = ["quantity", "unit_price", "exact_price", "line_amount", "discount", *_ORDER_AMOUNTS, "rate"]
    has = {name: lines[name].null_count() < len(lines) for name in names}  # most sources lack most of them
    query = _AMOUNTS.format(
        unit_price=_PRICE_OF_AMOUNT if has["line_amount"] else "unit_price",
        gross=_GROSS_OF_AMOUNT if has["line_amount"] else _GROSS,
        order_amounts=", ".join(
            f"TRY(CAST({'abs' if name == 'order_discount' else ''}({name}) * rate AS DECIMAL(18,4))) AS {name}"
            if has[name] else f"{name}" for name in _ORDER_AMOUNTS
        ),
    )  # fmt: skip
    with duckdb.connect() as connection:
        connection.register("lines", lines.select(names).to_arrow())
        return _rows.to_frame(connection.sql(query).to_arrow_table())


def measure_rows(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Return sums and counts of the classified order rows of each day: day, measure, value.

    `amount` is what came in before any rule, where a return or a discount counts as less; implausible amounts are no money.
    Beside it what was refused and repeated, by rule, and counts that a shop can hold against its own books.
    """
    amount = pl.col("amount")
    sums = {"amount": amount} | {
        f"{kind}_{rule}": amount.filter((pl.col("outcome") == outcome) & (pl.col("rule") == rule))
        for kind, outcome in ((rules.REFUSED, "reject"), (rules.REPEATED, "duplicate"))
        for rule in sorted(r.name for r in rules.RULES if (r.table, r.kind) == ("orders", kind))
    }
    counts = {
        "without_amount": amount.is_null().sum(),
        "without_customer": pl.col("is_guest").sum(),
        "undoing_lines": pl.col("kind").is_in(returns.UNDOING).sum(),
        "orders": pl.struct("shop", "order_id").filter(pl.col("order_id").is_not_null()).n_unique(),
    }
    first_rules = outcomes.with_columns(amount=_amount(), rule=pl.col("rules").list.first())
    value = pl.Decimal(38, 4)
    measures = {name: pl.when(rows.count() > 0).then(rows.sum()).cast(value) for name, rows in sums.items()}
    measures |= {name: count.cast(value) for name, count in counts.items()}
    return first_rules.group_by("day").agg(**measures).unpivot(index="day", variable_name="measure").drop_nulls()


def _amount() -> pl.Expr:
    """What a row adds to the day's net by itself; null where it cannot be read."""
    amount = (pl.col("gross") - pl.col("discount")).cast(pl.Decimal(38, 4))
    is_negative = pl.any_horizontal((pl.col(c) < 0).fill_null(False) for c in ("quantity", "exact_price", "line_amount"))
    is_undone = pl.col("kind").is_in(returns.UNDOING) | is_negative  # of other kinds than returns too, such as adjustments
    amount = pl.when(pl.col("is_own_sale")).then(amount - amount).otherwise(amount)  # sold and given back by one row
    return pl.when((pl.col("line_kind") != "discount") & is_undone).then(-amount).otherwise(amount)


def read_rates(lake: Lake) -> dict[date, list[tuple[str, str]]]:
    """Return the rates of each day as they were landed, the last of each currency."""
    by_day: dict[date, dict[str, str]] = {}
    rows = lake.read_small_table("bronze.rates", ["day", "currency", "rate", "_file", "_row"])
    for row in sorted(rows, key=lambda row: (row["_file"], row["_row"])):
        by_day.setdefault(row["day"], {})[row["currency"]] = row["rate"]
    return {day: sorted(rates.items(), key=str) for day, rates in by_day.items()}


def rates_for(rates: Mapping[date, list], day: date, rate_days: int) -> list:
    """Return the rates that orders of a day may take."""
    return [rate for back in range(rate_days + 1) for rate in rates.get(day - timedelta(days=back), [])]
