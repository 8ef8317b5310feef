"""Daily aggregates, the columns of features.customer_days, and windowed aggregates, what features compute from them.

To add a daily aggregate, add an entry to DAILY_AGGREGATES; the table's column, its comment and docs/features.md follow.
"""

from dataclasses import dataclass
from typing import NamedTuple

SEARCH_HIT_MINUTES = 10
HOLIDAY_LEAD_DAYS = 7
MONEY = "DECIMAL(18,4)"
HISTOGRAM = "ARRAY<STRUCT<thing: STRING, amount: DECIMAL(18,4)>>"
HISTOGRAM_DAYS = 365  # the histograms of older days are not read
HISTOGRAM_OPERATIONS = ("count_distinct", "total_amount", "largest_amount", "entropy", "mode")
LIFE = None  # the window of all days

# The rows that the SQL of a daily aggregate is evaluated on.
SOURCES = {
    "event": "a row of clean.events, robots left out, and `local_at`, its time by the shop clock",
    "session": "a customer's part of a session as known then, on the day the session began: the daily aggregates of its "
    "events, and `seconds` from the first to the last; what is known later is a row of its own with the difference",
    "search": "a search, on its day, known once the next view or cart of its session came",
    "line": "a row of clean.orders with pieces, from known_from until known_until",
    "product": "a row of clean.orders with pieces of a product, until all products of its order are cancelled",
    "order": "the lines of a version of an order on a day, unless all are discounts: gross_amount, discount_amount, ordered_at "
    "(the first), `local_at` (the same by the shop clock), before_holiday",
    "order_day": "a stretch of days on which a day is known to have orders, however many",
    "return": "the rows of clean.returns of one return line: amount, kind",
    "row": "the other daily aggregates of the same row; where the customer has several rows of the day with events also "
    "`events_until`, the day until which those before it hold; else null",
}


class DailyAggregate(NamedTuple):
    """One column of features.customer_days: what the clean rows of a day add to a customer.

    `sql`, of DuckDB, is evaluated on each row of `source`, a key of SOURCES. `operation` merges rows and days: sum, min, max or
    histogram. A histogram keeps every value of `sql` with the sum of its `amount`, so that distinct counts over several
    days are exact.
    """

    name: str
    sql_type: str
    operation: str
    source: str
    sql: str
    meaning: str
    amount: str = "1"


def _count(name: str, source: str, condition: str, meaning: str) -> DailyAggregate:
    return DailyAggregate(name, "BIGINT", "sum", source, f"({condition})::INT", meaning)


def _money(name: str, operation: str, source: str, sql: str, meaning: str) -> DailyAggregate:
    return DailyAggregate(name, MONEY, operation, source, sql, meaning)


def _histogram(name: str, source: str, sql: str, meaning: str, amount: str = "1") -> DailyAggregate:
    return DailyAggregate(name, HISTOGRAM, "histogram", source, sql, meaning, amount)


def _hour_between(first: int, end: int) -> str:
    return f"hour(local_at) >= {first} AND hour(local_at) < {end}"


_ANGLE = "radians((hour(local_at) * 60 + minute(local_at)) / 4)"
_PAID = "gross_amount - discount_amount"
DAILY_AGGREGATES: tuple[DailyAggregate, ...] = (
    _count("events", "event", "true", "events"),
    _count("views", "event", "event_type = 'view'", "views"),
    _count("searches", "event", "event_type = 'search'", "searches"),
    _count("search_hits", "search", "true",
           f"searches after which a product was viewed or put in the cart in the session within {SEARCH_HIT_MINUTES} minutes"),
    _count("cart_adds", "event", "event_type = 'add_to_cart'", "products put in the cart"),
    _count("checkouts", "event", "event_type = 'begin_checkout'", "checkouts begun"),
    _count("purchases", "event", "event_type = 'purchase'", "purchase events"),
    _count("night_events", "event", _hour_between(0, 6), "events from 0 to 6 by the shop clock"),
    _count("morning_events", "event", _hour_between(6, 12), "events from 6 to 12 by the shop clock"),
    _count("evening_events", "event", _hour_between(18, 24), "events from 18 to 24 by the shop clock"),
    DailyAggregate("hour_sine", "BIGINT", "sum", "event", f"round(sin({_ANGLE}) * 1000000)::INT",
                   "sine of the time of day, the day a full turn, whole minutes, in millionths"),
    DailyAggregate("hour_cosine", "BIGINT", "sum", "event", f"round(cos({_ANGLE}) * 1000000)::INT",
                   "cosine of the time of day, the day a full turn, whole minutes, in millionths"),
    _count("weekend_events", "event", "isodow(day) >= 6", "events on Saturday or Sunday"),
    _count("mobile_events", "event", "device IN ('mobile', 'phone', 'smartphone')", "events on a phone"),
    _count("tablet_events", "event", "device = 'tablet'", "events on a tablet"),
    _count("desktop_events", "event", "device IN ('desktop', 'computer', 'laptop', 'pc')", "events on a desktop"),
    _count("sessions", "session", "events > 0", "sessions, on the day they began"),
    _count("bounces", "session", "events = 1", "sessions of one event"),
    _count("cart_sessions", "session", "cart_adds > 0", "sessions that filled a cart"),
    _count("checkout_sessions", "session", "cart_adds > 0 AND checkouts > 0", "sessions with a cart and a checkout"),
    _count("purchase_sessions", "session", "purchases > 0", "sessions with a purchase"),
    _count("abandoned_carts", "session", "cart_adds > 0 AND purchases = 0", "sessions with a cart and no purchase"),
    DailyAggregate("active_seconds", "BIGINT", "sum", "session", "seconds", "whole seconds from first to last event of sessions"),
    _count("active_days", "row", "events > 0 AND coalesce(events_until <= identified_on, true)",
           "1 where there was an event, on the first such row of the day"),
    _count("orders", "order", "true", "orders, less those cancelled"),
    _count("order_days", "order_day", "true", "1 where there was an order, once from when until when it was known"),
    _money("paid", "sum", "order", _PAID, "gross less discount of these orders, home currency"),
    _count("weekend_orders", "order", "isodow(day) >= 6", "orders on Saturday or Sunday"),
    _count("morning_orders", "order", _hour_between(0, 12), "orders from 0 to 12 by the shop clock"),
    _count("evening_orders", "order", _hour_between(18, 24), "orders from 18 to 24 by the shop clock"),
    *(_count(f"q{q}_orders", "order", f"quarter(day) = {q}", f"orders in quarter {q} of a year") for q in (1, 2, 3, 4)),
    _count("holiday_orders", "order", "before_holiday",
           f"orders on a public holiday of the shop or the {HOLIDAY_LEAD_DAYS} days before"),
    _count("discounted_orders", "order", "discount_amount > 0", "orders with a discount"),
    _money("largest_order", "max", "order", _PAID, "largest order after discounts, home currency; null without one"),
    _money("smallest_order", "min", "order", _PAID, "smallest order after discounts, home currency; null without one"),
    _count("lines", "product", "true", "order lines of products"),
    _money("items", "sum", "product", "quantity", "pieces ordered"),
    _money("gross", "sum", "line", "gross_amount", "gross money, home currency"),
    _money("discount", "sum", "line", "discount_amount", "discounts, home currency"),
    _money("postage", "sum", "line", "CASE WHEN line_kind = 'postage' THEN gross_amount END",
           "gross money for postage, home currency"),
    _money("returned", "sum", "return", "amount", "money given back on the day, home currency"),
    _count("returns", "return", "true", "return lines on the day, cancellations included"),
    _count("cancellations", "return", "kind = 'cancellation'", "cancelled lines on the day"),
    _money("net", "sum", "row", "gross - discount - returned", "gross less discount less returned, home currency"),
    _histogram("products", "product", "product_id", "products ordered and the money paid for each", _PAID),
    _histogram("categories", "product", "category", "categories ordered and the money paid for each", _PAID),
    _histogram("terms", "event", "CASE WHEN event_type = 'search' THEN search_term END", "words searched for and how often"),
    _histogram("channels", "event", "CASE WHEN event_at = session_started_at THEN channel END",
               "channels of the events that opened a session and how many"),
)  # fmt: skip
_BY_NAME = {aggregate.name: aggregate for aggregate in DAILY_AGGREGATES}


@dataclass(frozen=True)
class WindowedAggregate:
    """A daily aggregate over the `days` days that end `before` days ago; `days` is LIFE for all days.

    `operation` is that of the daily aggregate; for a histogram it is one of HISTOGRAM_OPERATIONS.
    """

    daily_aggregate: DailyAggregate
    operation: str
    days: int | None
    before: int = 0

    @property
    def column(self) -> str:
        """The name that stands for it in SQL.

        >>> sum("orders", days=LIFE).column, sum("net", days=90, before=90).column, entropy("categories", days=365).column
        ('orders__life', 'net__90_180', 'categories__entropy_365')
        """
        window = "life" if self.days is LIFE else str(self.before + self.days)
        if self.before:
            window = f"{self.before}_{window}"
        if self.daily_aggregate.operation == "histogram":
            window = f"{self.operation}_{window}"
        return f"{self.daily_aggregate.name}__{window}"


def sum(name: str, *, days: int | None, before: int = 0) -> WindowedAggregate:
    """Return the sum of a daily aggregate over a window."""
    return _window(name, "sum", days, before)


def min(name: str, *, days: int | None) -> WindowedAggregate:
    """Return the minimum of a daily aggregate over a window."""
    return _window(name, "min", days)


def max(name: str, *, days: int | None) -> WindowedAggregate:
    """Return the maximum of a daily aggregate over a window."""
    return _window(name, "max", days)


def count_distinct(name: str, *, days: int) -> WindowedAggregate:
    """Return the number of different values of a histogram in a window."""
    return _window(name, "count_distinct", days)


def total_amount(name: str, *, days: int) -> WindowedAggregate:
    """Return the sum of all amounts of a histogram."""
    return _window(name, "total_amount", days)


def largest_amount(name: str, *, days: int) -> WindowedAggregate:
    """Return the largest amount that one value of a histogram has."""
    return _window(name, "largest_amount", days)


def entropy(name: str, *, days: int) -> WindowedAggregate:
    """Return the entropy of the shares that the values of a histogram have in its amount, in nats."""
    return _window(name, "entropy", days)


def mode(name: str, *, days: int) -> WindowedAggregate:
    """Return the value of a histogram with the largest amount; ties go to the first in the alphabet."""
    return _window(name, "mode", days)


def _window(name: str, operation: str, days: int | None, before: int = 0) -> WindowedAggregate:
    """Return the windowed aggregate; raise ValueError where the daily aggregate cannot give it."""
    if name not in _BY_NAME:
        raise ValueError(f"catalogue: no daily aggregate is called '{name}'")
    aggregate = _BY_NAME[name]
    if aggregate.operation == "histogram":
        allowed_days = range(1, HISTOGRAM_DAYS + 1) if operation == "count_distinct" else (HISTOGRAM_DAYS,)
        is_given = operation in HISTOGRAM_OPERATIONS and days in allowed_days
    elif days is LIFE:
        is_given = operation == aggregate.operation and before == 0
    else:
        is_given = operation == aggregate.operation and days > 0 and before >= 0
    if not is_given:
        window = f"{'all' if days is LIFE else days} days, up to {before} days ago"
        raise ValueError(f"catalogue: '{name}' is a {aggregate.operation}; it gives no {operation} over {window}")
    return WindowedAggregate(aggregate, operation, days, before)
