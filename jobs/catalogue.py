"""The feature catalogue: every feature is declared here once; the Spark code, column comments and docs/features.md follow.

An expression is SQL over sums of the partials of features.customer_days: `orders__90` is `orders` over the last 90 days
up to and with the day, `orders__life` over all days, `net__90_180` over the 90 days before the last 90.
To add a feature, add an entry.
"""

import re
from typing import NamedTuple

WINDOWS = (7, 30, 90, 365)

# The partials that add up, by column of features.customer_days.
PARTIALS = (
    "events", "views", "searches", "cart_adds", "checkouts", "purchases", "night_events", "morning_events", "evening_events",
    "weekend_events", "mobile_events", "tablet_events", "sessions", "bounces", "cart_sessions", "checkout_sessions",
    "purchase_sessions", "abandoned_carts", "active_seconds", "active_days", "orders", "order_days", "lines", "items", "gross",
    "discount", "returned", "returns", "net", "weekend_orders",
)  # fmt: skip


class Feature(NamedTuple):
    """One column of features.customers.

    `window` is in days, 0 for the whole life; `missing` says what null means; `high` and `low` are the words that
    describe a segment lying well above or below the average customer; `in_vector` says whether the encoder sees it.
    """

    name: str
    sql_type: str
    unit: str
    window: int
    meaning: str
    missing: str
    expression: str
    high: str = ""
    low: str = ""
    in_vector: bool = True


_NEVER = "never null"


def _counts(name: str, partial: str, what: str, windows: tuple[int, ...], high: str, low: str) -> list[Feature]:
    return [
        Feature(f"{name}_{w}d", "BIGINT", "count", w, f"{what} in the last {w} days", _NEVER, f"{partial}__{w}", high, low)
        for w in windows
    ]


def _money(name: str, partial: str, what: str, windows: tuple[int, ...], high: str, low: str) -> list[Feature]:
    return [
        Feature(
            f"{name}_{w}d",
            "DECIMAL(18,4)",
            "home currency",
            w,
            f"{what} in the last {w} days",
            _NEVER,
            f"{partial}__{w}",
            high,
            low,
        )
        for w in windows
    ]


def _share(name: str, part: str, whole: str, w: int, meaning: str, missing: str, high: str, low: str = "") -> Feature:
    expression = f"{part}__{w} / nullif({whole}__{w}, 0)"
    return Feature(f"{name}_{w}d", "DOUBLE", "share", w, f"{meaning}, last {w} days", missing, expression, high, low)


def _trend(name: str, partial: str, w: int, what: str, high: str, low: str) -> Feature:
    now, before = f"{partial}__{w}", f"{partial}__{w}_{2 * w}"
    expression = f"({now} - {before}) / nullif(abs({now}) + abs({before}), 0)"
    meaning = f"{what} of the last {w} days against the {w} before, from -1 (all before) to 1 (all now)"
    return Feature(name, "DOUBLE", "-1 to 1", 2 * w, meaning, "null without any in both", expression, high, low)


_AT_LEAST = "null without any in the window"
FEATURES: tuple[Feature, ...] = (
    Feature("recency_days", "BIGINT", "days", 0, "days since the last event or order", "null where there was none",
            "datediff(day, last_seen_day)", "long absent", "recently active"),
    Feature("order_recency_days", "BIGINT", "days", 0, "days since the last order", "null where there was none",
            "datediff(day, last_order_day)", "long without an order", "recent order"),
    Feature("tenure_days", "BIGINT", "days", 0, "days since first known", _NEVER,
            "datediff(day, first_known_day)", "long known", "new"),
    *_counts("orders", "orders", "orders", WINDOWS, "many orders", "few orders"),
    *_money("net", "net", "money after discounts and returns, by their own dates,", WINDOWS, "high spend", "low spend"),
    *_money("gross", "gross", "money before discounts and returns", (365,), "high spend", "low spend"),
    Feature("orders_life", "BIGINT", "count", 0, "orders ever", _NEVER, "orders__life", "many orders", "few orders"),
    Feature("average_order_365d", "DOUBLE", "home currency", 365, "gross less discount by order, last 365 days", _AT_LEAST,
            "(gross__365 - discount__365) / nullif(orders__365, 0)", "large orders", "small orders"),
    Feature("items_per_order_365d", "DOUBLE", "pieces", 365, "pieces by order, last 365 days", _AT_LEAST,
            "items__365 / nullif(orders__365, 0)", "bulk buying", "single pieces"),
    Feature("lines_per_order_365d", "DOUBLE", "lines", 365, "order lines by order, last 365 days", _AT_LEAST,
            "lines__365 / nullif(orders__365, 0)", "mixed baskets", "plain baskets"),
    Feature("products_bought_365d", "BIGINT", "count", 365, "different products bought in the last 365 days", _NEVER,
            "products_bought", "wide choice", "narrow choice"),
    Feature("categories_bought_365d", "BIGINT", "count", 365, "different categories bought in the last 365 days", _NEVER,
            "categories_bought", "many categories", "few categories"),
    Feature("top_category_share_365d", "DOUBLE", "share", 365, "share of the money that went to the largest category",
            _AT_LEAST, "top_category_amount / nullif(bought_amount, 0)", "one category", "many categories"),
    _share("discount_share", "discount", "gross", 365, "discount by gross money", _AT_LEAST, "discount seekers", "full price"),
    _share("return_share", "returned", "gross", 365, "money returned by gross money", _AT_LEAST, "many returns", "few returns"),
    *_counts("returns", "returns", "return lines", (90, 365), "many returns", "few returns"),
    Feature("order_gap_days", "DOUBLE", "days", 0, "average days between days with an order", "null below two such days",
            "datediff(last_order_day, first_order_day) / nullif(order_days__life - 1, 0)", "rare orders", "steady orders"),
    _share("weekend_order_share", "weekend_orders", "orders", 365, "orders on Saturday or Sunday", _AT_LEAST, "weekend orders"),
    *_counts("events", "events", "events", WINDOWS, "busy on the site", "quiet on the site"),
    *_counts("sessions", "sessions", "sessions begun", WINDOWS, "frequent visits", "rare visits"),
    *_counts("active_days", "active_days", "days with an event", (30, 365), "frequent visits", "rare visits"),
    *_counts("views", "views", "products or pages viewed", (30, 365), "browsing a lot", "browsing little"),
    *_counts("searches", "searches", "searches", (30, 365), "searching a lot", "searching little"),
    *_counts("cart_adds", "cart_adds", "products put in the cart", (30, 365), "filling carts", "empty carts"),
    *_counts("checkouts", "checkouts", "checkouts begun", (30, 365), "many checkouts", "few checkouts"),
    *_counts("abandoned_carts", "abandoned_carts", "sessions with a cart and no purchase", (30, 365), "abandoned carts", ""),
    Feature("session_seconds_365d", "DOUBLE", "seconds", 365, "average length of a session, last 365 days", _AT_LEAST,
            "active_seconds__365 / nullif(sessions__365, 0)", "long visits", "short visits"),
    Feature("events_per_session_365d", "DOUBLE", "count", 365, "average events of a session, last 365 days", _AT_LEAST,
            "events__365 / nullif(sessions__365, 0)", "deep visits", "shallow visits"),
    _share("bounce_share", "bounces", "sessions", 365, "sessions of one event", _AT_LEAST, "bouncing", ""),
    _share("cart_rate", "cart_sessions", "sessions", 365, "sessions that filled a cart", _AT_LEAST, "filling carts",
           "empty carts"),
    _share("checkout_rate", "checkout_sessions", "cart_sessions", 365, "sessions that went to checkout, of those with a cart",
           _AT_LEAST, "going to checkout", "abandoned carts"),
    _share("purchase_rate", "purchase_sessions", "sessions", 365, "sessions that ended in a purchase", _AT_LEAST,
           "buying on visits", "looking only"),
    _share("search_share", "searches", "events", 365, "searches among events", _AT_LEAST, "searching a lot", ""),
    _share("night_share", "night_events", "events", 365, "events from 0 to 6 o'clock UTC", _AT_LEAST, "night visits", ""),
    _share("morning_share", "morning_events", "events", 365, "events from 6 to 12 o'clock UTC", _AT_LEAST, "morning visits", ""),
    _share("evening_share", "evening_events", "events", 365, "events from 18 to 24 o'clock UTC", _AT_LEAST, "evening visits", ""),
    _share("weekend_share", "weekend_events", "events", 365, "events on Saturday or Sunday", _AT_LEAST, "weekend visits",
           "weekday visits"),
    _share("mobile_share", "mobile_events", "events", 365, "events on a phone", _AT_LEAST, "on the phone", "on the desktop"),
    _share("tablet_share", "tablet_events", "events", 365, "events on a tablet", _AT_LEAST, "on the tablet", ""),
    _trend("net_trend_90d", "net", 90, "money", "spending more", "spending less"),
    _trend("events_trend_30d", "events", 30, "events", "visiting more", "visiting less"),
)  # fmt: skip

VECTOR = tuple(feature.name for feature in FEATURES if feature.in_vector)


def sums() -> list[tuple[str, int | None, int | None]]:
    """Every sum the expressions ask for, as (partial, days from the day back to exclude, days back), None for all life."""
    found = {m for f in FEATURES for m in re.findall(r"\b([a-z_]+?)__(life|\d+(?:_\d+)?)\b", f.expression)}
    wanted = []
    for partial, span in sorted(found):
        if partial not in PARTIALS:
            raise ValueError(f"catalogue: no partial '{partial}'")
        near, _, far = span.partition("_")
        wanted.append((partial, None, None) if span == "life" else (partial, int(near) if far else 0, int(far or near)))
    return wanted


def as_markdown() -> str:
    """docs/features.md: the catalogue as a table for people."""
    rows = "\n".join(
        f"| `{f.name}` | {f.meaning} | {f.unit} | {f.window or 'life'} | {f.missing} | {'yes' if f.in_vector else 'no'} |"
        for f in FEATURES
    )
    return f"""# Features

One row per customer and day in `features.customers`; the vector holds the features marked so, in this order.
Generated from `jobs/catalogue.py` by `shoal catalogue`.

| name | meaning | unit | window, days | missing | in the vector |
|---|---|---|---|---|---|
{rows}
"""
