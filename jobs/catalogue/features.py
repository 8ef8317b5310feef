"""The feature catalogue: every partial and every feature is declared here once; Spark code, column comments, docs follow.

A partial is a column of features.customer_days: what a day's clean rows add to a customer, and how days combine.
A feature is SQL over partials brought together up to and with the day:
- `orders__90`: the last 90 days; `orders__life`: all days; `net__90_180`: the 90 days before the last 90;
- of a union, over the last 365 days: `products__different_90` (how many, last 90 days), `categories__total` and
  `__largest` (of its amounts), `__entropy` (of its amounts' shares, nats), `channels__most` (the thing with the largest
  amount; of equals the first in the alphabet).
To add a partial or a feature, add an entry.
"""

import re
from typing import NamedTuple

WINDOWS = (7, 30, 90, 365)
UNION_DAYS = 365
SEARCH_HIT_MINUTES = 10
HOLIDAY_LEAD_DAYS = 7
MONEY = "DECIMAL(18,4)"
UNION = "ARRAY<STRUCT<thing: STRING, amount: DECIMAL(18,4)>>"

# What a partial's SQL is over.
SOURCES = {
    "event": "a row of clean.events, robots left out",
    "session": "a customer's part of a session as known then, on the day the session began: the partials of its events, "
    "and `seconds` from the first to the last; what is known later is a row of its own with the difference",
    "search": "a search, on its day, known once the next view or cart of its session came",
    "line": "a row of clean.orders with pieces",
    "order": "the lines of an order on a day, unless all are discounts: gross_amount, discount_amount, ordered_at (the first), "
    "before_holiday",
    "return": "the rows of clean.returns of one return line: amount, kind",
    "row": "the partials of the row itself",
}


class Partial(NamedTuple):
    """One column of features.customer_days.

    `sql` is over one row of `source` (see SOURCES); `combine` is sum, min, max or union. A union keeps every thing that
    `sql` names with its summed `amount`, so that days combine to exact distinct counts.
    """

    name: str
    sql_type: str
    combine: str
    source: str
    sql: str
    meaning: str
    amount: str = "1"


def _count(name: str, source: str, condition: str, meaning: str) -> Partial:
    return Partial(name, "BIGINT", "sum", source, f"int({condition})", meaning)


def _hour(low: int, high: int, at: str) -> str:
    return f"hour({at}) >= {low} AND hour({at}) < {high}"


_ANGLE = "radians((hour(event_at) * 60 + minute(event_at)) / 4)"
PARTIALS: tuple[Partial, ...] = (
    _count("events", "event", "true", "events"),
    _count("views", "event", "event_type = 'view'", "views"),
    _count("searches", "event", "event_type = 'search'", "searches"),
    _count("search_hits", "search", "true",
           f"searches after which a product was viewed or put in the cart in the session within {SEARCH_HIT_MINUTES} minutes"),
    _count("cart_adds", "event", "event_type = 'add_to_cart'", "products put in the cart"),
    _count("checkouts", "event", "event_type = 'begin_checkout'", "checkouts begun"),
    _count("purchases", "event", "event_type = 'purchase'", "purchase events"),
    _count("night_events", "event", _hour(0, 6, "event_at"), "events from 0 to 6 o clock UTC"),
    _count("morning_events", "event", _hour(6, 12, "event_at"), "events from 6 to 12 o clock UTC"),
    _count("evening_events", "event", _hour(18, 24, "event_at"), "events from 18 to 24 o clock UTC"),
    Partial("hour_sine", "BIGINT", "sum", "event", f"bigint(round(sin({_ANGLE}) * 1000000))",
            "sine of the time of day, the day a full turn, whole minutes, in millionths"),
    Partial("hour_cosine", "BIGINT", "sum", "event", f"bigint(round(cos({_ANGLE}) * 1000000))",
            "cosine of the time of day, the day a full turn, whole minutes, in millionths"),
    _count("weekend_events", "event", "weekday(day) >= 5", "events on Saturday or Sunday"),
    _count("mobile_events", "event", "device IN ('mobile', 'phone', 'smartphone')", "events on a phone"),
    _count("tablet_events", "event", "device = 'tablet'", "events on a tablet"),
    _count("desktop_events", "event", "device IN ('desktop', 'computer', 'laptop', 'pc')", "events on a desktop"),
    _count("sessions", "session", "events > 0", "sessions, on the day they began"),
    _count("bounces", "session", "events = 1", "sessions of one event"),
    _count("cart_sessions", "session", "cart_adds > 0", "sessions that filled a cart"),
    _count("checkout_sessions", "session", "cart_adds > 0 AND checkouts > 0", "sessions with a cart and a checkout"),
    _count("purchase_sessions", "session", "purchases > 0", "sessions with a purchase"),
    _count("abandoned_carts", "session", "cart_adds > 0 AND purchases = 0", "sessions with a cart and no purchase"),
    Partial("active_seconds", "BIGINT", "sum", "session", "seconds", "whole seconds from first to last event of sessions"),
    _count("active_days", "row", "events > 0 AND coalesce(max(CASE WHEN events > 0 THEN known_until END) OVER (PARTITION BY "
           "customer_id, day ORDER BY identified_on, known_until DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) "
           "<= identified_on, true)",
           "1 where there was an event, on the first such row of the day"),
    _count("orders", "order", "true", "orders, less those cancelled"),
    _count("order_days", "row", "orders > 0 AND known_until = "
           "max(CASE WHEN orders > 0 THEN known_until END) OVER (PARTITION BY customer_id, day)",
           "1 where there was an order, on the last such row of the day to hold"),
    Partial("paid", MONEY, "sum", "order", "gross_amount - discount_amount",
            "gross less discount of these orders, home currency"),
    _count("weekend_orders", "order", "weekday(day) >= 5", "orders on Saturday or Sunday"),
    _count("morning_orders", "order", _hour(0, 12, "ordered_at"), "orders from 0 to 12 o clock UTC"),
    _count("evening_orders", "order", _hour(18, 24, "ordered_at"), "orders from 18 to 24 o clock UTC"),
    *(_count(f"q{q}_orders", "order", f"quarter(day) = {q}", f"orders in quarter {q} of a year") for q in (1, 2, 3, 4)),
    _count("holiday_orders", "order", "before_holiday",
           f"orders on a public holiday of the shop or the {HOLIDAY_LEAD_DAYS} days before"),
    _count("discounted_orders", "order", "discount_amount > 0", "orders with a discount"),
    Partial("largest_order", MONEY, "max", "order", "gross_amount - discount_amount",
            "largest order after discounts, home currency; null without one"),
    Partial("smallest_order", MONEY, "min", "order", "gross_amount - discount_amount",
            "smallest order after discounts, home currency; null without one"),
    _count("lines", "product", "true", "order lines of products"),
    Partial("items", MONEY, "sum", "product", "quantity", "pieces ordered"),
    Partial("gross", MONEY, "sum", "line", "gross_amount", "gross money, home currency"),
    Partial("discount", MONEY, "sum", "line", "discount_amount", "discounts, home currency"),
    Partial("postage", MONEY, "sum", "line", "CASE WHEN line_kind = 'postage' THEN gross_amount END",
            "gross money for postage, home currency"),
    Partial("returned", MONEY, "sum", "return", "amount", "money given back on the day, home currency"),
    _count("returns", "return", "true", "return lines on the day, cancellations included"),
    _count("cancellations", "return", "kind = 'cancellation'", "cancelled lines on the day"),
    Partial("net", MONEY, "sum", "row", "gross - discount - returned", "gross less discount less returned, home currency"),
    Partial("products", UNION, "union", "product", "product_id",
            "products ordered and the money paid for each", "gross_amount - discount_amount"),
    Partial("categories", UNION, "union", "product", "category",
            "categories ordered and the money paid for each", "gross_amount - discount_amount"),
    Partial("terms", UNION, "union", "event", "CASE WHEN event_type = 'search' THEN search_term END",
            "words searched for and how often"),
    Partial("channels", UNION, "union", "event", "CASE WHEN event_at = session_started_at THEN channel END",
            "channels of the events that opened a session and how many"),
)  # fmt: skip
BY_NAME = {partial.name: partial for partial in PARTIALS}


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


class Attribute(NamedTuple):
    """A text column of features.customers, outside the vector; null while unknown. `expression` is as a feature's."""

    name: str
    meaning: str
    expression: str


class Measure(NamedTuple):
    """One `<partial>__<what>` of an expression: `near` to `far` days back from the day, None for all life.

    `kind` is the partial's way to combine, and of a union different, largest, total, entropy or most.
    """

    name: str
    partial: Partial
    kind: str
    near: int = 0
    far: int | None = None


_NEVER = "never null"
_AT_LEAST = "null without any in the window"
_BIGINT = ("BIGINT", "count")
_AMOUNT = (MONEY, "home currency")


def _sums(
    name: str, partial: str, what: str, windows: tuple[int, ...], high: str, low: str, of: tuple[str, str] = _BIGINT
) -> list[Feature]:
    return [
        Feature(f"{name}_{w}d", *of, w, f"{what} in the last {w} days", _NEVER, f"{partial}__{w}", high, low) for w in windows
    ]


def _different(name: str, union: str, what: str, windows: tuple[int, ...], high: str, low: str) -> list[Feature]:
    return [
        Feature(
            f"{name}_{w}d", *_BIGINT, w, f"different {what} in the last {w} days", _NEVER, f"{union}__different_{w}", high, low
        )
        for w in windows
    ]


def _ratios(
    name: str, part: str, whole: str, windows: tuple[int, ...], unit: str, what: str, high: str, low: str = ""
) -> list[Feature]:
    """`part` by `whole`, both sums of partials as `a` or `a - b`."""

    def over(sums: str, w: int) -> str:
        return re.sub(r"[a-z]\w*", lambda m: f"{m.group()}__{w}", sums)

    return [
        Feature(f"{name}_{w}d", "DOUBLE", unit, w, f"{what}, last {w} days", _AT_LEAST,
                f"({over(part, w)}) / nullif({over(whole, w)}, 0)", high, low)
        for w in windows
    ]  # fmt: skip


def _trends(partial: str, windows: tuple[int, ...], what: str, high: str, low: str) -> list[Feature]:
    return [
        Feature(f"{partial}_trend_{w}d", "DOUBLE", "-1 to 1", 2 * w,
                f"{what} of the last {w} days against the {w} before, from -1 (all before) to 1 (all now)",
                "null without any in both",
                f"({partial}__{w} - {partial}__{w}_{2 * w}) / nullif(abs({partial}__{w}) + abs({partial}__{w}_{2 * w}), 0)",
                high, low)
        for w in windows
    ]  # fmt: skip


_SHARE = "share"
_YEAR, _MONTH_YEAR = (365,), (30, 365)
FEATURES: tuple[Feature, ...] = (
    Feature("recency_days", "BIGINT", "days", 0, "days since the last event or order, cancelled ones too",
            "null where there was none", "datediff(day, last_seen_day)", "long absent", "recently active"),
    Feature("order_recency_days", "BIGINT", "days", 0, "days since the last order", "null where there was none",
            "datediff(day, last_order_day)", "long without an order", "recent order"),
    Feature("tenure_days", "BIGINT", "days", 0, "days since first known", _NEVER,
            "datediff(day, first_known_day)", "long known", "new"),
    *_sums("orders", "orders", "orders, less those cancelled,", WINDOWS, "many orders", "few orders"),
    *_sums("net", "net", "money after discounts and returns, by their own dates,", WINDOWS, "high spend", "low spend", _AMOUNT),
    *_sums("gross", "gross", "money before discounts and returns", _YEAR, "high spend", "low spend", _AMOUNT),
    Feature("orders_life", "BIGINT", "count", 0, "orders ever, less those cancelled", _NEVER, "orders__life", "many orders",
            "few orders"),
    *_ratios("average_order", "paid", "orders", (90, 365), "home currency", "gross less discount by order",
             "large orders", "small orders"),
    Feature("largest_order_365d", MONEY, "home currency", 365, "largest order after discounts in the last 365 days",
            _AT_LEAST, "largest_order__365", "large orders", "small orders"),
    Feature("smallest_order_365d", MONEY, "home currency", 365, "smallest order after discounts in the last 365 days",
            _AT_LEAST, "smallest_order__365", "large orders", "small orders"),
    *_ratios("items_per_order", "items", "orders", _YEAR, "pieces", "pieces by order", "bulk buying", "single pieces"),
    *_ratios("lines_per_order", "lines", "orders", _YEAR, "lines", "order lines by order", "mixed baskets", "plain baskets"),
    *_different("products_bought", "products", "products bought", WINDOWS, "wide choice", "narrow choice"),
    *_different("categories_bought", "categories", "categories bought", WINDOWS, "many categories", "few categories"),
    Feature("top_category_share_365d", "DOUBLE", _SHARE, 365,
            "share of the largest category in the money paid for products with a category, last 365 days", _AT_LEAST,
            "categories__largest / nullif(categories__total, 0)", "one category", "many categories"),
    Feature("category_entropy_365d", "DOUBLE", "nats", 365,
            "entropy of the categories' shares in that money, 0 for one category, last 365 days", _AT_LEAST,
            "categories__entropy", "many categories", "one category"),
    *_ratios("discount_share", "discount", "gross", (90, 365), _SHARE, "discount by gross money", "discount seekers",
             "full price"),
    *_ratios("discounted_order_share", "discounted_orders", "orders", _YEAR, _SHARE, "orders with a discount", "discount seekers",
             "full price"),
    *_ratios("return_share", "returned", "gross", (90, 365), _SHARE, "money returned by gross money", "many returns",
             "few returns"),
    *_ratios("postage_share", "postage", "gross", _YEAR, _SHARE, "postage by gross money", "much postage", ""),
    *_sums("returns", "returns", "return lines", (90, 365), "many returns", "few returns"),
    *_sums("cancellations", "cancellations", "cancelled lines", _YEAR, "many cancellations", ""),
    Feature("order_gap_days", "DOUBLE", "days", 0, "average days between days with an order", "null below two such days",
            "datediff(last_order_day, first_order_day) / nullif(order_days__life - 1, 0)", "rare orders", "steady orders"),
    Feature("longest_order_gap_365d", "BIGINT", "days", 365, "most days between a day with an order and the next, last 365 days",
            "null below two such days", "gap_longest", "long pauses", "steady orders"),
    Feature("order_gap_deviation_365d", "DOUBLE", "days", 365,
            "standard deviation (of the population) of the days between days with an order, last 365 days",
            "null below two such days", "sqrt(double(gap_count * gap_squares - gap_days * gap_days)) / nullif(gap_count, 0)",
            "irregular orders", "regular orders"),
    *_ratios("weekend_order_share", "weekend_orders", "orders", _YEAR, _SHARE, "orders on Saturday or Sunday", "weekend orders"),
    *_ratios("morning_order_share", "morning_orders", "orders", _YEAR, _SHARE, "orders from 0 to 12 o'clock UTC",
             "morning orders"),
    *_ratios("evening_order_share", "evening_orders", "orders", _YEAR, _SHARE, "orders from 18 to 24 o'clock UTC",
             "evening orders"),
    *(feature for q, months in enumerate(("January to March", "April to June", "July to September", "October to December"), 1)
      for feature in _ratios(f"q{q}_order_share", f"q{q}_orders", "orders", _YEAR, _SHARE, f"orders from {months}",
                             f"orders from {months}")),
    *_ratios("holiday_order_share", "holiday_orders", "orders", _YEAR, _SHARE,
             f"orders on a public holiday or the {HOLIDAY_LEAD_DAYS} days before", "holiday orders"),
    *_sums("events", "events", "events", WINDOWS, "busy on the site", "quiet on the site"),
    *_sums("sessions", "sessions", "sessions begun", WINDOWS, "frequent visits", "rare visits"),
    *_sums("active_days", "active_days", "days with an event", (30, 90, 365), "frequent visits", "rare visits"),
    *_sums("views", "views", "products or pages viewed", _MONTH_YEAR, "browsing a lot", "browsing little"),
    *_sums("searches", "searches", "searches", _MONTH_YEAR, "searching a lot", "searching little"),
    *_different("search_terms", "terms", "words searched for", _MONTH_YEAR, "searching a lot", "searching little"),
    *_sums("search_hits", "search_hits", "searches followed in their session by a view or a cart add within "
           f"{SEARCH_HIT_MINUTES} minutes,", _YEAR, "finding what they search", ""),
    Feature("search_misses_365d", "BIGINT", "count", 365, "searches not so followed in the last 365 days", _NEVER,
            "searches__365 - search_hits__365", "searching in vain", ""),
    *_ratios("search_hit_share", "search_hits", "searches", _MONTH_YEAR, _SHARE, "searches so followed, of all searches",
             "finding what they search", "searching in vain"),
    *_sums("cart_adds", "cart_adds", "products put in the cart", _MONTH_YEAR, "filling carts", "empty carts"),
    *_sums("checkouts", "checkouts", "checkouts begun", _MONTH_YEAR, "many checkouts", "few checkouts"),
    *_sums("abandoned_carts", "abandoned_carts", "sessions with a cart and no purchase", _MONTH_YEAR, "abandoned carts", ""),
    *_ratios("abandoned_share", "abandoned_carts", "cart_sessions", _YEAR, _SHARE,
             "sessions without a purchase, of those with a cart", "abandoned carts", "finishing carts"),
    *_ratios("session_seconds", "active_seconds", "sessions", _MONTH_YEAR, "seconds", "average length of a session",
             "long visits", "short visits"),
    *_ratios("events_per_session", "events", "sessions", _YEAR, "count", "average events of a session", "deep visits",
             "shallow visits"),
    *_ratios("bounce_share", "bounces", "sessions", _MONTH_YEAR, _SHARE, "sessions of one event", "bouncing"),
    *_ratios("cart_rate", "cart_sessions", "sessions", _MONTH_YEAR, _SHARE, "sessions that filled a cart", "filling carts",
             "empty carts"),
    *_ratios("checkout_rate", "checkout_sessions", "cart_sessions", _YEAR, _SHARE,
             "sessions that went to checkout, of those with a cart", "going to checkout", "abandoned carts"),
    *_ratios("purchase_rate", "purchase_sessions", "sessions", _MONTH_YEAR, _SHARE, "sessions that ended in a purchase",
             "buying on visits", "looking only"),
    *_ratios("search_share", "searches", "events", _YEAR, _SHARE, "searches among events", "searching a lot"),
    *_ratios("night_share", "night_events", "events", _YEAR, _SHARE, "events from 0 to 6 o'clock UTC", "night visits"),
    *_ratios("morning_share", "morning_events", "events", _YEAR, _SHARE, "events from 6 to 12 o'clock UTC", "morning visits"),
    *_ratios("evening_share", "evening_events", "events", _YEAR, _SHARE, "events from 18 to 24 o'clock UTC", "evening visits"),
    Feature("hour_sine_365d", "DOUBLE", "-1 to 1", 365, "mean sine of the time of day: 1 at 6, -1 at 18 o'clock UTC",
            _AT_LEAST, "hour_sine__365 / nullif(events__365 * 1000000, 0)"),
    Feature("hour_cosine_365d", "DOUBLE", "-1 to 1", 365, "mean cosine of the time of day: 1 at 0, -1 at 12 o'clock UTC",
            _AT_LEAST, "hour_cosine__365 / nullif(events__365 * 1000000, 0)"),
    Feature("mean_hour_365d", "DOUBLE", "hours", 365, "circular mean of the time of day of events, 0 to 24 o'clock UTC",
            "null without any in the window, and where the times cancel out",
            "CASE WHEN hour_sine__365 <> 0 OR hour_cosine__365 <> 0 "
            "THEN pmod(degrees(atan2(hour_sine__365, hour_cosine__365)) / 15, 24) END", in_vector=False),
    *_ratios("weekend_share", "weekend_events", "events", _YEAR, _SHARE, "events on Saturday or Sunday", "weekend visits",
             "weekday visits"),
    *_ratios("mobile_share", "mobile_events", "events", _YEAR, _SHARE, "events on a phone", "on the phone", "on the desktop"),
    *_ratios("tablet_share", "tablet_events", "events", _YEAR, _SHARE, "events on a tablet", "on the tablet"),
    *_ratios("desktop_share", "desktop_events", "events", _YEAR, _SHARE, "events on a desktop", "on the desktop", "on the phone"),
    *_trends("net", WINDOWS[:3], "money", "spending more", "spending less"),
    *_trends("orders", (90,), "orders", "ordering more", "ordering less"),
    *_trends("events", WINDOWS[:3], "events", "visiting more", "visiting less"),
    *_trends("sessions", (30,), "sessions", "visiting more", "visiting less"),
)  # fmt: skip

ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("country", "country, as the customer record has it", "country"),
    Attribute("device", "kind of device of most events in the last 365 days: phone, desktop or tablet, of equals the first named",
              "CASE greatest(mobile_events__365, desktop_events__365, tablet_events__365) WHEN 0 THEN NULL "
              "WHEN mobile_events__365 THEN 'phone' WHEN desktop_events__365 THEN 'desktop' ELSE 'tablet' END"),
    Attribute("channel", "channel that opened most sessions in the last 365 days, of equals the first in the alphabet",
              "channels__most"),
)  # fmt: skip

# How a value is said, by the feature's name without its window, which follows: "11 orders in 90 days", "3 orders ever".
WORDS = {
    "recency_days": "last seen {} day{s} ago",
    "order_recency_days": "last order {} day{s} ago",
    "tenure_days": "known for {} day{s}",
    "orders": "{} order{s}",
    "net": "{} spent after discounts and returns",
    "gross": "{} spent before discounts and returns",
    "average_order": "{} for an average order",
    "largest_order": "{} for the largest order",
    "smallest_order": "{} for the smallest order",
    "items_per_order": "{} piece{s} per order",
    "lines_per_order": "{} line{s} per order",
    "products_bought": "{} different product{s} bought",
    "categories_bought": "{} categor{y} bought from",
    "top_category_share": "{} of the money in one category",
    "category_entropy": "variety of categories {} (0: one only)",
    "discount_share": "{} of the money off by discounts",
    "discounted_order_share": "{} of orders with a discount",
    "return_share": "{} of the money returned",
    "postage_share": "{} of the money for postage",
    "returns": "{} line{s} returned",
    "cancellations": "{} line{s} cancelled",
    "order_gap_days": "{} day{s} between orders",
    "longest_order_gap": "{} day{s} at most between orders",
    "order_gap_deviation": "days between orders vary by {}",
    "weekend_order_share": "{} of orders at weekends",
    "morning_order_share": "{} of orders before noon",
    "evening_order_share": "{} of orders in the evening",
    "q1_order_share": "{} of orders from January to March",
    "q2_order_share": "{} of orders from April to June",
    "q3_order_share": "{} of orders from July to September",
    "q4_order_share": "{} of orders from October to December",
    "holiday_order_share": "{} of orders around holidays",
    "events": "{} thing{s} done on the site",
    "sessions": "{} visit{s}",
    "active_days": "{} day{s} with a visit",
    "views": "{} page{s} viewed",
    "searches": "{} search{es}",
    "search_terms": "{} different word{s} searched for",
    "search_hits": "{} search{es} that found something",
    "search_misses": "{} search{es} in vain",
    "search_hit_share": "{} of searches found something",
    "cart_adds": "{} product{s} put in the cart",
    "checkouts": "{} checkout{s} begun",
    "abandoned_carts": "{} cart{s} abandoned",
    "abandoned_share": "{} of carts abandoned",
    "session_seconds": "{} second{s} per visit",
    "events_per_session": "{} thing{s} done per visit",
    "bounce_share": "{} of visits left at once",
    "cart_rate": "{} of visits filled a cart",
    "checkout_rate": "{} of carts taken to checkout",
    "purchase_rate": "{} of visits with a purchase",
    "search_share": "{} of what is done on the site are searches",
    "night_share": "{} of the time on the site from 0 to 6 o'clock UTC",
    "morning_share": "{} of the time on the site from 6 to 12 o'clock UTC",
    "evening_share": "{} of the time on the site from 18 to 24 o'clock UTC",
    "hour_sine": "nearness to 6 o'clock UTC {} (-1 to 1)",
    "hour_cosine": "nearness to midnight UTC {} (-1 to 1)",
    "weekend_share": "{} of the time on the site at weekends",
    "mobile_share": "{} on the phone",
    "tablet_share": "{} on the tablet",
    "desktop_share": "{} on the desktop",
    "net_trend": "trend of spending {} (-1 to 1)",
    "orders_trend": "trend of orders {} (-1 to 1)",
    "events_trend": "trend of activity {} (-1 to 1)",
    "sessions_trend": "trend of visits {} (-1 to 1)",
}
_WINDOW = re.compile(r"_(?:(\d+)d|life)$")


def said(name: str, number: str) -> str:
    """A feature of this name with this number, as a shop says it.

    >>> said("orders_90d", "11"), said("orders_life", "1"), said("recency_days", "1")
    ('11 orders in 90 days', '1 order ever', 'last seen 1 day ago')
    """
    window = _WINDOW.search(name)
    many = {"s": "s", "es": "es", "y": "ies"} if number != "1" else {"s": "", "es": "", "y": "y"}
    text = WORDS[_WINDOW.sub("", name)].format(number, **many)
    if window:
        text += f" in {window[1]} days" if window[1] else " ever"
    return text


VECTOR = tuple(feature.name for feature in FEATURES if feature.in_vector)
MEASURE = re.compile(r"\b([a-z]\w*?)__(\w+)\b")
_OF_UNION = ("different", "largest", "total", "entropy", "most")


def measures() -> list[Measure]:
    """Every measure that the features and attributes ask for; raises ValueError for one that no partial gives."""
    wanted = {m.groups() for f in (*FEATURES, *ATTRIBUTES) for m in MEASURE.finditer(f.expression)}
    return [_measure(partial, what) for partial, what in sorted(wanted)]


def _measure(name: str, what: str) -> Measure:
    """
    >>> _measure("net", "90_180")[2:], _measure("orders", "life")[2:], _measure("products", "different_30")[2:]
    (('sum', 90, 180), ('sum', 0, None), ('different', 0, 30))
    """
    if name not in BY_NAME:
        raise ValueError(f"catalogue: no partial '{name}'")
    partial, column = BY_NAME[name], f"{name}__{what}"
    found = re.fullmatch(r"([a-z]*)_?(?:(\d+)_)?(\d+)?", what)
    kind, near, far = found.groups() if found else ("", None, None)
    days = int(far) if far else None
    if partial.combine == "union" and kind in _OF_UNION and (kind == "different") == bool(days) and (days or 0) <= UNION_DAYS:
        return Measure(column, partial, kind, 0, days or UNION_DAYS)
    if partial.combine != "union" and (kind == "life" if not days else not kind):
        return Measure(column, partial, partial.combine, int(near or 0), days)
    raise ValueError(f"catalogue: '{column}' is nothing that '{name}' gives")


def _made_of(expression: str) -> str:
    """How the partials of an expression combine, for people."""
    used = dict.fromkeys(m.group(1) for m in MEASURE.finditer(expression))
    return ", ".join(f"{BY_NAME[name].combine} of `{name}`" for name in used) or "days and gaps of the customer"


def as_markdown() -> str:
    """docs/features.md: the catalogue as tables for people."""
    features = "\n".join(
        f"| `{f.name}` | {f.meaning} | {f.unit} | {f.window or 'life'} | {f.missing} | {_made_of(f.expression)} | "
        f"{'yes' if f.in_vector else 'no'} |"
        for f in FEATURES
    )
    attributes = "\n".join(f"| `{a.name}` | {a.meaning} |" for a in ATTRIBUTES)
    partials = "\n".join(f"| `{p.name}` | {p.meaning} | {p.source} | {p.combine} |" for p in PARTIALS)
    sources = "\n".join(f"- **{name}**: {meaning}." for name, meaning in SOURCES.items())
    return f"""# Features

One row per customer and day in `features.customers`; the vector holds the features marked so, in this order.
As of the end of the day: nothing later is seen. A window of 30 days is the day and the 29 before it.
Generated from `jobs/catalogue/` by `shoal catalogue`.

| name | meaning | unit | window, days | missing | made of | in the vector |
|---|---|---|---|---|---|---|
{features}

## Attributes

Words, not numbers: outside the vector, named by the table property `shoal.attributes`; null while unknown.

| name | meaning |
|---|---|
{attributes}

## Partials

The columns of `features.customer_days`, from which the features are made. Each is over the rows of one source:

{sources}

| name | meaning | source | days combine by |
|---|---|---|---|
{partials}
"""
