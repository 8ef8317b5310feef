"""Every feature, declared once: its column, its meaning and the expression that gives its value.

A feature is an expression over windowed aggregates, as of the end of a day. To add one, add an entry to FEATURES; the
query, the table's column with its comment and docs/features.md follow.
"""

from collections.abc import Iterable
from typing import NamedTuple

from jobs.catalogue.aggregates import (
    HOLIDAY_LEAD_DAYS,
    LIFE,
    MONEY,
    SEARCH_HIT_MINUTES,
    WindowedAggregate,
    count_distinct,
    entropy,
    largest_amount,
    max,
    min,
    mode,
    sum,
    total_amount,
)
from jobs.catalogue.expressions import Expression, ratio, sql, trend, value


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
    expression: Expression
    high: str = ""
    low: str = ""
    in_vector: bool = True


class Attribute(NamedTuple):
    """A text column of features.customers, outside the vector; null while unknown."""

    name: str
    meaning: str
    expression: Expression


WINDOWS = (7, 30, 90, 365)
_YEAR, _MONTH_YEAR = (365,), (30, 365)
_NEVER = "never null"
_AT_LEAST = "null without any in the window"
_SHARE = "share"
_COUNT = ("BIGINT", "count")
_AMOUNT = (MONEY, "home currency")


def _sums(
    name: str, aggregate: str, what: str, windows: tuple[int, ...], high: str, low: str, type_and_unit: tuple[str, str] = _COUNT
) -> list[Feature]:
    """Return a feature for each window: the sum of a daily aggregate."""
    return [
        Feature(f"{name}_{days}d", *type_and_unit, days, f"{what} in the last {days} days", _NEVER,
                value(sum(aggregate, days=days)), high, low)
        for days in windows
    ]  # fmt: skip


def _distinct_counts(name: str, histogram: str, what: str, windows: tuple[int, ...], high: str, low: str) -> list[Feature]:
    """Return a feature for each window: the number of different values of a histogram."""
    return [
        Feature(f"{name}_{days}d", *_COUNT, days, f"different {what} in the last {days} days", _NEVER,
                value(count_distinct(histogram, days=days)), high, low)
        for days in windows
    ]  # fmt: skip


def _ratios(
    name: str, part: str, whole: str, windows: tuple[int, ...], unit: str, what: str, high: str, low: str = ""
) -> list[Feature]:
    """Return a feature for each window: the sum of one daily aggregate by that of another."""
    return [
        Feature(f"{name}_{days}d", "DOUBLE", unit, days, f"{what}, last {days} days", _AT_LEAST,
                ratio(sum(part, days=days), sum(whole, days=days)), high, low)
        for days in windows
    ]  # fmt: skip


def _trends(aggregate: str, windows: tuple[int, ...], what: str, high: str, low: str) -> list[Feature]:
    """Return a feature for each window: its sum against that of the window before it."""
    return [
        Feature(f"{aggregate}_trend_{days}d", "DOUBLE", "-1 to 1", 2 * days,
                f"{what} of the last {days} days against the {days} before, from -1 (all before) to 1 (all now)",
                "null without any in both", trend(aggregate, days=days), high, low)
        for days in windows
    ]  # fmt: skip


FEATURES: tuple[Feature, ...] = (
    Feature("recency_days", "BIGINT", "days", 0, "days since the last event or order, cancelled ones too",
            "null where there was none", sql("day - last_seen_day"), "long absent", "recently active"),
    Feature("order_recency_days", "BIGINT", "days", 0, "days since the last order", "null where there was none",
            sql("day - last_order_day"), "long without an order", "recent order"),
    Feature("tenure_days", "BIGINT", "days", 0, "days since first known", _NEVER,
            sql("day - first_known_day"), "long known", "new"),
    *_sums("orders", "orders", "orders, less those cancelled,", WINDOWS, "many orders", "few orders"),
    *_sums("net", "net", "money after discounts and returns, by their own dates,", WINDOWS, "high spend", "low spend", _AMOUNT),
    *_sums("gross", "gross", "money before discounts and returns", _YEAR, "high spend", "low spend", _AMOUNT),
    Feature("orders_life", "BIGINT", "count", 0, "orders ever, less those cancelled", _NEVER,
            value(sum("orders", days=LIFE)), "many orders", "few orders"),
    Feature("order_days_life", "BIGINT", "count", 0, "days with an order ever, cancelled ones left out", _NEVER,
            value(sum("order_days", days=LIFE)), in_vector=False),
    Feature("order_days_90d", "BIGINT", "count", 90, "days with an order, cancelled ones left out, in the last 90 days", _NEVER,
            value(sum("order_days", days=90)), in_vector=False),
    Feature("net_life", *_AMOUNT, 0, "money after discounts and returns ever, by their own dates", _NEVER,
            value(sum("net", days=LIFE)), in_vector=False),
    *_ratios("average_order", "paid", "orders", (90, 365), "home currency", "gross less discount by order",
             "large orders", "small orders"),
    Feature("largest_order_365d", MONEY, "home currency", 365, "largest order after discounts in the last 365 days",
            _AT_LEAST, value(max("largest_order", days=365)), "large orders", "small orders"),
    Feature("smallest_order_365d", MONEY, "home currency", 365, "smallest order after discounts in the last 365 days",
            _AT_LEAST, value(min("smallest_order", days=365)), "large orders", "small orders"),
    *_ratios("items_per_order", "items", "orders", _YEAR, "pieces", "pieces by order", "bulk buying", "single pieces"),
    *_ratios("lines_per_order", "lines", "orders", _YEAR, "lines", "order lines by order", "mixed baskets", "plain baskets"),
    *_distinct_counts("products_bought", "products", "products bought", WINDOWS, "wide choice", "narrow choice"),
    *_distinct_counts("categories_bought", "categories", "categories bought", WINDOWS, "many categories", "few categories"),
    Feature("top_category_share_365d", "DOUBLE", _SHARE, 365,
            "share of the largest category in the money paid for products with a category, last 365 days", _AT_LEAST,
            ratio(largest_amount("categories", days=365), total_amount("categories", days=365)),
            "one category", "many categories"),
    Feature("category_entropy_365d", "DOUBLE", "nats", 365,
            "entropy of the categories' shares in that money, 0 for one category, last 365 days", _AT_LEAST,
            value(entropy("categories", days=365)), "many categories", "one category"),
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
            sql("(last_order_day - first_order_day) / nullif({order_days} - 1, 0)",
                order_days=sum("order_days", days=LIFE)), "rare orders", "steady orders"),
    Feature("longest_order_gap_365d", "BIGINT", "days", 365, "most days between a day with an order and the next, last 365 days",
            "null below two such days", sql("gap_longest"), "long pauses", "steady orders"),
    Feature("order_gap_deviation_365d", "DOUBLE", "days", 365,
            "standard deviation (of the population) of the days between days with an order, last 365 days",
            "null below two such days",
            sql("sqrt((gap_count * gap_squares - gap_days * gap_days)::DOUBLE) / nullif(gap_count, 0)"),
            "irregular orders", "regular orders"),
    *_ratios("weekend_order_share", "weekend_orders", "orders", _YEAR, _SHARE, "orders on Saturday or Sunday", "weekend orders"),
    *_ratios("morning_order_share", "morning_orders", "orders", _YEAR, _SHARE, "orders from 0 to 12 by the shop's clock",
             "morning orders"),
    *_ratios("evening_order_share", "evening_orders", "orders", _YEAR, _SHARE, "orders from 18 to 24 by the shop's clock",
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
    *_distinct_counts("search_terms", "terms", "words searched for", _MONTH_YEAR, "searching a lot", "searching little"),
    *_sums("search_hits", "search_hits", "searches followed in their session by a view or a cart add within "
           f"{SEARCH_HIT_MINUTES} minutes,", _YEAR, "finding what they search", ""),
    Feature("search_misses_365d", "BIGINT", "count", 365, "searches not so followed in the last 365 days", _NEVER,
            sql("{searches} - {hits}", searches=sum("searches", days=365), hits=sum("search_hits", days=365)),
            "searching in vain", ""),
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
    *_ratios("night_share", "night_events", "events", _YEAR, _SHARE, "events from 0 to 6 by the shop's clock", "night visits"),
    *_ratios("morning_share", "morning_events", "events", _YEAR, _SHARE, "events from 6 to 12 by the shop's clock",
             "morning visits"),
    *_ratios("evening_share", "evening_events", "events", _YEAR, _SHARE, "events from 18 to 24 by the shop's clock",
             "evening visits"),
    Feature("hour_sine_365d", "DOUBLE", "-1 to 1", 365, "mean sine of the time of day: 1 at 6, -1 at 18 by the shop's clock",
            _AT_LEAST,
            sql("{sine} / nullif({events} * 1000000, 0)", sine=sum("hour_sine", days=365), events=sum("events", days=365))),
    Feature("hour_cosine_365d", "DOUBLE", "-1 to 1", 365, "mean cosine of the time of day: 1 at 0, -1 at 12 by the shop's clock",
            _AT_LEAST,
            sql("{cosine} / nullif({events} * 1000000, 0)", cosine=sum("hour_cosine", days=365), events=sum("events", days=365))),
    Feature("mean_hour_365d", "DOUBLE", "hours", 365, "circular mean of the time of day of events, 0 to 24 by the shop's clock",
            "null without any in the window, and where the times cancel out",
            sql("CASE WHEN {sine} <> 0 OR {cosine} <> 0 "
                "THEN degrees(atan2({sine}, {cosine})) / 15 + CASE WHEN {sine} < 0 THEN 24 ELSE 0 END END",
                sine=sum("hour_sine", days=365), cosine=sum("hour_cosine", days=365)), in_vector=False),
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
    Attribute("country", "country, as the customer record has it", sql("country")),
    Attribute("device", "kind of device of most events in the last 365 days: phone, desktop or tablet; the first of these where "
              "several have most",
              sql("CASE greatest({phone}, {desktop}, {tablet}) WHEN 0 THEN NULL "
                  "WHEN {phone} THEN 'phone' WHEN {desktop} THEN 'desktop' ELSE 'tablet' END",
                  phone=sum("mobile_events", days=365), desktop=sum("desktop_events", days=365),
                  tablet=sum("tablet_events", days=365))),
    Attribute("channel", "channel that opened most sessions in the last 365 days; the first in the alphabet where several did",
              value(mode("channels", days=365))),
)  # fmt: skip

VECTOR = tuple(feature.name for feature in FEATURES if feature.in_vector)


def windowed_aggregates(columns: Iterable[Feature | Attribute] = (*FEATURES, *ATTRIBUTES)) -> list[WindowedAggregate]:
    """Return what the expressions of these columns need, each once, in the order of their names."""
    by_column = {aggregate.column: aggregate for column in columns for aggregate in column.expression.aggregates.values()}
    return [by_column[name] for name in sorted(by_column)]
