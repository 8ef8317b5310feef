"""The kernels of clean events and orders where the shop's days are those of Los Angeles; summer time begins on 10 March 2024."""

from dataclasses import replace
from datetime import UTC, date, datetime

import polars as pl
import pytest

from jobs.bronze import events as bronze_events
from jobs.clean import _order_rows, _robots, events, identities, sessions
from jobs.config.settings import Clean
from tests.jobs.clean import kernels, order_kernels
from tests.jobs.clean.rejects import land

ZONE = "America/Los_Angeles"
NINTH, TENTH = date(2024, 3, 9), date(2024, 3, 10)


def click(number, day, at, customer=None):
    return {"event_id": f"e{number}", "event_at": at, "visitor_id": "phone", "event_type": "view", "customer_id": customer,
            "page": f"/{number}", "day": day}  # fmt: skip


def clean_events(monkeypatch, *rows, zone=ZONE):
    """Return the outputs of both kernels of events in a zone."""
    in_zone = lambda limits, people=kernels.NOBODY: replace(PLAIN(limits, people), time_zone=zone)  # noqa: E731
    monkeypatch.setattr(kernels, "inputs", in_zone)
    classified = kernels.classify(land(bronze_events.TABLE, *rows), Clean())
    return classified, kernels.clean(classified, Clean())


PLAIN = kernels.inputs


def test_an_event_belongs_to_the_evening_of_the_shop_and_is_refused_on_another_day(monkeypatch):
    classified, cleaned = clean_events(
        monkeypatch,
        click(1, NINTH, "2024-03-10T07:59:00Z"), click(2, TENTH, "2024-03-10T08:00:00Z"),
        click(3, TENTH, "2024-03-11T06:59:00Z"), click(4, TENTH, "2024-03-11T07:00:00Z"), click(5, TENTH, "2024-03-10T07:59:59Z"),
    )  # fmt: skip
    assert {row["event_id"]: row["rules"] for row in classified["rejects"].to_pylist()} == {"e4": ["future"], "e5": ["too_late"]}
    assert {row["event_id"]: row["day"] for row in cleaned["events"].to_pylist()} == {"e1": NINTH, "e2": TENTH, "e3": TENTH}


def test_a_session_over_local_midnight_lies_on_the_day_it_began_and_so_does_who_was_seen(monkeypatch):
    _, cleaned = clean_events(
        monkeypatch,
        click(1, NINTH, "2024-03-10T07:50:00Z", "ann"), click(2, TENTH, "2024-03-10T08:05:00Z"),
        click(3, TENTH, "2024-03-11T06:00:00Z", "bob"),
    )  # fmt: skip
    summary = sessions.summarize_sessions({"events": cleaned["events"]}, [NINTH, TENTH], ZONE)["sessions"].to_pylist()
    assert [(row["day"], row["n_events"]) for row in summary] == [(NINTH, 2), (TENTH, 1)]
    assert [(row["customer_id"], row["day"]) for row in cleaned["links"].to_pylist()] == [("ann", NINTH), ("bob", TENTH)]
    named = {row["event_id"]: (row["customer_id"], row["identified_on"]) for row in cleaned["events"].to_pylist()}
    assert named == {"e1": ("ann", NINTH), "e2": ("ann", TENTH), "e3": ("bob", TENTH)}


@pytest.mark.parametrize(
    ("zone", "evening", "night"),
    [(ZONE, "2024-03-10T07:50:00Z", "2024-03-10T08:05:00Z"), ("Asia/Tokyo", "2024-03-09T14:50:00Z", "2024-03-09T15:05:00Z")],
)
def test_a_session_of_the_evening_before_goes_on_after_local_midnight(monkeypatch, zone, evening, night):
    _, before = clean_events(monkeypatch, click(1, NINTH, evening), zone=zone)
    classified = kernels.classify(land(bronze_events.TABLE, click(2, TENTH, night)), Clean())
    after = kernels.clean(classified, Clean(), open=before["events"].select(events.OPEN_COLUMNS))
    assert after["events"]["session_id"].to_pylist() == before["events"]["session_id"].to_pylist()


@pytest.mark.parametrize(("zone", "rule"), [("UTC", None), ("Asia/Kolkata", "around_the_clock")])
def test_the_hours_of_a_robot_are_those_of_the_shop(zone, rule):
    minutes = [(hour, 10) for hour in range(19)] + [(18, 25), (18, 35)]  # of 19 hours in UTC, of 20 in Kolkata
    times = [datetime(2024, 3, 9, hour, minute, tzinfo=UTC) for hour, minute in minutes]
    rows = pl.DataFrame({
        "event_at": times, "active_since": times, "event_type": "view", "page": [str(n) for n in range(len(times))],
        "product_id": None, "search_term": None, "visitor_day": 0, "bot_rule": None,
    }, schema_overrides={"bot_rule": pl.String, "product_id": pl.String, "search_term": pl.String})  # fmt: skip
    flagged = _robots.flag_round_the_clock_activity(rows, Clean(), zone)
    assert set(flagged["bot_rule"]) == {rule}


def test_the_customers_of_a_shared_device_are_counted_by_the_days_of_the_shop():
    seen = [{"observed_at": datetime(2024, 3, 10, 7, n, tzinfo=UTC), "customer_id": f"c{n}"} for n in range(3)]
    days = pl.DataFrame({
        "visitor_id": ["kiosk"], "day": [NINTH], "first_at": [seen[0]["observed_at"]], "last_at": [seen[2]["observed_at"]],
        "seen": [seen], "mailed": pl.Series([[]], dtype=pl.List(pl.Datetime("us", "UTC"))),
    })  # fmt: skip
    links = identities.link_visitors(days, Clean(max_customers_per_visitor=2))
    assert set(links["day"]) == set(links["shared_since"]) == {NINTH}


def order(number, day, at, **more):
    return {"order_id": str(number), "line_no": "1", "ordered_at": at, "customer_id": "ann", "product_id": "pot",
            "quantity": "1", "unit_price": "5.00", "day": day, "_delivery": "snapshots", "_file": "orders_1", **more}  # fmt: skip


def classify_orders(*rows):
    raw = land(_order_rows.BRONZE, *rows)
    return order_kernels.classify(raw, limits=replace(order_kernels.LIMITS, time_zone=ZONE))


def test_two_orders_of_an_evening_are_of_one_day_and_one_after_it_is_refused():
    classified = classify_orders(
        order(1, TENTH, "2024-03-10T18:00:00Z"), order(2, TENTH, "2024-03-11T06:59:00Z"), order(3, TENTH, "2024-03-11T07:00:00Z")
    )
    assert {row["order_id"]: row["day"] for row in classified["lines"].to_pylist()} == {"1": TENTH, "2": TENTH}
    assert [(row["order_id"], row["rules"]) for row in classified["rejects"].to_pylist()] == [("3", ["future"])]


def test_a_version_is_known_from_the_day_of_the_shop_on_which_it_was_written():
    first = order(1, NINTH, "2024-03-09T18:00:00Z", updated_at="2024-03-09T18:00:00Z")
    newer = first | {"quantity": "2", "updated_at": "2024-03-13T05:00:00Z", "_file": "orders_2"}
    lines = classify_orders(first, newer)["lines"].to_pylist()
    assert sorted((row["known_from"], row["quantity"]) for row in lines) == [(NINTH, 1), (date(2024, 3, 12), 2)]


@pytest.mark.parametrize(
    ("more", "day"),
    [
        ({"updated_at": "2024-03-13T05:00:00Z"}, date(2024, 3, 12)),
        ({"_file_day": date(2024, 3, 12)}, date(2024, 3, 12)),  # not the evening before, when that day began in UTC
    ],
)
def test_a_return_counts_on_the_day_of_the_shop(more, day):
    sale = order(1, NINTH, "2024-03-09T18:00:00Z")
    back = sale | {"kind": "return", "_file": "orders_2"} | more
    classified = classify_orders(sale, back)
    assert [row["day"] for row in classified["returned"].to_pylist()] == [day]
    built, _ = order_kernels.match(classified)
    assert sorted((row["known_from"], row["status"]) for row in built.to_pylist())[-1] == (day, "returned")
