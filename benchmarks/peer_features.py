"""The features that both peers compute, as SQL over sums named <what>_<window>."""

from datetime import date, timedelta

WINDOWS = (7, 30, 90, 365)
# Conditions on one event, by what they count; {weekend} differs by engine.
EVENTS = {
    "events": "TRUE",
    "views": "event_type = 'view'",
    "searches": "event_type = 'search'",
    "cart_adds": "event_type = 'add_to_cart'",
    "checkouts": "event_type = 'begin_checkout'",
    "night": "hour(event_at) < 6",
    "morning": "hour(event_at) BETWEEN 6 AND 11",
    "evening": "hour(event_at) >= 18",
    "mobile": "device IN ('mobile', 'phone', 'smartphone')",
    "tablet": "device = 'tablet'",
    "weekend": "{weekend}",
}
EVENT_ROWS = "NOT is_bot AND customer_id IS NOT NULL AND day <= DATE '{day}'"
SALE_ROWS = "customer_id IS NOT NULL AND quantity > 0 AND day <= DATE '{day}'"
RETURN_ROWS = "customer_id IS NOT NULL AND day <= DATE '{day}'"


def zero_if_null(name: str) -> str:
    return f"coalesce({name}, 0)"


def _ratio(part: str, whole: str) -> str:
    return f"CAST(coalesce({part}, 0) AS DOUBLE) / nullif(CAST(coalesce({whole}, 0) AS DOUBLE), 0)"


def _trend(last: str, before: str) -> str:
    last, before = (f"CAST(coalesce({name}, 0) AS DOUBLE)" for name in (last, before))
    return f"({last} - {before}) / nullif(abs({last}) + abs({before}), 0)"


def _sums(names: str, windows: tuple[int, ...]) -> dict[str, str]:
    return {f"{name}_{w}d": zero_if_null(f"{name}_{w}") for name in names.split() for w in windows}


# Columns of features.customers as SQL over the sums.
FEATURES = {
    "recency_days": "recency_days",
    "order_recency_days": "order_recency_days",
    "tenure_days": "tenure_days",
    **_sums("orders net events sessions", WINDOWS),
    **_sums("active_days views searches cart_adds checkouts abandoned_carts", (30, 365)),
    **_sums("returns", (90, 365)),
    "gross_365d": zero_if_null("gross_365"),
    "orders_life": zero_if_null("orders_life"),
    "products_bought_365d": zero_if_null("products_bought"),
    "categories_bought_365d": zero_if_null("categories_bought"),
    "average_order_365d": _ratio("gross_365 - discount_365", "orders_365"),
    "items_per_order_365d": _ratio("items_365", "orders_365"),
    "lines_per_order_365d": _ratio("lines_365", "orders_365"),
    "top_category_share_365d": "CAST(top_category AS DOUBLE) / nullif(CAST(paid AS DOUBLE), 0)",
    "discount_share_365d": _ratio("discount_365", "gross_365"),
    "return_share_365d": _ratio("returned_365", "gross_365"),
    "order_gap_days": "CAST(order_span AS DOUBLE) / nullif(order_days - 1, 0)",
    "weekend_order_share_365d": _ratio("weekend_orders_365", "orders_365"),
    "session_seconds_365d": _ratio("seconds_365", "sessions_365"),
    "events_per_session_365d": _ratio("events_365", "sessions_365"),
    "bounce_share_365d": _ratio("bounces_365", "sessions_365"),
    "cart_rate_365d": _ratio("cart_sessions_365", "sessions_365"),
    "checkout_rate_365d": _ratio("checkout_sessions_365", "cart_sessions_365"),
    "purchase_rate_365d": _ratio("purchase_sessions_365", "sessions_365"),
    "search_share_365d": _ratio("searches_365", "events_365"),
    **{f"{part}_share_365d": _ratio(f"{part}_365", "events_365") for part in ("night", "morning", "evening", "weekend")},
    **{f"{part}_share_365d": _ratio(f"{part}_365", "events_365") for part in ("mobile", "tablet")},
    "net_trend_90d": _trend("net_90", "net_90_180"),
    "events_trend_30d": _trend("events_30", "events_30_60"),
}


def within_days(column: str, day: date, days: int, until: int = 0) -> str:
    """Return the condition that the column lies in the `days` days up to the day `until` days before `day`.

    >>> within_days("day", date(2026, 3, 31), 90, until=30)
    "day > DATE '2025-12-31' AND day <= DATE '2026-03-01'"
    """
    return f"{column} > DATE '{day - timedelta(days=days)}' AND {column} <= DATE '{day - timedelta(days=until)}'"
