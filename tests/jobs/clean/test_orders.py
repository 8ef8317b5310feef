"""clean.orders: every rule of money as an example, and returns of a later day."""

from datetime import date

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import functions as F

from jobs.clean import _money, _rows, orders, orders_rejects, returns
from jobs.config.source_mapping import COLUMNS
from jobs.errors import UserError
from jobs.quality.reconciliation import Account
from jobs.storage.lake import Lake
from tests.jobs.clean import scenarios

RATES = (
    [("2024-03-01", "EUR", "0.85", "r", 1), ("2024-03-01", "USD", "0", "r", 2), ("2024-03-01", "SEK", "0.07", "r", 3),
     ("2024-03-01", "SEK", "0.08", "s", 1)],
    "rated_on STRING, currency STRING, rate STRING, _file STRING, _row BIGINT",
)  # fmt: skip
RATE_DAYS = 2
PRODUCTS = [("mug", "2024-01-01", "kitchen", "2.00"), ("mug", "2024-03-05", "kitchen", "3.00")]


@pytest.fixture(scope="module")
def outcome(spark):
    """(clean.orders rows, clean.returns rows, refused rows) by case, all cases in one Spark job."""
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
    outcomes = orders.classify_orders(
        raw, products, customers, spark.createDataFrame(*RATES), "GBP", rate_days=RATE_DAYS
    ).persist()
    lines, returned = orders.split_lines_and_returns(outcomes)
    lines = lines.withColumnsRenamed({"gross": "gross_amount", "discount": "discount_amount"})
    undone = returns.returns(lines.select(*orders._LINE), returned.select(*orders._LINE)).persist()
    kept, given_back = scenarios.by_case(orders.orders(lines, undone)), scenarios.by_case(undone)
    refused = scenarios.by_case(_rows.select_rejects(outcomes, raw, orders_rejects.TABLE))
    outcomes.unpersist()
    undone.unpersist()
    return kept, given_back, refused


@pytest.mark.parametrize("case", scenarios.cases("orders"))
def test_orders_match_the_example(outcome, case):
    kept, given_back, refused = outcome
    scenarios.assert_rows(kept.get(case, []), scenarios.read("orders", case, "expected"))
    if given_back_too := scenarios.read("orders", case, "returns"):
        scenarios.assert_rows(given_back.get(case, []), given_back_too)
    scenarios.assert_rows(refused.get(case, []), scenarios.read("orders", case, "refused"))


def test_days_cleaned_one_by_one_equal_days_cleaned_at_once(spark, tmp_path):
    """A return of a later day restates the line it undoes, running a day again changes nothing, and a line that a
    corrected file no longer has gives its return back to the line before. After each of it the money adds up."""

    def clean(lake, days, without=()):
        rows = _raw(spark).where(f"day IN ({', '.join(repr(d) for d in days)})")
        raw = rows.where(~rows.order_id.isin("none", *without))
        none = spark.createDataFrame([], "customer_id STRING, email_key STRING, day DATE")
        products = spark.createDataFrame([], orders_products())
        outcomes = orders.classify_orders(raw, products, none, spark.createDataFrame(*RATES), "GBP").persist()
        worked = [date.fromisoformat(d) for d in days]
        rewritten = orders.write_orders(lake, outcomes, worked)
        measures = _money.measure_days(lake, outcomes, worked)
        outcomes.unpersist()
        _money.check_returns(lake, rewritten)
        return {str(d): Account(d, 0, 0, "", measures=m).all_measures for d, m in measures.items()}

    def rows_of(lake):
        return [sorted(map(str, lake.read(table).collect())) for table in (orders.TABLE, returns.TABLE)]

    days = ["2024-03-01", "2024-03-02", "2024-03-04"]
    whole, daily = (Lake(spark, str(tmp_path / name)) for name in ("whole", "daily"))
    at_once = clean(whole, days, without=["2b"])
    one_by_one = {}
    for day in [*days, "2024-03-02"]:
        one_by_one |= clean(daily, [day], without=["2b"] * (day != days[1] or day in one_by_one))
    assert rows_of(daily) == rows_of(whole)
    assert any("partly_returned" in row for row in rows_of(whole)[0])
    assert one_by_one == at_once
    second = {name: str(value) for name, value in at_once["2024-03-02"].items() if value and "_" not in name}
    assert second == {
        "amount": "33.0000", "orders": "5.0000", "customers": "3.0000", "gross": "25.0000", "discounts": "1.5000",
        "net": "21.5000",
    }  # fmt: skip
    assert {day: int(money["unaccounted"]) for day, money in at_once.items()} == dict.fromkeys(days, 0)

    lied = whole.read(orders.TABLE).where("day = '2024-03-01'").withColumns(
        {"returned_amount": F.col("returned_amount") - 1, "net_amount": F.col("net_amount") + 1}
    )  # fmt: skip
    money = {c: F.col(c).cast("DECIMAL(18,4)") for c in ("returned_amount", "net_amount")}
    whole.replace_days(orders.TABLE, lied.withColumns(money), [date(2024, 3, 1)])
    with pytest.raises(UserError, match=r"day 2024-03-01: 3.00 given back, 4.00 by clean.returns"):
        _money.check_returns(whole, [date(2024, 3, 1)])


def test_a_day_depends_on_its_last_rate_of_each_currency_and_on_no_other_days(tmp_path):
    def landed(*rates):
        names = ("day", "currency", "rate", "_file", "_row")
        rows = [dict(zip(names, (date(2024, 3, day), *rest), strict=True)) for day, *rest in rates]
        write_deltalake(str(tmp_path / "bronze/rates"), pa.Table.from_pylist(rows), mode="overwrite")
        return _money.read_rates(Lake(None, str(tmp_path)))

    first, second, euro = date(2024, 3, 1), date(2024, 3, 2), (1, "EUR", "0.85", "a", 1)
    before = landed(euro, (1, "USD", "0.75", "a", 2), (2, "EUR", "0.86", "b", 1))
    assert before == {first: [("EUR", "0.85"), ("USD", "0.75")], second: [("EUR", "0.86")]}
    after = landed((1, "EUR", "0.90", "c", 1), euro, (1, "USD", "0.75", "a", 2), (2, "EUR", "0.86", "b", 1))
    assert after == before | {first: [("EUR", "0.90"), ("USD", "0.75")]}
    assert _money.rates_for(after, second, rate_days=0) == after[second]
    assert _money.rates_for(after, date(2024, 3, 3), rate_days=2) == after[second] + after[first]


def orders_products() -> str:
    return "product_id STRING, day DATE, category STRING, price DECIMAL(18,4), currency STRING"


def _raw(spark):
    sent = [
        ("1", "2024-03-01 10:00:00", "anna", "mug", "5", "2.00", "sale"),
        ("2", "2024-03-02 10:00:00", "anna", "mug", "3", "2.00", "sale"),
        ("2b", "2024-03-02 10:30:00", "anna", "mug", "2", "2.00", "sale"),
        ("3", "2024-03-02 11:00:00", "bert", "mug", "1", "2.00", "sale"),
        ("3", "2024-03-02 11:00:00", "bert", "sum", "1", "17.00", "sale"),
        ("3", "2024-03-02 11:00:00", "bert", "off", "-3", "0.50", "discount"),
        ("4", "2024-03-02 11:00:00", "bert", "card", "1", "7.50", "gift_card"),
        ("5", "2024-03-02 11:00:00", "carl", "mug", "1", "2.00", "test"),
        ("5", "2024-03-02 11:00:00", "carl", "mug", "1", "2.00", "test"),
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
