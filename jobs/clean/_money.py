"""The money of order lines: rates of foreign currencies, amounts in the home currency, and sums to hold against the tables."""

from collections.abc import Mapping
from datetime import date, timedelta

import duckdb
import polars as pl
import pyarrow as pa

from jobs import parsing
from jobs.clean import _rows, returns, rules
from jobs.storage.lake import Lake

_HOME_RATE = pl.lit("1").cast(pl.Decimal(18, 8))
# A product of quantity, price and rate has 16 digits after the point. It is rounded to six and then to four of them.
_AMOUNTS = """
    WITH amounts AS (
        SELECT
            line_kind = 'discount' AS is_discount,
            unit_price,
            TRY(CAST(CAST(
                CAST(abs(quantity) AS DECIMAL(38,4)) * CAST(unit_price AS DECIMAL(38,4)) * rate AS DECIMAL(38,6)
            ) AS DECIMAL(18,4))) AS gross,
            TRY(CAST(CAST(discount AS DECIMAL(38,4)) * rate AS DECIMAL(18,4))) AS discount
        FROM lines
    )
    SELECT
        CASE WHEN is_discount THEN abs(unit_price) ELSE unit_price END AS unit_price,
        CASE WHEN is_discount AND gross IS NOT NULL THEN 0 ELSE gross END AS gross,
        CASE WHEN is_discount THEN TRY(CAST(CAST(abs(gross) AS DECIMAL(38,4)) + discount AS DECIMAL(18,4))) ELSE discount END
            AS discount
    FROM amounts"""


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


def add_amounts(lines: pl.DataFrame) -> pl.DataFrame:
    """Add `gross`, and turn `discount` into the home currency; null where they are too large or the rate is missing.

    A discount line has no gross, a discount above 0 and a price above 0.
    """
    columns = lines.select("line_kind", "quantity", "unit_price", "discount", "rate").to_arrow()
    with duckdb.connect() as connection:
        connection.register("lines", columns)
        amounts = pl.DataFrame(pl.from_arrow(connection.sql(_AMOUNTS).to_arrow_table()))
    return lines.with_columns(amounts.get_columns())


def measure_rows(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Return sums and counts of the classified order rows of each day: day, measure, value.

    `amount` is what came in before any rule, where a return or a discount counts as less. Beside it what was refused and
    repeated, by rule, and counts that a shop can hold against its own books.
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
    amount = pl.col("gross") - pl.col("discount")
    is_undone = pl.col("kind").is_in(returns.UNDOING) | (pl.col("quantity") < 0)
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
