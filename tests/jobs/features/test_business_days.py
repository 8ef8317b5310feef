"""Hours and days of features where the shop's clock is that of Los Angeles; summer time begins on 10 March 2024."""

from datetime import date

import pytest

from jobs.clean import customers as clean_customers
from jobs.clean import events, orders, returns
from jobs.features import customer_days, customers
from tests.jobs.features.logs import to_arrow

ZONE = "America/Los_Angeles"
COMMON = {"customer_id": "ann", "identified_on": "2024-03-09"}


def event(day, at, began, **more):
    return {**COMMON, "day": day, "event_at": at, "event_type": "view", "visitor_id": "v", "is_bot": False, "session_id": "s",
            "session_started_at": began, "identified_on": day, **more}  # fmt: skip


def line(number, day, at, **more):
    return {**COMMON, "order_id": number, "line_no": 1, "day": day, "ordered_at": at, "product_id": "mug", "line_kind": "product",
            "quantity": 1, "gross_amount": 10, "discount_amount": 0, "status": "placed", "known_from": day,
            "known_until": "9999-12-31", **more}  # fmt: skip


def aggregate(log, orders_of_log, zone):
    """Return rows of features.customer_days by (day, identified_on, known_until)."""
    tables = {
        "events": to_arrow(events.TABLE, log, customer_days.EVENTS),
        "orders": to_arrow(orders.TABLE, orders_of_log, customer_days.ORDERS),
        "returns": to_arrow(returns.TABLE, [], customer_days.RETURNS),
    }
    days = [date(2024, 3, n) for n in range(8, 13)]
    rows = customer_days.aggregate_customer_days(tables, days, (), zone)["customer_days"].to_pylist()
    return {(str(row["day"]), str(row["identified_on"]), str(row["known_until"])): row for row in rows}


def test_events_and_orders_are_of_the_hours_of_the_shop_and_differences_of_utc():
    began = "2024-03-10 07:58:00"  # 23:58 on the 9th
    log = [
        event("2024-03-09", began, began),
        event("2024-03-10", "2024-03-10 10:02:00", began),  # 03:02: two o'clock was left out
        event("2024-03-10", "2024-03-11 01:00:00", "2024-03-11 01:00:00", session_id="t"),  # 18:00 in summer time
    ]
    times = ("2024-03-10 18:59:00", "2024-03-10 19:30:00", "2024-03-11 06:30:00")  # 11:59, 12:30 and 23:30
    sold = [line(str(n), "2024-03-10", at) for n, at in enumerate(times)]
    rows = aggregate(log, sold, ZONE)
    ninth, late, tenth = rows[key("09", "09")], rows[key("09", "10")], rows[key("10", "10")]
    names = ("evening_events", "night_events", "sessions", "active_seconds", "bounces")
    assert [ninth[name] for name in names] == [1, 0, 1, 0, 1]
    assert [late[name] for name in names] == [0, 0, 0, 2 * 3600 + 4 * 60, -1]
    assert [tenth[name] for name in names] == [1, 1, 1, 0, 1]
    assert [tenth[name] for name in ("orders", "morning_orders", "evening_orders")] == [3, 1, 1]
    assert tenth["hour_sine"] == pytest.approx(713_250 - 1_000_000, abs=1)  # of 03:02 and 18:00


def key(day, since, until="9999-12-31"):
    return f"2024-03-{day}", f"2024-03-{since}", until


def test_an_order_counts_until_the_evening_on_which_it_was_cancelled():
    sold = [line("1", "2024-03-09", "2024-03-09 18:00:00", status="cancelled", returned_at="2024-03-12 05:00:00")]
    assert aggregate([], sold, ZONE)[key("09", "09", "2024-03-11")]["orders"] == 1
    assert aggregate([], sold, "UTC")[key("09", "09", "2024-03-12")]["orders"] == 1


@pytest.mark.parametrize(("zone", "days"), [("UTC", []), (ZONE, [date(2024, 3, 9)])])
def test_a_customer_is_known_from_the_evening_of_the_registration(zone, days):
    record = {"customer_id": "ann", "day": "1970-01-01", "registered_at": "2024-03-10 07:59:00"}
    tables = {
        "recent": to_arrow(customer_days.TABLE, [], customers.RECENT),
        "older": to_arrow(customer_days.TABLE, [], customers.OLDER),
        "records": to_arrow(clean_customers.TABLE, [record], customers.RECORDS),
    }
    rows = customers.compute_features(tables, [date(2024, 3, 9)], 365, time_zone=zone)["customers"]
    assert rows["first_known_day"].to_pylist() == days
