"""clean.orders: every rule of money as an example, and returns that come on a later day."""

from datetime import date

import pytest

from jobs.clean import _rows, orders, returns
from jobs.source import COLUMNS
from tests.jobs.clean import scenarios

PRODUCTS = [("mug", "2024-01-01", "kitchen", "2.00"), ("mug", "2024-03-05", "kitchen", "3.00")]


@pytest.fixture(scope="module")
def outcome(spark):
    """(clean.orders rows, refused rows) by case, all cases in one go."""
    raw = scenarios.raw_frame(spark, "orders", COLUMNS["orders"], "ordered_at")
    products = spark.createDataFrame(PRODUCTS, "product_id STRING, day STRING, category STRING, price STRING").selectExpr(
        "product_id", "CAST(day AS DATE) AS day", "category", "CAST(price AS DECIMAL(18,4)) AS price", "'GBP' AS currency"
    )
    mails = [
        (f"{case}~{who}", f"{case}~{mail}", since)
        for case in scenarios.cases("orders")
        for who, mail, since in [
            ("anna", "mail of anna", "2024-02-15"),
            ("bert", "shared mail", "2024-02-15"),
            ("carl", "shared mail", "2024-02-15"),
        ]
    ]
    customers = spark.createDataFrame(mails, "customer_id STRING, email_key STRING, day STRING").selectExpr(
        "customer_id", "email_key", "CAST(day AS DATE) AS day"
    )
    rates = spark.createDataFrame(
        [("2024-03-01", "EUR", "0.85", "r", 1)], "rated_on STRING, currency STRING, rate STRING, _file STRING, _row BIGINT"
    )
    judged = orders.judged(raw, products, customers, rates, "GBP").persist()
    lines, returned = orders.entries(judged)
    lines = lines.withColumnsRenamed({"gross": "gross_amount", "discount": "discount_amount"})
    undone = returns.returns(lines.select(*orders._LINE), returned.select(*orders._LINE))
    kept = scenarios.by_case(orders.orders(lines, undone))
    refused = scenarios.by_case(_rows.rejects(judged, raw, orders.REJECTS))
    judged.unpersist()
    return kept, refused


@pytest.mark.parametrize("case", scenarios.cases("orders"))
def test_orders_become_what_the_example_says(outcome, case):
    kept, refused = outcome
    scenarios.assert_rows(kept.get(case, []), scenarios.read("orders", case, "expected"))
    scenarios.assert_rows(refused.get(case, []), scenarios.read("orders", case, "refused"))


def test_days_cleaned_one_by_one_equal_days_cleaned_at_once(spark, tmp_path):
    """A return of a later day restates the line it undoes, and running a day again changes nothing."""
    from jobs.lake import Lake

    def rows_of(steps):
        lake = Lake(spark, str(tmp_path / str(len(steps))))
        for day_names in steps:
            raw = _raw(spark).where(f"day IN ({', '.join(repr(d) for d in day_names)})")
            none = spark.createDataFrame([], "customer_id STRING, email_key STRING, day DATE")
            products = spark.createDataFrame([], orders_products())
            rates = spark.createDataFrame([], "rated_on STRING, currency STRING, rate STRING, _file STRING, _row BIGINT")
            judged = orders.judged(raw, products, none, rates, "GBP").persist()
            orders.write(lake, judged, [date.fromisoformat(d) for d in day_names])
            judged.unpersist()
        columns = [c for c in lake.read(orders.TABLE).columns]
        return sorted(map(str, lake.read(orders.TABLE).select(*columns).collect())), sorted(
            map(str, lake.read(returns.TABLE).collect())
        )

    days = ["2024-03-01", "2024-03-02", "2024-03-04"]
    at_once = rows_of([days])
    assert rows_of([[d] for d in [*days, "2024-03-02", "2024-03-01"]]) == at_once
    assert any("partly_returned" in row for row in at_once[0])


def orders_products() -> str:
    return "product_id STRING, day DATE, category STRING, price DECIMAL(18,4), currency STRING"


def _raw(spark):
    sent = [
        ("1", "2024-03-01 10:00:00", "anna", "mug", "5", "2.00", "sale"),
        ("2", "2024-03-02 10:00:00", "anna", "mug", "3", "2.00", "sale"),
        ("3", "2024-03-02 11:00:00", "bert", "mug", "1", "2.00", "sale"),
        ("R1", "2024-03-02 12:00:00", "anna", "mug", "1", "2.00", "return"),
        ("R2", "2024-03-04 10:00:00", "anna", "mug", "4", "2.00", "return"),
        ("R3", "2024-03-04 10:00:00", "carl", "mug", "4", "2.00", "return"),
    ]
    names = ("order_id", "ordered_at", "customer_id", "product_id", "quantity", "unit_price", "kind")
    rows = [(*(dict(zip(names, s, strict=True)).get(c) for c in COLUMNS["orders"]), n, s[1][:10]) for n, s in enumerate(sent)]
    ddl = ", ".join(f"{c} STRING" for c in COLUMNS["orders"])
    frame = spark.createDataFrame(rows, f"{ddl}, _row BIGINT, day STRING")
    return frame.selectExpr(
        *COLUMNS["orders"], "CAST(map() AS MAP<STRING, STRING>) AS _extra", "'test' AS _source", "'f' AS _file", "_row",
        "CAST(NULL AS DATE) AS _file_day", "CAST(NULL AS TIMESTAMP) AS _landed_at", "CAST(day AS DATE) AS day",
    )  # fmt: skip
