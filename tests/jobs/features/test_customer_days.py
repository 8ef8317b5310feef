"""features.customer_days: what a customer did on a day, in daily aggregates that add up."""

from collections import defaultdict
from datetime import date

import pytest

from jobs.clean import events, orders, returns
from jobs.features import customer_days
from tests.jobs.features.logs import to_arrow


def event(customer, at, kind, session="s", **more):
    day = at[:10]
    return {"day": day, "event_at": at, "event_type": kind, "visitor_id": "v", "customer_id": customer, "is_bot": False,
            "session_id": f"{customer}-{session}", "session_started_at": at, "identified_on": day, **more}  # fmt: skip


def line(n, kind="product", **more):
    return {"order_id": "1", "line_no": n, "day": "2024-03-01", "ordered_at": "2024-03-01 09:00:00", "customer_id": "buyer",
            "product_id": "mug", "line_kind": kind, "category": "kitchen", "quantity": 2, "gross_amount": 10,
            "discount_amount": 1, "status": "placed", **more}  # fmt: skip


def back(n, kind, amount):
    return {"return_order_id": "R", "return_line_no": n, "day": "2024-03-05", "customer_id": "buyer", "kind": kind,
            "amount": amount}  # fmt: skip


DAYS = [date(2024, 3, n) for n in range(1, 6)]
OVER_MIDNIGHT = {"session_started_at": "2024-03-01 23:50:00"}
EVENTS = [
    event("clicker", "2024-03-02 02:00:00", "view", device="mobile", channel="mail"),
    event("clicker", "2024-03-02 02:10:00", "add_to_cart", session_started_at="2024-03-02 02:00:00", channel="mail"),
    event("clicker", "2024-03-02 09:00:00", "search", "t"),
    event("clicker", "2024-03-02 09:00:00", "view", "u", is_bot=True),
    event(None, "2024-03-02 09:00:00", "view", "w"),
    event("late", "2024-03-01 10:00:00", "view"),
    event("late", "2024-03-01 10:01:00", "view", identified_on="2024-03-04"),
    event("kiosk", "2024-03-01 10:00:00", "view", shared_since="2024-03-04"),
    event(
        None, "2024-03-01 10:01:00", "view", "kiosk", session_id="kiosk-s", shared_since="2024-03-04", former_customer_id="kiosk"
    ),
    event(None, "2024-03-05 10:01:00", "view", "kiosk", identified_on=None, shared_since="2024-03-04"),
    event("nightly", "2024-03-01 23:50:00", "add_to_cart"),
    event("nightly", "2024-03-02 00:05:00", "add_to_cart", **OVER_MIDNIGHT),
    event("nightly", "2024-03-02 00:10:00", "purchase", **OVER_MIDNIGHT),
    event("seeker", "2024-03-01 12:00:00", "search", search_term="mug"),
    event("seeker", "2024-03-01 12:10:00", "view", product_id="mug"),
    event("seeker", "2024-03-01 13:00:00", "search", "t", search_term="mug"),
    event("seeker", "2024-03-01 13:10:01", "view", "t", product_id="mug"),
    event("seeker", "2024-03-01 23:50:00", "search", "u", search_term="pen"),
    event("seeker", "2024-03-01 23:51:00", "view", "u"),
    event("seeker", "2024-03-02 00:00:00", "add_to_cart", "u", **OVER_MIDNIGHT),
]
LINES = [
    line(1), line(2), line(3, "postage", gross_amount=4, discount_amount=0), line(4, "discount", gross_amount=0),
    line(5, "discount", order_id="2", gross_amount=0), line(6, quantity=0),
    line(1, order_id="7", customer_id="doubter", status="cancelled", returned_at="2024-03-03 10:00:00"),
    line(2, "postage", order_id="7", customer_id="doubter", gross_amount=4, discount_amount=0),
    line(1, order_id="8", customer_id="doubter", product_id="pen", status="cancelled", returned_at="2024-03-04 10:00:00"),
    line(2, order_id="8", customer_id="doubter", product_id="cup"),
]  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    """Customer to (day, day known, and day until which where there is one) to row."""
    clean = {
        "events": to_arrow(events.TABLE, EVENTS, customer_days.EVENTS),
        "orders": to_arrow(orders.TABLE, LINES, customer_days.ORDERS),
        "returns": to_arrow(
            returns.TABLE, [back(1, "return", 9), back(1, "return", 8), back(2, "cancellation", 1)], customer_days.RETURNS
        ),
    }
    by_customer = defaultdict(dict)
    for row in customer_days.aggregate_customer_days(clean, DAYS, ())["customer_days"].to_pylist():
        until = [] if row["known_until"] == customer_days.FOREVER else [row["known_until"].day]
        by_customer[row["customer_id"]][row["day"].day, row["identified_on"].day, *until] = row
    return by_customer


def values(rows, *names):
    return {key: tuple(int(row[name]) for name in names) for key, row in rows.items()}


def value_counts(row, *names):
    return [(count["thing"], int(count["amount"])) for name in names for count in row[name]]


def test_events_of_a_shared_device_count_until_it_was_known_to_be_shared(rows):
    names = ("events", "sessions", "bounces", "active_days", "active_seconds")
    assert values(rows["kiosk"], *names) == {(1, 1, 4): (2, 1, 0, 1, 60), (1, 4): (1, 1, 1, 1, 0)}


def test_an_event_that_moved_to_another_customer_counts_for_both_at_their_times():
    moved = event("anna", "2024-03-01 10:00:00", "view", shared_since="2024-03-04", former_customer_id="9999")
    clean = {
        "events": to_arrow(events.TABLE, [moved], customer_days.EVENTS),
        "moved": to_arrow(events.TABLE, [moved], customer_days.EVENTS),
        "orders": to_arrow(orders.TABLE, [], customer_days.ORDERS),
        "returns": to_arrow(returns.TABLE, [], customer_days.RETURNS),
    }
    rows = customer_days.aggregate_customer_days(clean, DAYS, ())["customer_days"].to_pylist()
    counts = {(row["customer_id"], row["identified_on"].day, row["known_until"].day, row["events"]) for row in rows}
    assert counts == {("9999", 1, 4, 1), ("anna", 4, 31, 1)}


def test_a_day_of_clicks_counts_sessions_and_carts_without_robots_and_unknown_visitors(rows):
    names = ("events", "views", "sessions", "bounces", "cart_sessions", "abandoned_carts", "night_events", "weekend_events",
             "mobile_events", "active_seconds", "active_days", "orders")  # fmt: skip
    assert values(rows["clicker"], *names) == {(2, 2): (3, 1, 2, 1, 1, 1, 2, 3, 1, 600, 1, 0)}
    assert value_counts(rows["clicker"][2, 2], "channels") == [("mail", 1)]
    assert set(rows) == {"clicker", "late", "nightly", "seeker", "buyer", "doubter", "kiosk"}


def test_money_counts_by_order_date_and_a_return_by_refund_date(rows):
    names = ("orders", "order_days", "lines", "items", "gross", "discount", "postage", "returns", "cancellations", "net")
    expected = {(1, 1): (1, 1, 2, 4, 24, 4, 4, 0, 0, 20), (5, 5): (0, 0, 0, 0, 0, 0, 0, 2, 1, -18)}
    assert values(rows["buyer"], *names) == expected
    assert value_counts(rows["buyer"][1, 1], "products", "categories") == [("mug", 18), ("kitchen", 18)]
    assert (rows["buyer"][1, 1]["largest_order"], rows["buyer"][5, 5]["largest_order"]) == (21, None)


def test_activity_known_later_is_a_row_of_its_own(rows):
    names = ("views", "sessions", "bounces", "active_days")
    assert values(rows["late"], *names) == {(1, 1): (1, 1, 1, 1), (1, 4): (1, 0, -1, 0)}


def test_a_session_over_midnight_counts_on_its_first_day_as_it_is_known_at_the_end_of_each_day(rows):
    names = ("events", "sessions", "bounces", "cart_sessions", "purchase_sessions", "abandoned_carts", "active_seconds")
    expected = {(1, 1): (1, 1, 1, 1, 0, 1, 0), (1, 2): (0, 0, -1, 0, 1, -1, 1200), (2, 2): (2, 0, 0, 0, 0, 0, 0)}
    assert values(rows["nightly"], *names) == expected


def test_a_search_is_a_hit_from_the_day_on_which_a_product_followed_in_time(rows):
    expected = {(1, 1): (3, 1), (1, 2): (0, 1), (2, 2): (0, 0)}
    assert values(rows["seeker"], "searches", "search_hits") == expected
    assert value_counts(rows["seeker"][1, 1], "terms") == [("mug", 2), ("pen", 1)]


def test_an_order_counts_until_all_its_products_are_cancelled_and_its_money_stays(rows):
    names = ("orders", "order_days", "lines", "gross", "paid")
    assert values(rows["doubter"], *names) == {(1, 1): (1, 1, 2, 34, 18), (1, 1, 3): (1, 0, 1, 0, 13)}
    bought = {key: value_counts(row, "products") for key, row in rows["doubter"].items()}
    assert bought == {(1, 1): [("cup", 9), ("pen", 9)], (1, 1, 3): [("mug", 9)]}
