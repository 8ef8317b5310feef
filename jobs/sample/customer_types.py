"""The planted types of customers: how often each comes, buys and returns, and what it likes."""

from typing import NamedTuple

import numpy as np


class CustomerType(NamedTuple):
    """How customers of one type behave: means, from which each customer deviates."""

    share: float  # of the customers known on the first day
    visits: float  # sessions per day
    season: float  # factor on the sessions in the weeks before presents are given
    weekend: float  # factor on the sessions on Saturday and Sunday
    hour: float  # mean hour of a session's start, UTC
    hour_sd: float
    views: float  # per session
    searches: float  # per session
    buys: float  # share of sessions that end in an order
    carts: float  # share of the other sessions that leave a cart behind
    lines: float  # per order
    quantity: float  # per line
    discounts: float  # share of orders with a discount
    discount: float  # mean size of a discount, share of the price
    returns: float  # share of lines
    mobile: float  # share whose first device is a phone
    signed_in: float  # share of sessions
    likes: str  # letters of the favoured categories: a is the first


# fmt: off
TYPES = {
    "loyal":     CustomerType(.18, .14, 1.2, 1.1, 18.5, 3.0, 4, 0.6, .35, .15, 2.2, 1.2, .15, .10, .05, 0.5, 0.8, "abcd"),
    "gifter":    CustomerType(.15, .012, 11., 1.6, 20.0, 2.5, 6, 1.0, .40, .20, 5.0, 1.4, .20, .10, .08, 0.4, 0.5, "efgh"),
    "bargain":   CustomerType(.18, .10, 1.2, 1.0, 21.5, 2.0, 6, 1.4, .18, .45, 2.5, 1.3, .85, .30, .25, 0.8, 0.6, "ijab"),
    "window":    CustomerType(.25, .13, 1.1, 1.3, 22.0, 2.5, 8, 2.0, .012, .20, 1.3, 1.0, .20, .10, .10, 0.7, 0.4, "efij"),
    "wholesale": CustomerType(.08, .06, 0.9, 0.1, 10.5, 2.0, 4, 0.8, .65, .15, 7.0, 30., .50, .12, .02, .05, 0.9, "klcd"),
    "lapsed":    CustomerType(.12, .10, 1.0, 1.0, 17.0, 4.0, 4, 0.7, .20, .20, 1.8, 1.1, .25, .15, .10, 0.5, 0.6, "abgh"),
    "dormant":   CustomerType(.04, .0, 1.0, 1.0, 12.0, 4.0, 1, 0.0, .0, .0, 1.0, 1.0, .0, .0, .0, 0.5, 0.0, "abcd"),
    "newcomer":  CustomerType(.0, .02, 1.0, 1.1, 18.0, 4.0, 5, 1.2, .16, .30, 1.3, 1.0, .60, .15, .10, 0.8, 0.5, "aegi"),
    # Not a customer's type: sessions of people whom the shop does not know.
    "stranger":  CustomerType(.0, .0, 1.0, 1.0, 19.0, 4.0, 3, 0.7, .06, .15, 1.4, 1.1, .15, .10, .08, 0.6, 0.0, "aegi"),
}
# fmt: on
TYPE_NAMES = tuple(TYPES)
NEWCOMER, LAPSED, DORMANT, STRANGER, WINDOW, WHOLESALE = (
    TYPE_NAMES.index(name) for name in ("newcomer", "lapsed", "dormant", "stranger", "window", "wholesale")
)
# One array over the types per field.
MEANS = {name: np.array([getattr(t, name) for t in TYPES.values()]) for name in CustomerType._fields if name != "likes"}
FAVOURED_WEIGHT = 5.0  # of a favoured category, where another has 1


def cumulate_category_shares(n_categories: int) -> np.ndarray:
    """Return the cumulative share of each category in what a type looks at, shape (types, categories)."""
    weights = np.full((len(TYPES), n_categories), 1.0)
    for row, customer_type in zip(weights, TYPES.values(), strict=True):
        for letter in customer_type.likes:
            row[ord(letter) - ord("a")] = FAVOURED_WEIGHT
    return np.cumsum(weights / weights.sum(1, keepdims=True), axis=1)
