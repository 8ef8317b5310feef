"""Features in the words of a shop."""

import re

# The words for a value, by the feature's name without its window: "11 orders in 90 days", "3 orders ever".
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
    "night_share": "{} of the time on the site from 0 to 6 by the shop's clock",
    "morning_share": "{} of the time on the site from 6 to 12 by the shop's clock",
    "evening_share": "{} of the time on the site from 18 to 24 by the shop's clock",
    "hour_sine": "nearness to 6 by the shop's clock {} (-1 to 1)",
    "hour_cosine": "nearness to midnight by the shop's clock {} (-1 to 1)",
    "weekend_share": "{} of the time on the site at weekends",
    "mobile_share": "{} on the phone",
    "tablet_share": "{} on the tablet",
    "desktop_share": "{} on the desktop",
    "net_trend": "trend of spending {} (-1 to 1)",
    "orders_trend": "trend of orders {} (-1 to 1)",
    "events_trend": "trend of activity {} (-1 to 1)",
    "sessions_trend": "trend of visits {} (-1 to 1)",
}
_WINDOW_SUFFIX = re.compile(r"_(?:(\d+)d|life)$")


def describe_feature(name: str, number: str) -> str:
    """Return a feature and its value in the words of a shop.

    >>> describe_feature("orders_90d", "11"), describe_feature("orders_life", "1"), describe_feature("recency_days", "1")
    ('11 orders in 90 days', '1 order ever', 'last seen 1 day ago')
    """
    window = _WINDOW_SUFFIX.search(name)
    endings = {"s": "s", "es": "es", "y": "ies"} if number != "1" else {"s": "", "es": "", "y": "y"}
    text = WORDS[_WINDOW_SUFFIX.sub("", name)].format(number, **endings)
    if window:
        text += f" in {window[1]} days" if window[1] else " ever"
    return text
