"""features.outcomes: who is eligible, and what came true for them."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import polars as pl
import pytest

from jobs.config.outcomes import Outcome
from jobs.config.settings import load_settings
from jobs.errors import UserError
from jobs.features import outcomes

AS_OF = date(2024, 3, 1)
CHURN = Outcome("churn", "no_order", 90, ordered_within_days=90, gap_multiple=2.0, min_period_days=14)


def customer(name: str, last_order: int = 0, gap: float | None = None, segment: int | None = 1) -> dict:
    """A customer who ordered and was seen so many days ago."""
    day = AS_OF - timedelta(days=last_order)
    return {"customer_id": name, "last_seen_day": day, "last_order_day": day, "order_gap_days": gap, "segment_id": segment}


def later(name: str, days: int, orders: int = 1, net: str = "10", returned: str = "0") -> dict:
    """What a customer did so many days later."""
    day = AS_OF + timedelta(days=days)
    return {"customer_id": name, "day": day, "orders": orders, "net": Decimal(net), "returned": Decimal(returned)}


def label(customers: list[dict], since: list[dict], outcome: Outcome, marked: list[dict] | None = None) -> dict[str, bool]:
    schema = {
        "customer_id": pl.String,
        "day": pl.Date,
        "orders": pl.Int64,
        "net": pl.Decimal(18, 4),
        "returned": pl.Decimal(18, 4),
    }
    files = pl.DataFrame(marked, {"customer_id": pl.String, "day": pl.Date}) if marked is not None else None
    rows = outcomes.label_customers(pl.DataFrame(customers), pl.DataFrame(since, schema), outcome, AS_OF, files)
    return dict(rows.iter_rows())


def test_a_customer_churns_who_does_not_order_within_twice_their_own_gap():
    customers = [customer("early", gap=10), customer("late", gap=10), customer("slow", gap=40), customer("never", gap=40)]
    since = [later("early", 20), later("late", 21), later("slow", 79)]
    assert label(customers, since, CHURN) == {"early": False, "late": True, "slow": False, "never": True}


def test_the_period_of_a_customer_without_a_gap_is_that_of_the_segment_else_of_the_shop():
    customers = [customer("a", gap=10), customer("b", gap=10), customer("c", gap=30, segment=2), customer("new", gap=None)]
    customers += [customer("new_in_2", gap=None, segment=2), customer("nowhere", gap=None, segment=None)]
    since = [later("new", 21), later("new_in_2", 60), later("nowhere", 21)]
    labels = label(customers, since, CHURN)
    assert (labels["new"], labels["new_in_2"], labels["nowhere"]) == (True, False, True)


def test_the_period_is_no_shorter_than_the_least_and_no_longer_than_the_window():
    customers = [customer("daily", gap=1), customer("yearly", gap=300)]
    assert label(customers, [later("daily", 14), later("yearly", 90)], CHURN) == {"daily": False, "yearly": False}
    assert label(customers, [later("daily", 15), later("yearly", 91)], CHURN) == {"daily": True, "yearly": True}


def test_only_who_ordered_lately_is_eligible():
    assert label([customer("lately", 89), customer("long_ago", 90)], [], CHURN).keys() == {"lately"}


def test_orders_returns_and_money_count_within_the_window_alone():
    customers = [customer(name) for name in ("a", "b", "c")]
    since = [later("a", 30), later("b", 31), later("c", 5, orders=0, net="-3", returned="3")]
    within = {"window_days": 30, "seen_within_days": 90}
    assert label(customers, since, Outcome("next", "order", **within)) == {"a": True, "b": False, "c": False}
    assert label(customers, since, Outcome("returns", "return", **within)) == {"a": False, "b": False, "c": True}


def test_the_top_tenth_by_money_is_of_the_eligible_and_nobody_without_money_is_in_it():
    customers = [customer(f"c{n:02}") for n in range(20)]
    top = Outcome("high_value", "top_net", 90, ordered_within_days=365)
    spent = [later(f"c{n:02}", 1, net=str(n)) for n in range(20)]
    assert {name for name, is_top in label(customers, spent, top).items() if is_top} == {"c18", "c19"}
    assert not any(label(customers, [], top).values())


def test_an_outcome_of_the_shops_own_leaves_out_who_was_marked_before():
    marked = [{"customer_id": name, "day": AS_OF + timedelta(days=n)} for name, n in (("before", 0), ("soon", 1), ("later", 31))]
    own = Outcome("fraud", "table", 30, seen_within_days=90, file="fraud.csv")
    customers = [customer(name) for name in ("before", "soon", "later", "never")]
    assert label(customers, [], own, marked) == {"soon": True, "later": False, "never": False}


def test_the_file_of_an_outcome_is_read_by_its_columns_and_refused_in_one_line(tmp_path):
    settings = replace(load_settings({}), input=str(tmp_path))
    own = Outcome("fraud", "table", 30, seen_within_days=90, file="fraud.csv", customer="client", date="on")
    with pytest.raises(UserError, match=r"^features: .*outcomes.toml: fraud: file fraud.csv cannot be read"):
        outcomes._read_file(settings, own)
    (tmp_path / "fraud.csv").write_text("client,on\n7,2024-03-05\n")
    assert outcomes._read_file(settings, own).rows() == [("7", date(2024, 3, 5))]
    with pytest.raises(UserError, match=r"has no column .*; the keys `customer` and `date` name them$"):
        outcomes._read_file(settings, replace(own, date="day"))
