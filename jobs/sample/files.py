"""The files of a day as the vendor delivers them: which rows arrive, and in which columns."""

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.sample.currencies import COUNTRIES, CURRENCIES, CURRENCY_OF_COUNTRY
from jobs.sample.defects import Batch
from jobs.sample.devices import AGENTS, CHANNELS
from jobs.sample.draws import hash_to_uniform
from jobs.sample.products import N_PRODUCTS, NON_PRODUCT_SKUS, SEARCH_TERMS
from jobs.sample.rows import ACTIONS, RETURN, RULE, TEST, VOID, concatenate_rows
from jobs.sample.shop import Shop
from jobs.sample.text_columns import (
    format_csv,
    join_texts,
    quote_csv,
    replace_texts,
    take_texts,
    to_decimals,
    to_integers,
    to_optional_timestamps,
    to_timestamps,
    write_gzip,
)
from jobs.sample.times import DAY_MS, to_day_number
from jobs.sample.truth import Truth, to_client_ids

EVENT_HEADER = "hit_id,ts,client_id,user_ref,email,action,sku,dept,list_price,ccy,query,url,geo,ua,utm_source,sent,server_ts"
ORDER_HEADER = (
    "order_no,line,created_utc,modified_utc,cust_no,cust_email,cust_name,sku,dept,qty,unit_price,discount,ccy,"
    "line_type,pay_state,is_test,refund_of,ship_country"
)
CUSTOMER_HEADER = "cust_no,email,full_name,phone,signup_utc,country_code"

PAGES = ("/p", "/search", "/p", "/cart", "/checkout", "/checkout/thanks", "/account/sign-in", "/p")  # by action
ID_LETTERS = "SRGTVABSSS"  # by kind of order line
LINE_TYPES = ("SALE", "REFUND", "GIFTCARD", "SALE", "SALE", "ADJUST", "WRITEOFF", "POSTAGE", "FEE", "DISCOUNT")  # by kind
BAD_TIMES = ("", "yesterday", "2026-13-45T99:00:00Z", "0000-00-00")
BAD_QUANTITIES = ("two", "0", '"1,5"')
BAD_PRICES = ("free", "-4.00", '"12,50"')
UNREADABLE_PRICES = ("free", "4.00-", '"12,50"')  # an order line below 0 is a return
UNRATED = "NOK"  # a currency that the shop takes and has no exchange rate of
# Visitors for whom the shop also records when an event was sent and received; by how much their clocks are wrong.
TWO_CLOCKS_SHARE = 0.02
CLOCK_OFFSETS_MS = tuple(minutes * 60_000 for minutes in (0, -26 * 60, -120, -7, 5, 180, 49 * 60))

_QUOTED_TERMS = pa.array([quote_csv(term) for term in SEARCH_TERMS])
_QUOTED_AGENTS = pa.array([quote_csv(agent) for agent in AGENTS])


class Deliveries:
    """Rows by the day in whose file they arrive."""

    def __init__(self, dtype: np.dtype):
        self._dtype = dtype
        self._rows_by_day: dict[int, list[np.ndarray]] = {}

    def add(self, batches: list[Batch]) -> None:
        """Add rows, each with the number of its day of arrival."""
        for rows, arrival in batches:
            for number in np.unique(arrival):
                self._rows_by_day.setdefault(int(number), []).append(rows[arrival == number])

    def take(self, day: date) -> np.ndarray:
        """Remove and return the rows of a day's file, by time; a copy comes after its original."""
        rows = concatenate_rows(self._rows_by_day.pop(to_day_number(day), []), self._dtype)
        return rows[np.argsort(rows["time"], kind="stable")]


def write_events(folder: Path, day: date, shop: Shop, events: np.ndarray, truth: Truth, undecodable: bool) -> None:
    """Write the day's file of events; `undecodable` ends it with bytes that are not UTF-8."""
    file = f"events-{day}.csv.gz"
    has_bad_price = events["bad_price"] & (events["product"] >= 0)
    offsets_ms, sent_ms, received_ms = _read_clocks(shop, events, to_day_number(day))
    columns = _event_columns(shop, events, has_bad_price, offsets_ms)
    columns += [to_optional_timestamps(sent_ms), to_optional_timestamps(received_ms)]
    data = format_csv(EVENT_HEADER, columns, np.flatnonzero(events["rule"] == RULE["malformed"]))
    write_gzip(folder / file, data[:-1] + b"\xff\xfe\n" if undecodable else data)
    truth.add_events(file, events, has_bad_price, offsets_ms, to_day_number(day))


def _event_columns(shop: Shop, events: np.ndarray, has_bad_price: np.ndarray, offsets_ms: np.ndarray) -> list[pa.Array]:
    """Return all columns of EVENT_HEADER but the last two."""
    rules, action, product = events["rule"], events["action"], events["product"]
    currency = CURRENCY_OF_COUNTRY[events["country"]]
    has_price = (product >= 0) & shop.products.has_price[product] & ~has_bad_price
    price = np.where(has_price, currency * N_PRODUCTS + product, -1)
    has_visitor = rules != RULE["no_visitor"]
    return [
        join_texts(pa.scalar("h"), to_integers(events["id"])),
        replace_texts(to_timestamps(events["time"] + offsets_ms, 1), rules == RULE["no_time"], BAD_TIMES),
        to_integers(np.where(has_visitor, to_client_ids(events["visitor"]), -1)),
        take_texts(shop.customers.ids, np.where(has_visitor, events["customer"], -1)),
        take_texts(shop.customers.contacts.mails, np.where(has_visitor, events["mail"], -1)),
        take_texts(ACTIONS, action),
        take_texts(shop.products.skus, product),
        take_texts(shop.products.categories, product),
        replace_texts(take_texts(shop.products.price_texts, price), has_bad_price, BAD_PRICES),
        take_texts(CURRENCIES, np.where(product >= 0, currency, -1)),
        take_texts(_QUOTED_TERMS, events["term"]),
        take_texts(PAGES, action),
        take_texts(COUNTRIES, events["country"]),
        take_texts(_QUOTED_AGENTS, events["agent"]),
        take_texts(CHANNELS, events["channel"]),
    ]


def _read_clocks(shop: Shop, events: np.ndarray, day_number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return by how much the client's clock is wrong, and when each event was sent and received, -1 where not recorded.

    For half of the clocks that are fast only the arrival is recorded. Rows with a defect, and late ones, are left alone.
    """
    pick = hash_to_uniform(shop.seed, 70, events["visitor"]) / TWO_CLOCKS_SHARE
    is_on_time = events["time"] // DAY_MS == day_number
    has_two_clocks = (pick < 1) & (events["rule"] == 0) & (events["id"] >= 0) & is_on_time
    nth = np.where(has_two_clocks, pick * len(CLOCK_OFFSETS_MS), 0)
    offsets_ms = np.array(CLOCK_OFFSETS_MS)[nth.astype(int)]
    is_arrival_only = (offsets_ms > 0) & (nth % 1 < 0.5)
    wait_ms = np.where(is_arrival_only, 0, events["id"] % 20 * 1000)
    sent_ms = np.where(has_two_clocks & ~is_arrival_only, events["time"] + offsets_ms + wait_ms, -1)
    return offsets_ms, sent_ms, np.where(has_two_clocks, events["time"] + wait_ms, -1)


def write_orders(folder: Path, day: date, shop: Shop, orders: np.ndarray, truth: Truth) -> None:
    """Write the day's file of order lines."""
    file = f"orders-{day}.csv.gz"
    malformed = np.flatnonzero(orders["rule"] == RULE["malformed"])
    write_gzip(folder / file, format_csv(ORDER_HEADER, _order_columns(shop, orders), malformed))
    truth.add_orders(file, orders)


def _order_columns(shop: Shop, orders: np.ndarray) -> list[pa.Array]:
    kind, variant = orders["kind"], orders["variant"]
    breaks = {name: orders["rule"] == code for name, code in RULE.items()}
    product = orders["product"]
    contacts = shop.customers.contacts
    spelling = orders["mail_spelling"].astype(int) * (len(contacts.mails) // 3)
    price = np.where(orders["blank_price"], "", to_decimals(orders["price"]))
    return [
        join_texts(take_texts(ID_LETTERS, kind), to_integers(np.where(breaks["no_order_id"], -1, orders["id"]))),
        to_integers(orders["line"]),
        replace_texts(to_timestamps(orders["time"], 1000), breaks["no_time"], BAD_TIMES),
        to_timestamps(orders["modified"], 1000),
        take_texts(shop.customers.ids, orders["customer"]),
        take_texts(contacts.mails, np.where(orders["mail"] < 0, -1, spelling + orders["mail"])),
        take_texts(contacts.names, orders["mail"]),
        take_texts([*shop.products.skus.to_pylist(), *NON_PRODUCT_SKUS], product),
        take_texts(shop.products.categories, np.where(product < N_PRODUCTS, product, -1)),
        replace_texts(to_integers(orders["quantity"], keep_negative=True), breaks["bad_quantity"], BAD_QUANTITIES, variant),
        replace_texts(pa.array(price, pa.string()), breaks["bad_price"], UNREADABLE_PRICES, variant),
        pa.array(to_decimals(orders["discount"]), pa.string()),
        take_texts([*CURRENCIES, UNRATED], np.where(breaks["missing_rate"], len(CURRENCIES), orders["currency"])),
        take_texts(LINE_TYPES, kind),
        pa.array(np.select([kind == RETURN, kind == VOID], ["REFUNDED", "VOIDED"], "PAID")),
        pa.array(np.where(kind == TEST, "Y", "N")),
        join_texts(pa.scalar("S"), to_integers(orders["original_id"])),
        take_texts(COUNTRIES, orders["country"]),
    ]


def write_customers(folder: Path, day: date, shop: Shop, joined: np.ndarray, moved: np.ndarray, truth: Truth) -> None:
    """Write the day's file of customers: those who are new, and those who moved."""
    customers, contacts = shop.customers, shop.customers.contacts
    rows = np.concatenate([joined, moved])
    columns = [
        take_texts(customers.ids, rows),
        take_texts(contacts.mails, contacts.n_guests + rows),
        take_texts(contacts.names, contacts.n_guests + rows),
        join_texts(pa.scalar("+44 7700 9"), to_integers(10_000 + rows % 90_000)),
        to_timestamps(customers.signup_ms[rows], 1000),
        take_texts(COUNTRIES, customers.country[rows]),
    ]
    write_gzip(folder / f"customers-{day}.csv.gz", format_csv(CUSTOMER_HEADER, columns, np.empty(0, dtype=int)))
    truth.rows["customers"] += len(rows)
