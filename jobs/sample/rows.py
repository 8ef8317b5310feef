"""Events and order lines as arrays of records, and what the codes in them stand for."""

from datetime import date

import numpy as np

from jobs.sample.times import to_day_number

ACTIONS = (
    "product_view", "site_search", "cart_add", "cart_remove", "checkout_start", "order_done", "sign_in", "hover_tile",
)  # fmt: skip
VIEW, SEARCH, ADD, REMOVE, CHECKOUT, PURCHASE, SIGN_IN, UNKNOWN = range(len(ACTIONS))

KINDS = ("sale", "return", "gift_card", "test", "void", "adjustment", "bad_debt", "postage", "fee", "discount")
SALE, RETURN, GIFT_CARD, TEST, VOID, ADJUSTMENT, BAD_DEBT, POSTAGE, FEE, DISCOUNT = range(len(KINDS))

# The rule that a planted row breaks, by name in truth/defects.csv. A row with an empty name is to be kept.
RULES = (
    "", "malformed", "no_time", "future",
    "too_late", "no_visitor", "unknown_type", "same_id", "same_event",
    "no_order_id", "bad_quantity", "bad_price", "no_price", "missing_rate",
    "gift_card", "test_order", "void", "adjustment", "bad_debt", "superseded", "exact",
)  # fmt: skip
RULE = {name: code for code, name in enumerate(RULES)}
KIND_RULES = np.array([RULE.get({"test": "test_order"}.get(kind, kind), 0) for kind in KINDS], dtype="i1")

# Times are milliseconds since 1970 UTC. Customers, mails, products, terms and agents are positions, -1 for none.
EVENT = np.dtype(
    [
        ("time", "i8"), ("id", "i8"), ("visitor", "u8"), ("customer", "i4"), ("mail", "i4"), ("action", "i1"),
        ("product", "i4"), ("term", "i4"), ("agent", "i2"), ("country", "i1"), ("channel", "i1"), ("rule", "i1"),
        ("bad_price", "?"),
    ]
)  # fmt: skip
# Prices and discounts are hundredths of the row's currency.
ORDER = np.dtype(
    [
        ("time", "i8"), ("modified", "i8"), ("id", "i8"), ("line", "i2"), ("customer", "i4"), ("mail", "i4"),
        ("mail_spelling", "i1"), ("product", "i4"), ("quantity", "i4"), ("price", "i8"), ("discount", "i8"),
        ("currency", "i1"), ("kind", "i1"), ("original_id", "i8"), ("country", "i1"), ("rule", "i1"), ("variant", "i1"),
        ("blank_price", "?"), ("restated", "?"),
    ]
)  # fmt: skip


def concatenate_rows(parts: list[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """Return the rows of all parts as one array, empty where there is no part."""
    return np.concatenate([np.zeros(0, dtype=dtype), *parts])


def assign_event_ids(events: np.ndarray, day: date, start: int) -> np.ndarray:
    """Return the day's events with ids from `start` on, unique over all days."""
    events["id"] = to_day_number(day) * 10_000_000_000 + start + np.arange(len(events))
    return events
