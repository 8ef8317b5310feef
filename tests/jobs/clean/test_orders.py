"""clean.orders: every rule of money as an example, and returns of a later day."""

from datetime import date
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake

from jobs.bronze import rates
from jobs.clean import _money, _order_days, customers, orders, products, returns
from jobs.config.source_mapping import COLUMNS
from jobs.engine import runner
from jobs.errors import UserError
from jobs.storage.lake import Lake
from tests.jobs.clean import order_kernels, scenarios
from tests.jobs.clean.rejects import land

RATES = [
    ("2024-03-01", "EUR", "0.85", "r", 1),
    ("2024-03-01", "USD", "0", "r", 2),
    ("2024-03-01", "SEK", "0.07", "r", 3),
    ("2024-03-01", "SEK", "0.08", "s", 1),
]
PRODUCTS = [("mug", date(2024, 1, 1), "2.00"), ("mug", date(2024, 3, 5), "3.00")]
MAILS = [("anna", "mail of anna"), ("bert", "shared mail"), ("carl", "shared mail")]


@pytest.fixture(scope="module")
def outcome():
    """(clean.orders rows, clean.returns rows, refused rows) by case, all cases in one call."""
    raw = scenarios.raw_rows("orders", (*COLUMNS["orders"], "undoes_order_id"), "ordered_at")
    listed = [
        {"product_id": product, "day": day, "category": "kitchen", "price": Decimal(price), "currency": "GBP"}
        for product, day, price in PRODUCTS
    ]
    mails = [
        {"customer_id": f"{case}~{who}", "email_key": f"{case}~{mail}", "day": date(2024, 2, 15)}
        for case in scenarios.cases("orders")
        for who, mail in MAILS
    ]
    rated = [dict(zip(("rated_on", "currency", "rate", "_file", "_row"), row, strict=True)) for row in RATES]
    lookups = [
        pa.Table.from_pylist(rows, table.arrow_schema)
        for rows, table in ((listed, products.TABLE), (mails, customers.TABLE), (rated, rates.TABLE))
    ]
    classified = order_kernels.classify(raw, *lookups, rate_days=2)
    matched = order_kernels.match(classified, lookups[2], rate_days=2)
    return [scenarios.by_case(rows) for rows in (*matched, classified["rejects"])]


@pytest.mark.parametrize("case", scenarios.cases("orders"))
def test_orders_match_the_example(outcome, case):
    kept, given_back, refused = outcome
    scenarios.assert_rows(kept.get(case, []), scenarios.read("orders", case, "expected"))
    if given_back_too := scenarios.read("orders", case, "returns"):
        scenarios.assert_rows(given_back.get(case, []), given_back_too)
    scenarios.assert_rows(refused.get(case, []), scenarios.read("orders", case, "refused"))


SENT = [
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
DAYS = [date(2024, 3, 1), date(2024, 3, 2), date(2024, 3, 4)]


def raw_rows(days, without=()):
    """Return the rows of SENT on these days, but for some orders."""
    names = ("order_id", "ordered_at", "customer_id", "product_id", "quantity", "unit_price", "kind")
    rows = [dict(zip(names, sent, strict=True)) | {"day": date.fromisoformat(sent[1][:10])} for sent in SENT]
    return land(orders.BRONZE, *(row for row in rows if row["day"] in days and row["order_id"] not in without))


def clean(lake, days, without=()):
    """Clean the days of SENT, without some orders. Returns the measures of each day."""
    accounts = order_kernels.clean_days(lake, raw_rows(days, without), days)
    assert not any(account.difference for account in accounts.values())
    return {day: account.all_measures for day, account in accounts.items()}


def read_all(lake):
    return [sorted(lake.read_small_table(table), key=str) for table in (orders.TABLE, returns.TABLE)]


def lakes(tmp_path, *names):
    return [Lake(None, str(tmp_path / name)) for name in names]


def test_days_cleaned_one_by_one_equal_days_cleaned_at_once(tmp_path):
    """A return of a later day restates the line it undoes, running a day again changes nothing, and a line that a
    corrected file no longer has gives its return back to the line before. After each of it the money adds up."""
    whole, daily = lakes(tmp_path, "whole", "daily")
    at_once = clean(whole, DAYS, without=["2b"])
    clean(daily, DAYS[:1])
    clean(daily, DAYS[1:2])
    one_by_one = {}
    for day in (DAYS[0], DAYS[2], DAYS[1]):
        one_by_one |= clean(daily, [day], without=["2b"])
    assert read_all(daily) == read_all(whole)
    assert {row["status"] for row in read_all(whole)[0]} >= {"placed", "partly_returned", "returned"}
    assert one_by_one == at_once
    second = {name: str(value) for name, value in at_once[DAYS[1]].items() if value and "_" not in name}
    assert second == {
        "amount": "33.0000", "orders": "5.0000", "customers": "3", "gross": "25.0000", "discounts": "1.5000", "net": "21.5000",
    }  # fmt: skip
    assert {day: int(money["unaccounted"]) for day, money in at_once.items()} == dict.fromkeys(DAYS, 0)


def test_orders_in_several_buckets_equal_orders_in_one(tmp_path, monkeypatch):
    whole, split = lakes(tmp_path, "whole", "split")
    at_once = clean(whole, DAYS)
    monkeypatch.setattr(runner, "ROWS_PER_BUCKET", 5)
    assert clean(split, DAYS) == at_once
    assert read_all(split) == read_all(whole)


@pytest.mark.parametrize("without", [[], ["R1"]])
def test_a_return_of_a_day_that_is_cleaned_first_is_matched_when_its_order_comes(tmp_path, without):
    whole, backwards = lakes(tmp_path, "whole", "backwards")
    clean(whole, DAYS, without)
    for day in reversed(DAYS):
        clean(backwards, [day], without)
    assert read_all(backwards) == read_all(whole)


def test_a_return_that_a_corrected_file_no_longer_has_gives_its_pieces_back(tmp_path):
    whole, corrected = lakes(tmp_path, "whole", "corrected")
    clean(whole, DAYS, without=["R2"])
    clean(corrected, DAYS)
    clean(corrected, DAYS[2:], without=["R2"])
    assert read_all(corrected) == read_all(whole)


def test_refused_rows_of_a_day_cleaned_again_are_there_once(tmp_path):
    (lake,) = lakes(tmp_path, "lake")
    for _ in range(2):
        clean(lake, DAYS)
        clean(lake, DAYS[1:2])
    rejects = [(row["order_id"], row["rules"]) for row in lake.read_small_table("clean.orders_rejects")]
    assert sorted(rejects) == [("4", ["gift_card"]), ("5", ["exact"]), ("5", ["test_order"])]


def test_money_given_back_that_the_two_tables_say_differently_is_an_error(tmp_path):
    (lake,) = lakes(tmp_path, "lake")
    clean(lake, DAYS, without=["2b"])
    rows = lake.read_arrow(orders.TABLE)
    day = rows.filter(pc.field("day") == DAYS[0])
    unit = pa.scalar(Decimal("1.0000"), pa.decimal128(5, 4))
    for name, change in (("returned_amount", pc.subtract), ("net_amount", pc.add)):
        day = day.set_column(day.column_names.index(name), name, change(day[name], unit).cast(pa.decimal128(18, 4)))
    lake.replace_rows(orders.TABLE, day, DAYS[:1])
    with pytest.raises(UserError, match=r"day 2024-03-01: 3.00 given back, 4.00 by clean.returns"):
        _order_days.check_returns(lake, DAYS[:1])


def test_amounts_are_rounded_half_up_and_null_where_they_are_too_large():
    lines = pl.DataFrame(
        [
            ("product", "3", "0.3333", "1", "0"),
            ("product", "-0.5", "0.0001", "1", "0"),  # a return
            ("product", "1", "2", "0.00002500", "2"),
            ("product", "0.0055", "0.0090", "1", "0"),  # 0.0000495 is rounded once
            ("product", "99999999999999", "2", "1", "0"),
            ("product", "1", "2", None, "1"),
            ("discount", "-3", "-0.5", "2", "0.25"),
        ],
        ["line_kind", "quantity", "unit_price", "rate", "discount"], orient="row",
    ).with_columns(pl.lit(None, pl.Decimal(22, 8)).alias("line_amount"), exact_price="unit_price")  # fmt: skip
    lines = lines.with_columns(pl.lit(None, pl.Decimal(18, 4)).alias(f"order_{what}") for what in ("discount", "shipping", "tax"))
    lines = lines.with_columns(pl.col("exact_price").cast(pl.Decimal(22, 8)))
    money = pl.col("quantity", "unit_price", "discount").cast(pl.Decimal(18, 4))
    lines = lines.with_columns(money, pl.col("rate").cast(pl.Decimal(18, 8)))
    amounts = _money.add_amounts(lines, Decimal(10**14) - 1).select("gross", "discount", "unit_price")
    assert [[value if value is None else str(value) for value in row] for row in amounts.rows()] == [
        ["0.9999", "0.0000", "0.3333"],
        ["0.0001", "0.0000", "0.0001"],
        ["0.0001", "0.0001", "2.0000"],
        ["0.0000", "0.0000", "0.0090"],
        [None, "0.0000", "2.0000"],
        [None, None, "2.0000"],
        ["0.0000", "3.5000", "0.5000"],
    ]


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


def test_a_row_without_a_quantity_is_one_piece_only_where_the_source_has_no_quantities():
    row = {"order_id": "1", "line_no": "1", "ordered_at": "2024-03-01 10:00:00", "product_id": "mug", "unit_price": "2.50"}
    raw = land(orders.BRONZE, row | {"day": date(2024, 3, 1)})
    refused = order_kernels.classify(raw)
    assert refused["rejects"]["rules"].to_pylist() == [["bad_quantity"]]
    lines = order_kernels.classify(raw, limits=orders.Limits(has_quantity=False))["lines"]
    assert [str(value) for value in lines.select(["quantity", "gross_amount"]).to_pylist()[0].values()] == ["1.0000", "2.5000"]
