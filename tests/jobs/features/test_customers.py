"""features.customers: everyone known by the day, and nothing that came after it."""

from datetime import date
from decimal import Decimal

import pytest

from jobs import catalogue
from jobs.features import customer_days, customers

DAY = date(2024, 3, 31)


@pytest.fixture(scope="module")
def partials(spark):
    """anna bought twice and returned once; one visit was known to be hers later; bert only looked, long ago."""
    rows = [
        ("anna", "2024-03-01", "2024-03-01",
         {"events": 4, "sessions": 2, "orders": 1, "order_days": 1, "gross": 20, "discount": 2}, [("mug", "kitchen", 18)]),
        ("anna", "2024-03-20", "2024-03-20", {"orders": 1, "order_days": 1, "gross": 30},
         [("mug", "kitchen", 10), ("pen", "desk", 20)]),
        ("anna", "2024-03-28", "2024-03-28", {"returned": 18, "returns": 1}, None),
        ("anna", "2024-03-30", "2024-04-02", {"events": 1}, None),
        ("anna", "2024-04-01", "2024-04-01", {"orders": 1, "order_days": 1, "gross": 99}, None),
        ("bert", "2022-03-01", "2022-03-01", {"events": 1, "sessions": 1}, None),
    ]  # fmt: skip
    names = customer_days.TABLE.columns
    numbers = [n for n in names if n not in ("customer_id", "day", "identified_on", "net", "bought")]
    money = ("items", "gross", "discount", "returned")
    flat = [(c, d, i, *(int(v.get(n, 0)) for n in numbers), [(p, k, Decimal(a)) for p, k, a in b] if b else None)
            for c, d, i, v, b in rows]  # fmt: skip
    bought = "ARRAY<STRUCT<product_id: STRING, category: STRING, amount: DECIMAL(18,4)>>"
    ddl = (
        "customer_id STRING, day STRING, identified_on STRING, "
        + ", ".join(f"{n} BIGINT" for n in numbers)
        + f", bought {bought}"
    )
    return spark.createDataFrame(flat, ddl).selectExpr(
        "customer_id", "CAST(day AS DATE) AS day", "CAST(identified_on AS DATE) AS identified_on",
        *(f"CAST({n} AS DECIMAL(18,4)) AS {n}" if n in money else n for n in numbers),
        "CAST(gross - discount - returned AS DECIMAL(18,4)) AS net", "bought",
    )  # fmt: skip


@pytest.fixture(scope="module")
def known(spark):
    rows = [("anna", "2024-02-01", None), ("carl", "2024-03-15", "FR"), ("dora", "2024-05-01", None)]
    return spark.createDataFrame(rows, "customer_id STRING, day STRING, country STRING").selectExpr(
        "customer_id", "CAST(day AS DATE) AS day", "country", "CAST(day AS TIMESTAMP) AS registered_at"
    )


@pytest.fixture(scope="module")
def as_of_day(partials, known):
    return {r.customer_id: r for r in customers.customers(partials, known, DAY, 365).collect()}


def test_everyone_known_by_the_day_is_there(as_of_day):
    assert {c: r.is_active for c, r in as_of_day.items()} == {"anna": True, "bert": False, "carl": False}
    assert (as_of_day["carl"].country, as_of_day["carl"].tenure_days, as_of_day["carl"].recency_days) == ("FR", 16, None)


def test_nothing_after_the_day_is_seen_not_even_whose_a_visit_was(as_of_day, partials, known):
    anna = as_of_day["anna"]
    assert (anna.orders_365d, anna.events_365d, str(anna.last_seen_day)) == (2, 4, "2024-03-20")
    later = {r.customer_id: r for r in customers.customers(partials, known, date(2024, 4, 2), 365).collect()}["anna"]
    assert (later.orders_365d, later.events_365d, str(later.last_seen_day)) == (3, 5, "2024-04-01")


def test_windows_money_and_shares_are_as_counted_by_hand(as_of_day):
    anna = as_of_day["anna"]
    assert (anna.net_7d, anna.net_30d, anna.net_365d) == (Decimal("-18.0000"), Decimal("12.0000"), Decimal("30.0000"))
    assert (anna.orders_7d, anna.orders_30d, anna.recency_days, anna.order_gap_days) == (0, 1, 11, 19.0)
    assert anna.discount_share_365d == pytest.approx(2 / 50)
    assert anna.return_share_365d == pytest.approx(18 / 50)
    assert anna.top_category_share_365d == pytest.approx(28 / 48)
    assert (anna.products_bought_365d, anna.categories_bought_365d) == (2, 2)
    assert as_of_day["carl"].bounce_share_365d is None


def test_the_vector_is_the_catalogue_in_order(as_of_day):
    for row in as_of_day.values():
        named = [None if row[n] is None else pytest.approx(float(row[n]), rel=1e-6) for n in catalogue.VECTOR]
        assert row.vector == named
