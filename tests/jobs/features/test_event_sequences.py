"""features.event_sequences: the events of a customer and day in order, as they were known on each day."""

from datetime import date

from jobs.clean import events, orders
from jobs.features import event_sequences
from tests.jobs.features.logs import to_arrow
from tests.jobs.features.test_customer_days import event, line

FOREVER = date(9999, 12, 31)


def collect(clean_events, clean_orders=()):
    """Return {(customer, day): [(identified_on, known_until, events as type or type and product)]}."""
    numbered = [row | {"event_id": str(n)} for n, row in enumerate(clean_events)]
    tables = {
        "events": to_arrow(events.TABLE, numbered, event_sequences.EVENTS),
        "moved": to_arrow(events.TABLE, [r for r in numbered if r.get("former_customer_id")], event_sequences.EVENTS),
        "orders": to_arrow(orders.TABLE, list(clean_orders), event_sequences.ORDERS),
    }
    rows = event_sequences.collect_sequences(tables)["sequences"].to_pylist()
    found = {}
    for row in rows:
        names = [" ".join(filter(None, (e["event_type"], e["product_id"]))) for e in row["events"]]
        assert (row["n_events"], row["last_event_at"]) == (len(names), row["events"][-1]["event_at"])
        found.setdefault((row["customer_id"], str(row["day"])[-2:]), []).append((row["identified_on"], row["known_until"], names))
    return found


def test_events_of_a_day_are_in_order_and_robots_and_strangers_have_none():
    rows = [
        event("a", "2024-03-01 10:05:00", "add_to_cart", product_id="mug"),
        event("a", "2024-03-01 10:00:00", "view", product_id="mug"),
        event("a", "2024-03-02 10:00:00", "view", is_bot=True),
        event(None, "2024-03-01 10:00:00", "view"),
    ]
    assert collect(rows) == {("a", "01"): [(date(2024, 3, 1), FOREVER, ["view mug", "add_to_cart mug"])]}


def test_an_event_that_is_identified_later_is_a_row_of_its_own():
    rows = [event("a", "2024-03-01 10:00:00", "view"), event("a", "2024-03-01 11:00:00", "login", identified_on="2024-03-04")]
    assert collect(rows) == {
        ("a", "01"): [(date(2024, 3, 1), FOREVER, ["view"]), (date(2024, 3, 4), FOREVER, ["login"])],
    }


def test_events_of_a_device_count_until_it_is_known_to_be_shared():
    rows = [event(None, "2024-03-01 10:00:00", "view", shared_since="2024-03-04", former_customer_id="kiosk")]
    assert collect(rows) == {("kiosk", "01"): [(date(2024, 3, 1), date(2024, 3, 4), ["view"])]}


def test_an_event_that_moves_to_another_customer_is_of_each_in_turn():
    rows = [event("new", "2024-03-01 10:00:00", "view", shared_since="2024-03-03", former_customer_id="old")]
    assert collect(rows) == {
        ("new", "01"): [(date(2024, 3, 3), FOREVER, ["view"])],
        ("old", "01"): [(date(2024, 3, 1), date(2024, 3, 3), ["view"])],
    }


def test_product_lines_are_purchases_unless_a_purchase_event_names_a_product():
    lines = [line(1), line(2, "postage"), line(3, quantity=0), line(4, product_id="pen")]
    bought = [(date(2024, 3, 1), FOREVER, ["purchase mug", "purchase pen"])]
    assert collect([], lines) == {("buyer", "01"): bought}
    assert collect([event("buyer", "2024-03-01 08:00:00", "purchase")], lines) == {
        ("buyer", "01"): [(date(2024, 3, 1), FOREVER, ["purchase", "purchase mug", "purchase pen"])]
    }
    seen = event("buyer", "2024-03-01 08:00:00", "purchase", product_id="cup")
    assert collect([seen], lines) == {("buyer", "01"): [(date(2024, 3, 1), FOREVER, ["purchase cup"])]}
    later = seen | {"identified_on": "2024-03-05"}
    assert collect([later], lines) == {
        ("buyer", "01"): [(date(2024, 3, 1), date(2024, 3, 5), ["purchase mug", "purchase pen"]),
                          (date(2024, 3, 5), FOREVER, ["purchase cup"])]
    }  # fmt: skip


def test_the_fingerprint_differs_where_an_event_differs():
    def fingerprint(**more):
        rows = [event("a", "2024-03-01 10:00:00", "view", event_id="1", **more)]
        tables = {"events": to_arrow(events.TABLE, rows, event_sequences.EVENTS)}
        tables |= {"moved": tables["events"].slice(1), "orders": to_arrow(orders.TABLE, [], event_sequences.ORDERS)}
        return event_sequences.collect_sequences(tables)["sequences"]["fingerprint"][0].as_py()

    assert fingerprint() == fingerprint()
    assert len({fingerprint(), fingerprint(product_id="mug"), fingerprint(category="mug"), fingerprint(price="2.5")}) == 4
