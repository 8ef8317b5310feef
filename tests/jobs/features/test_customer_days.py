"""features.customer_days: what a customer did on a day, in numbers that add up."""

from jobs.clean import events, orders, returns
from jobs.features import customer_days


def frame(spark, table, rows):
    """Rows given as dicts, in the table's contract, the rest null or zero."""
    names = table.TABLE.columns
    types = {part.split()[0]: part.split()[1] for part in table.SCHEMA.strip().split(",\n")}
    given = [tuple(None if row.get(n) is None else str(row[n]) for n in names) for row in rows]
    text = spark.createDataFrame(given, ", ".join(f"{n} STRING" for n in names))
    return text.selectExpr(*(f"CAST({n} AS {types[n]}) AS {n}" for n in names))


def event(at, kind, session="s", **more):
    day = at[:10]
    return {"day": day, "event_at": at, "event_type": kind, "visitor_id": "v", "customer_id": "anna", "session_id": session,
            "session_started_at": at[:14] + "00:00", "is_bot": False, "identified_on": day, **more}  # fmt: skip


def days_of(spark, of_events=(), of_orders=(), of_returns=()):
    found = customer_days.customer_days(
        frame(spark, events, of_events), frame(spark, orders, of_orders), frame(spark, returns, of_returns)
    )
    return sorted(found.collect(), key=lambda r: (r.customer_id, r.day, r.identified_on))


def test_a_day_of_clicks_counts_sessions_carts_and_robots_not(spark):
    (row,) = days_of(
        spark,
        [
            event("2024-03-02 02:00:00", "view", device="mobile"),
            event("2024-03-02 02:10:00", "add_to_cart"),
            event("2024-03-02 09:00:00", "search", session="t"),
            event("2024-03-02 09:00:00", "view", session="u", is_bot=True),
            event("2024-03-02 09:00:00", "view", session="w", customer_id=None),
        ],
    )
    got = {k: row[k] for k in ("events", "views", "sessions", "bounces", "cart_sessions", "abandoned_carts", "night_events",
                               "weekend_events", "mobile_events", "active_seconds", "active_days", "orders")}  # fmt: skip
    assert got == {"events": 3, "views": 1, "sessions": 2, "bounces": 1, "cart_sessions": 1, "abandoned_carts": 1,
                   "night_events": 2, "weekend_events": 3, "mobile_events": 1, "active_seconds": 600, "active_days": 1,
                   "orders": 0}  # fmt: skip


def test_money_counts_by_order_date_and_a_return_on_its_own(spark):
    line = {"day": "2024-03-01", "customer_id": "anna", "product_id": "mug", "line_kind": "product",
            "category": "kitchen", "quantity": 2,
            "gross_amount": 10, "discount_amount": 1, "returned_amount": 9, "net_amount": 0}  # fmt: skip
    back = {"return_order_id": "R", "return_line_no": 1, "day": "2024-03-05", "customer_id": "anna", "amount": 9}
    first, later = days_of(
        spark,
        of_orders=[{**line, "order_id": "1", "line_no": 1}, {**line, "order_id": "1", "line_no": 2}],
        of_returns=[{**back, "order_id": "1", "line_no": 1}, {**back, "order_id": "1", "line_no": 2}],
    )
    assert (first.orders, first.lines, int(first.items), int(first.net), first.order_days) == (1, 2, 4, 18, 1)
    assert [(b.product_id, int(b.amount)) for b in first.bought] == [("mug", 18)]
    assert (later.orders, later.returns, int(later.returned), int(later.net)) == (0, 1, 18, -18)


def test_activity_known_later_is_a_row_of_its_own(spark):
    found = days_of(
        spark, [event("2024-03-01 10:00:00", "view"), event("2024-03-01 10:01:00", "view", identified_on="2024-03-04")]
    )
    got = [(str(r.identified_on), r.views, r.sessions, r.active_days) for r in found]
    assert got == [("2024-03-01", 1, 1, 1), ("2024-03-04", 1, 0, 0)]


def test_a_session_over_midnight_counts_once_and_as_the_end_of_each_day_knows_it(spark):
    found = days_of(
        spark,
        [
            event("2024-03-01 23:50:00", "add_to_cart"),
            event("2024-03-02 00:05:00", "add_to_cart"),
            event("2024-03-02 00:10:00", "purchase"),
        ],
    )
    names = ("events", "sessions", "bounces", "cart_sessions", "purchase_sessions", "abandoned_carts", "active_seconds")
    assert [tuple(row[name] for name in names) for row in found] == [(1, 1, 1, 1, 0, 1, 0), (2, 0, -1, 0, 1, -1, 1200)]
