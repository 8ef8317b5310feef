"""features.customers: everyone known by the day, and nothing from after it."""

import json
from datetime import date
from decimal import Decimal
from random import Random
from types import SimpleNamespace

import pytest

from jobs import catalogue
from jobs.clean import customers as clean_customers
from jobs.features import customer_days, customers
from jobs.features._accounts import Accounts, find_account
from tests.jobs.features.logs import to_arrow

DAY = date(2024, 3, 31)
SUMS = {p.name: 0 for p in catalogue.DAILY_AGGREGATES if p.operation == "sum"}
ROWS = [
    ("anna", "2024-03-01", "2024-03-01", {"events": 4, "sessions": 2, "orders": 1, "order_days": 1, "gross": 20, "discount": 2,
     "net": 18, "products": '[{"thing": "mug", "amount": 18}]', "categories": '[{"thing": "kitchen", "amount": 18}]'}),
    ("anna", "2024-03-20", "2024-03-20", {"orders": 1, "order_days": 1, "gross": 30, "net": 30,
     "products": '[{"thing": "mug", "amount": 10}, {"thing": "pen", "amount": 20}]',
     "categories": '[{"thing": "kitchen", "amount": 10}, {"thing": "desk", "amount": 20}]'}),
    ("anna", "2024-03-28", "2024-03-28", {"returned": 18, "returns": 1, "net": -18}),
    ("anna", "2024-03-30", "2024-04-02", {"events": 1}),
    ("anna", "2024-04-01", "2024-04-01", {"orders": 1, "order_days": 1, "gross": 99, "net": 99}),
    ("bert", "2022-03-01", "2022-03-01", {"events": 1, "sessions": 1, "orders": 1, "order_days": 1}),
]  # fmt: skip
KNOWN = [("anna", "2024-02-01", None), ("carl", "2024-03-15", "FR"), ("dora", "2024-05-01", None)]


@pytest.fixture(scope="module")
def rows():
    """anna bought twice and returned once; one visit was known to be hers later; bert came once, long ago."""
    daily = [
        SUMS | {"customer_id": c, "day": d, "identified_on": identified_on, "known_until": "9999-12-31"} | more
        for c, d, identified_on, more in ROWS
    ]
    records = [{"customer_id": c, "day": d, "country": country, "registered_at": d} for c, d, country in KNOWN]
    tables = {
        "recent": to_arrow(customer_days.TABLE, daily[:-1], customers.RECENT),
        "older": to_arrow(customer_days.TABLE, daily[-1:], customers.OLDER),
        "records": to_arrow(clean_customers.TABLE, records, customers.RECORDS),
    }
    rows = customers.compute_features(tables, [DAY, date(2024, 4, 2)], 365)["customers"].to_pylist()
    return {(row["customer_id"], row["day"]): SimpleNamespace(**row) for row in rows}


@pytest.fixture(scope="module")
def as_of_day(rows):
    return {customer: row for (customer, day), row in rows.items() if day == DAY}


def test_everyone_known_by_the_day_has_a_row(as_of_day):
    assert {c: r.is_active for c, r in as_of_day.items()} == {"anna": True, "bert": False, "carl": False}
    assert (as_of_day["carl"].country, as_of_day["carl"].tenure_days, as_of_day["carl"].recency_days) == ("FR", 16, None)
    assert (as_of_day["bert"].orders_365d, as_of_day["bert"].orders_life, as_of_day["bert"].recency_days) == (0, 1, 761)


def test_nothing_from_after_the_day_counts_not_even_whose_a_visit_was(rows, as_of_day):
    anna, later = as_of_day["anna"], rows["anna", date(2024, 4, 2)]
    assert (anna.orders_365d, anna.events_365d, str(anna.last_seen_day)) == (2, 4, "2024-03-20")
    assert (later.orders_365d, later.events_365d, str(later.last_seen_day)) == (3, 5, "2024-04-01")


def test_windows_money_and_shares_equal_those_counted_by_hand(as_of_day):
    anna = as_of_day["anna"]
    assert (anna.net_7d, anna.net_30d, anna.net_365d) == (Decimal("-18.0000"), Decimal("12.0000"), Decimal("30.0000"))
    assert (anna.orders_7d, anna.orders_30d, anna.recency_days, anna.order_gap_days) == (0, 1, 11, 19.0)
    assert anna.discount_share_365d == pytest.approx(2 / 50)
    assert anna.return_share_365d == pytest.approx(18 / 50)
    assert anna.top_category_share_365d == pytest.approx(28 / 48)
    assert (anna.products_bought_30d, anna.products_bought_365d, anna.categories_bought_365d) == (2, 2, 2)
    assert as_of_day["carl"].bounce_share_365d is None


def test_the_vector_has_the_features_of_the_catalogue_in_order(as_of_day):
    for row in as_of_day.values():
        named = [None if getattr(row, n) is None else pytest.approx(float(getattr(row, n)), rel=1e-6) for n in catalogue.VECTOR]
        assert row.vector == named


def test_the_order_of_the_rows_does_not_change_the_last_digit():
    """Sums of doubles would depend on it."""
    random = Random(7)  # noqa: S311
    paid = [{"thing": f"category {n}", "amount": Decimal(random.randrange(1, 10**7)) / 100} for n in range(300)]
    daily = [
        SUMS | {"customer_id": "anna", "day": "2024-03-01", "identified_on": f"2024-03-{n:02}", "known_until": "9999-12-31"}
        | {"events": 1, "categories": json.dumps(paid[n::20], default=str)}
        for n in range(1, 20)
    ]  # fmt: skip

    def compute_entropy(rows):
        recent = to_arrow(customer_days.TABLE, rows, customers.RECENT)
        tables = {"recent": recent, "older": recent.select(customers.OLDER).slice(0, 0)}
        records = to_arrow(clean_customers.TABLE, [], customers.RECORDS)
        features = customers.compute_features({**tables, "records": records}, [DAY], 365)["customers"]
        return features["category_entropy_365d"].to_pylist()

    assert compute_entropy(daily) == compute_entropy(daily[::-1]) == compute_entropy(random.sample(daily, len(daily)))


def test_an_account_that_is_part_of_another_one_is_that_one_from_then_on():
    """old was merged into new: a day of both is one active day, and old has no row of its own."""

    def daily(customer, day, **more):
        keys = {"customer_id": customer, "day": day, "identified_on": day, "known_until": "9999-12-31"}
        return SUMS | keys | {"events": 1, "active_days": 1, "orders": 1, "order_days": 1, "gross": 10, "net": 10} | more

    days = [
        daily("old", "2024-03-02"),
        daily("old", "2024-03-05"),
        daily("new", "2024-03-05", gross=5, net=5),
        daily("carl", "2024-03-05"),
    ]
    records = [{"customer_id": c, "day": d, "country": country, "registered_at": d}
               for c, d, country in (("old", "2024-02-01", "FR"), ("new", "2024-02-20", "DE"))]  # fmt: skip
    tables = {
        "recent": to_arrow(customer_days.TABLE, days, customers.RECENT),
        "older": to_arrow(customer_days.TABLE, [], customers.OLDER),
        "records": to_arrow(clean_customers.TABLE, records, customers.RECORDS),
    }

    def compute(owners):
        features = customers.compute_features(tables, [DAY], 365, {DAY: Accounts(owners)})["customers"].to_pylist()
        return {row["customer_id"]: SimpleNamespace(**row) for row in features}

    assert set(compute({})) == {"old", "new", "carl"}
    accounts = {DAY: Accounts(shared=frozenset({"old"}))}
    shared = customers.compute_features({**tables, "recent": tables["recent"].slice(0, 0)}, [DAY], 365, accounts)["customers"]
    assert shared["customer_id"].to_pylist() == ["new"]
    merged = compute({"old": "new"})
    assert set(merged) == {"new", "carl"}
    new = merged["new"]
    assert (new.orders_30d, new.active_days_30d, new.country, str(new.first_known_day)) == (3, 2, "DE", "2024-02-01")
    assert str(new.first_seen_day) == "2024-03-02"
    assert find_account(tables["recent"].select(["customer_id"]), {"old": "new", "new": "new"}).to_pylist() == [
        "new", "new", "new", "carl"
    ]  # fmt: skip
