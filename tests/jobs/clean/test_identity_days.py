"""clean.identity_days: what rows name together, and the customer ids that guests share."""

from datetime import date

import polars as pl

from jobs.bronze import events as bronze_events
from jobs.bronze import orders as bronze_orders
from jobs.clean import identity_days
from jobs.config.settings import Clean
from tests.jobs.clean.kernels import NULL_WORDS
from tests.jobs.clean.rejects import land

MARCH = [date(2024, 3, day) for day in range(1, 32)]
LIMITS = Clean(max_mails_per_customer=2, customers_within_days=10, shared_customer_least=5, shared_customer_factor=3)


def list_identities(orders=(), events=(), stored=()):
    """Return the outputs of the kernel as lists of rows."""
    tables = {
        "orders": land(bronze_orders.TABLE, *orders),
        "events": land(bronze_events.TABLE, *events),
        "stored": identity_days.TABLE.arrow_schema.empty_table(),
    }
    if stored:
        tables["stored"] = pl.DataFrame(list(stored), orient="row", schema=identity_days.TABLE.columns).to_arrow()
    return identity_days.list_identities(tables, LIMITS, NULL_WORDS)


def order(number, customer, mail, day=1):
    return {"order_id": number, "customer_id": customer, "email_key": mail, "day": MARCH[day - 1]}


def test_different_orders_and_visitors_are_counted_and_words_are_no_ids():
    orders = [
        order("1", "anna", "a"),
        order("1", "anna", "a"),
        order("2.0", "anna", None),
        order("3", "NULL", "b"),
        order("4", "", ""),
    ]
    events = [{"visitor_id": visitor, "customer_id": "anna", "day": MARCH[0]} for visitor in ("v", "w", "w")]
    rows = list_identities(orders, events)["rows"].to_pylist()
    named = {(row["named_in"], row["customer_id"], row["email_key"]): row["n"] for row in rows}
    assert named == {
        ("events", "anna", None): 2, ("orders", "anna", "a"): 1, ("orders", "anna", None): 1, ("orders", None, "b"): 1,
    }  # fmt: skip


def test_an_id_with_too_many_addresses_within_some_days_is_shared_from_the_day_that_shows_it():
    slow = [order(str(n), "moving", f"m{n}", day) for n, day in enumerate((1, 12, 24))]
    guests = [order("a", "9999", "x", 2), order("b", "9999", "y", 2), order("c", "9999", "z", 5)]
    shared = list_identities([*slow, *guests])["shared"].to_pylist()
    assert shared == [{"customer_id": "9999", "since": MARCH[4], "n": 3}]
    stored = [(MARCH[1], "orders", "9999", mail, 1) for mail in "xy"]
    assert list_identities([guests[2]], stored=stored)["shared"].to_pylist() == shared


def test_an_id_with_far_more_orders_than_the_rest_of_the_day_is_shared():
    rest = [order(f"r{n}", f"c{n}", None) for n in range(50)] + [order(f"w{n}", "wholesaler", None) for n in range(3)]
    guests = [order(f"g{n}", "777", None) for n in range(12)]

    def find(orders):
        outputs = {name: pl.DataFrame(pl.from_arrow(rows)) for name, rows in list_identities(orders).items()}
        return identity_days.find_far_larger(outputs["counts"], outputs["largest"], LIMITS)["customer_id"].to_list()

    assert find([*rest, *guests]) == ["777"]
    assert find([*rest, *guests[:4]]) == []  # fewer than so many in any case
    assert find([order(f"o{n}", f"c{n % 3}", None) for n in range(36)]) == []  # all have many
