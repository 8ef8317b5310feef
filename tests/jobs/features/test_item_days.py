"""features.item_days: what customers searched, viewed, put into carts and ordered on a day."""

from jobs.clean import events, orders
from jobs.features import customer_days
from jobs.features.item_days import count_items
from tests.jobs.features.logs import to_arrow

SECRET = "a key that is long enough"  # noqa: S105
FOREVER = "9999-12-31"


def event(customer, kind, product=None, words=None, **more):
    return {"day": "2024-03-01", "event_at": "2024-03-01 10:00:00", "event_type": kind, "customer_id": customer, "is_bot": False,
            "session_id": "s", "session_started_at": "2024-03-01 10:00:00", "identified_on": "2024-03-01",
            "product_id": product, "search_term": words, **more}  # fmt: skip


def line(customer, product, **more):
    return {"order_id": "1", "day": "2024-03-01", "ordered_at": "2024-03-01 09:00:00", "customer_id": customer, "quantity": 5,
            "product_id": product, "line_kind": "product", "status": "placed", "known_from": "2024-03-01",
            "known_until": FOREVER, **more}  # fmt: skip


def count(events_, lines=()):
    tables = {
        "events": to_arrow(events.TABLE, events_, customer_days.EVENTS),
        "moved": to_arrow(events.TABLE, [], customer_days.EVENTS),
        "orders": to_arrow(orders.TABLE, list(lines), customer_days.ORDERS),
    }
    return count_items(tables, max_characters=10, secret=SECRET)["item_days"].to_pylist()


def test_events_and_order_lines_of_an_item_are_counted_and_those_of_robots_and_strangers_are_not():
    rows = count(
        [event("a", "view", "mug"), event("a", "view", "mug"), event("a", "add_to_cart", "mug"), event("a", "view"),
         event("a", "login"), event("a", "view", "pen", is_bot=True), event(None, "view", "pen")],
        [line("a", "mug"), line("a", "post", line_kind="postage")],
    )  # fmt: skip
    assert [(row["kind"], row["item"], row["n"]) for row in rows] == [
        ("add_to_cart", "mug", 1), ("order", "mug", 1), ("view", "mug", 2),
    ]  # fmt: skip


def test_words_are_named_by_a_keyed_hash_of_their_beginning_with_single_spaces():
    rows = count([event("a", "search", words=words) for words in ("red  mug", " red mug ", "🎁", " ", None, "x" * 11, "x" * 12)])
    assert sorted(row["n"] for row in rows) == [1, 2, 2]
    assert all(len(row["item"]) == 32 and "mug" not in row["item"] for row in rows)


def test_an_item_is_known_when_its_customer_is_and_until_a_version_of_the_order_ends():
    rows = count(
        [event("late", "view", "mug", identified_on="2024-03-04"), event("kiosk", "view", "mug", shared_since="2024-03-05")],
        [line("editor", "mug", known_until="2024-03-03"), line("editor", "pen", known_from="2024-03-03")],
    )
    times = {(row["customer_id"], row["item"]): (str(row["identified_on"]), str(row["known_until"])) for row in rows}
    assert times[("late", "mug")] == ("2024-03-04", FOREVER)
    assert times[("editor", "mug")] == ("2024-03-01", "2024-03-03")
    assert times[("editor", "pen")] == ("2024-03-03", FOREVER)
    kiosk = [(str(row["identified_on"]), str(row["known_until"])) for row in rows if row["customer_id"] == "kiosk"]
    assert kiosk == [("2024-03-01", "2024-03-05"), ("2024-03-05", FOREVER)]
