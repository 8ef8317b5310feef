"""The order lines of a day: sales, their extra lines and returns, and bookings that are no sale."""

from datetime import date

import numpy as np

from jobs.sample.currencies import CURRENCY_OF_COUNTRY, PRICE_FACTORS, SEK, round_to_currency
from jobs.sample.customer_types import MEANS, WHOLESALE
from jobs.sample.draws import hash_to_uniform, number_within_groups
from jobs.sample.products import N_PRODUCTS, NON_PRODUCT
from jobs.sample.rows import (
    ADJUSTMENT,
    BAD_DEBT,
    DISCOUNT,
    FEE,
    GIFT_CARD,
    KIND_RULES,
    ORDER,
    POSTAGE,
    RETURN,
    RULE,
    TEST,
    VOID,
    concatenate_rows,
)
from jobs.sample.shop import Shop
from jobs.sample.times import DAY_MS, HOUR_MS, to_day_number
from jobs.sample.visits import Purchases

CANCELLED_SHARE = 0.02  # of the orders
# Lines that an order has in addition to its products: kind, number of the line, pounds, share of the orders.
EXTRA_LINES = ((POSTAGE, 91, 4, 0.3), (FEE, 92, 2, 0.03), (DISCOUNT, 93, -5, 0.04))
IDS_PER_DAY = 10_000_000
FIRST_RETURN, FIRST_POSTAGE_REFUND, FIRST_BOOKING = 5_000_000, 8_000_000, 9_000_000  # ids of a day, after its sales


def draw_sales(rng: np.random.Generator, shop: Shop, purchases: Purchases, day: date) -> tuple[np.ndarray, np.ndarray]:
    """Return the day's order lines, and for each the chance that it is returned."""
    buyers, nth_order, n_lines = np.unique(purchases.line_session, return_inverse=True, return_counts=True)
    sessions, signed_in = purchases.sessions, purchases.is_signed_in[buyers]
    n, customer_type, customer = len(buyers), sessions.type[buyers], sessions.customer[buyers]
    mail = _draw_mails(rng, shop, customer)
    share = _draw_discounts(rng, shop, customer_type, customer)

    orders = np.zeros(len(purchases.line_session), dtype=ORDER)
    orders["id"] = (to_day_number(day) * IDS_PER_DAY + np.arange(n))[nth_order]
    orders["line"] = 1 + number_within_groups(n_lines)  # the lines of a session lie together
    orders["time"] = orders["modified"] = purchases.ordered_ms[buyers][nth_order]
    orders["customer"] = np.where(signed_in, customer, -1)[nth_order]
    orders["mail"] = mail[nth_order]
    orders["mail_spelling"] = np.where(signed_in, 0, rng.integers(0, 3, n))[nth_order]
    orders["country"] = sessions.country[buyers][nth_order]
    orders["currency"] = CURRENCY_OF_COUNTRY[orders["country"]]
    orders["product"] = purchases.line_product
    orders["price"] = shop.products.prices[orders["currency"], orders["product"]]
    scatter = np.where(customer_type == WHOLESALE, np.exp(0.4 * rng.standard_normal(n)), 1.0)
    orders["quantity"] = 1 + rng.poisson(((MEANS["quantity"][customer_type] - 1) * scatter)[nth_order])
    discount = np.floor(orders["quantity"] * orders["price"] * share[nth_order])
    orders["discount"] = round_to_currency(discount, orders["currency"])
    orders["original_id"] = -1
    return_share = MEANS["returns"][customer_type] * _customer_factors(shop, "returns", customer)
    return orders, return_share[nth_order]


def _draw_mails(rng: np.random.Generator, shop: Shop, customer: np.ndarray) -> np.ndarray:
    """Return the e-mail address of each order; a stranger uses the address of a guest or of an account."""
    n, n_guests = len(customer), shop.customers.contacts.n_guests
    of_account = n_guests + rng.integers(0, shop.customers.n_known, n)
    mail = np.where(rng.random(n) < 0.3, of_account, rng.integers(0, n_guests, n))
    return np.where(customer < 0, mail, n_guests + customer)


def _draw_discounts(rng: np.random.Generator, shop: Shop, customer_type: np.ndarray, customer: np.ndarray) -> np.ndarray:
    """Return the discount of each order as a share of the price, 0 for none."""
    n = len(customer)
    discounted_share = MEANS["discounts"][customer_type] * _customer_factors(shop, "discounts", customer)
    is_discounted = rng.random(n) < np.minimum(discounted_share, 0.97)
    size = np.clip(MEANS["discount"][customer_type] + 0.05 * rng.standard_normal(n), 0.02, 0.6)
    return np.where(is_discounted, size, 0)


def _customer_factors(shop: Shop, name: str, customer: np.ndarray) -> np.ndarray:
    return np.where(customer < 0, 1.0, shop.customers.factors[name][customer])


def is_cancelled(shop: Shop, order_ids: np.ndarray) -> np.ndarray:
    """Return whether each order is cancelled within hours: all of its lines are."""
    return hash_to_uniform(shop.seed, 60, order_ids) < CANCELLED_SHARE


def draw_returns(
    rng: np.random.Generator, shop: Shop, orders: np.ndarray, return_share: np.ndarray, may_return: np.ndarray, day: date
) -> np.ndarray:
    """Return the return lines of a day's order lines: of whole cancelled orders, and of later returns, some of a part."""
    cancelled = is_cancelled(shop, orders["id"])
    is_returned = may_return & (cancelled | (rng.random(len(orders)) < return_share))
    return _make_returns(rng, orders[is_returned].copy(), cancelled[is_returned], day)


def _make_returns(rng: np.random.Generator, returns: np.ndarray, cancelled: np.ndarray, day: date) -> np.ndarray:
    n = len(returns)
    is_part = ~cancelled & (returns["quantity"] > 1) & (rng.random(n) < 0.5)
    pieces = np.where(is_part, rng.integers(1, np.maximum(returns["quantity"], 2)), returns["quantity"])
    part_discount = round_to_currency(returns["discount"] * pieces // returns["quantity"], returns["currency"])
    returns["discount"] = np.where(is_part, part_discount, returns["discount"])
    delay_s = np.where(cancelled, rng.integers(1200, 18_000, n), rng.integers(2 * 86_400, 30 * 86_400, n))
    returns["time"] += delay_s * 1000
    returns["modified"] = returns["time"]
    returns["original_id"] = np.where(rng.random(n) < 0.85, returns["id"], -1)
    returns["id"] = to_day_number(day) * IDS_PER_DAY + FIRST_RETURN + np.arange(n)
    returns["line"], returns["quantity"], returns["kind"], returns["mail_spelling"] = 1, -pieces, RETURN, 0
    returns["blank_price"] = False
    mark_missing_rates(returns)
    return returns


def add_extra_lines(shop: Shop, orders: np.ndarray, day: date) -> tuple[np.ndarray, np.ndarray]:
    """Return postage, gift wrapping and vouchers of the day's orders; and the postage refunded to cancelled orders.

    A voucher is for orders that begin with a line of at least four times its worth.
    """
    parts = []
    first_lines = orders[(orders["line"] == 1) & (orders["rule"] == 0)]
    for kind, line, pounds, share in EXTRA_LINES:
        price = np.round(pounds * np.array(PRICE_FACTORS)).astype("i8")[first_lines["currency"]] * 100
        is_affordable = first_lines["quantity"] * first_lines["price"] - first_lines["discount"] + 4 * price >= 0
        has_line = (hash_to_uniform(shop.seed, 60 + line, first_lines["id"]) < share) & is_affordable
        extra = first_lines[has_line].copy()
        extra["line"], extra["kind"], extra["product"], extra["price"] = line, kind, NON_PRODUCT[kind], price[has_line]
        extra["quantity"], extra["discount"], extra["blank_price"], extra["restated"] = 1, 0, False, False
        parts.append(extra)
    postage = parts[0]
    refunds = postage[is_cancelled(shop, postage["id"])].copy()
    refunds["time"] += HOUR_MS
    refunds["modified"], refunds["original_id"] = refunds["time"], refunds["id"]
    refunds["id"] = to_day_number(day) * IDS_PER_DAY + FIRST_POSTAGE_REFUND + np.arange(len(refunds))
    refunds["line"], refunds["quantity"], refunds["kind"], refunds["mail_spelling"] = 1, -1, RETURN, 0
    mark_missing_rates(refunds)
    return concatenate_rows(parts, ORDER), refunds


def draw_bookings(rng: np.random.Generator, shop: Shop, day: date) -> np.ndarray:
    """Return gift cards, test orders, voids, book-keeping, and returns of orders from before the shop's first file."""
    rate = 0.4 + 0.0002 * shop.customers.n_first_day
    kinds = np.repeat([GIFT_CARD, TEST, VOID, ADJUSTMENT, RETURN, BAD_DEBT], rng.poisson(rate, 6))
    n, number = len(kinds), to_day_number(day)
    orders = np.zeros(n, dtype=ORDER)
    orders["kind"], orders["rule"], orders["line"], orders["original_id"] = kinds, KIND_RULES[kinds], 1, -1
    orders["time"] = orders["modified"] = number * DAY_MS + rng.integers(0, 86_400, n) * 1000
    orders["id"] = number * IDS_PER_DAY + FIRST_BOOKING + np.arange(n)
    orders["customer"] = np.where(kinds == TEST, -1, rng.integers(0, shop.customers.n_known, n))
    orders["mail"] = np.where(kinds == TEST, -1, shop.customers.contacts.n_guests + orders["customer"])
    orders["product"] = rng.integers(0, N_PRODUCTS, n)
    orders["price"] = shop.products.prices[0, orders["product"]]
    is_gift_card, is_unmatched_return = kinds == GIFT_CARD, kinds == RETURN
    is_ledger = (kinds == ADJUSTMENT) | (kinds == BAD_DEBT)
    orders["price"][is_gift_card], orders["product"][is_gift_card] = 5000, NON_PRODUCT[GIFT_CARD]
    orders["price"][is_ledger] = np.where(kinds[is_ledger] == ADJUSTMENT, 499, -12_345)
    orders["product"][is_ledger] = NON_PRODUCT[ADJUSTMENT]
    original_ids = (to_day_number(shop.first_day) - 9) * IDS_PER_DAY + rng.integers(0, 1000, is_unmatched_return.sum())
    orders["original_id"][is_unmatched_return] = original_ids
    orders["quantity"] = np.where(is_unmatched_return, -1, 1)
    return orders


def mark_missing_rates(orders: np.ndarray) -> None:
    """Mark the lines in kronor of a Saturday or Sunday: they come in a currency that has no exchange rate."""
    weekday = (orders["time"] // DAY_MS + 3) % 7  # 1970-01-01 was a Thursday
    orders["rule"] = np.where((orders["currency"] == SEK) & (weekday >= 5), RULE["missing_rate"], orders["rule"])
