"""A made-up shop as a vendor would deliver it, for the demo and the tests: one set of files per day, and the truth.

Customers have planted types, each with its own rhythm of season, weekday and hour, its devices, categories, searches,
discounts and returns; the types differ but overlap. Among the rows are robots, people who look like robots, duplicates,
late and broken rows, clocks that are off, other currencies, postage, fees, vouchers, gift cards, test orders, voids and
bad debts. `truth/` beside the files says what was planted, without personal data.

`customers` is the number known on the first day; 1 in 800 of it joins on each further day. Customers draw from a
stream of their own row by row, days from a stream seeded with (seed, day); so one more day leaves the files of
the earlier days as they were, byte for byte.
"""

import csv
import gzip
import io
import json
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import UserError

HOME_CURRENCY = "GBP"
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
EPOCH = date(1970, 1, 1)

# Personal: they may stand in the shop's files and nowhere else. Unusual enough to be searched for in a lake.
FIRST_NAMES = (
    "Ottoline", "Barnaby", "Philippa", "Leofric", "Araminta", "Cuthbert", "Ingeborg", "Thaddeus", "Seraphina",
    "Ignatius", "Clementine", "Osbert", "Wilhelmina", "Peregrine", "Euphemia", "Lysander",
)  # fmt: skip
LAST_NAMES = (
    "Quillfeather", "Brackenbury", "Thistlethwaite", "Mossgrave", "Pennyfather", "Ravenscroft", "Oakshott",
    "Winterbourne", "Haverstock", "Dunnockshaw", "Larkrise", "Fothergill", "Umbleby", "Crabapple", "Yarborough",
    "Swindlehurst",
)  # fmt: skip
EMAIL_DOMAINS = ("owlpost.example", "brightmail.example", "papermill.example", "tidemail.example", "heathnet.example")


class Type(NamedTuple):
    """How one type of customer lives. Means; each customer deviates from them."""

    share: float  # of the customers known on the first day
    visits: float  # sessions per day
    season: float  # factor on it in the weeks before presents are given
    weekend: float  # factor on it on Saturday and Sunday
    hour: float  # mean hour of a session's start, UTC
    hour_sd: float
    views: float  # per session
    searches: float
    buys: float  # share of sessions that end in an order
    carts: float  # share of the others that leave a cart behind
    lines: float  # of an order
    quantity: float  # of a line
    discounts: float  # share of orders with a discount
    discount: float  # its mean size
    returns: float  # share of lines
    mobile: float  # share whose first device is a phone
    signed: float  # share of sessions signed in
    likes: str  # favoured departments, a letter each


# fmt: off
TYPES = {
    "loyal":     Type(.18, .14, 1.2, 1.1, 18.5, 3.0, 4, 0.6, .35, .15, 2.2, 1.2, .15, .10, .05, 0.5, 0.8, "abcd"),
    "gifter":    Type(.15, .012, 11., 1.6, 20.0, 2.5, 6, 1.0, .40, .20, 5.0, 1.4, .20, .10, .08, 0.4, 0.5, "efgh"),
    "bargain":   Type(.18, .10, 1.2, 1.0, 21.5, 2.0, 6, 1.4, .18, .45, 2.5, 1.3, .85, .30, .25, 0.8, 0.6, "ijab"),
    "window":    Type(.25, .13, 1.1, 1.3, 22.0, 2.5, 8, 2.0, .012, .20, 1.3, 1.0, .20, .10, .10, 0.7, 0.4, "efij"),
    "wholesale": Type(.08, .06, 0.9, 0.1, 10.5, 2.0, 4, 0.8, .65, .15, 7.0, 30., .50, .12, .02, .05, 0.9, "klcd"),
    "lapsed":    Type(.12, .10, 1.0, 1.0, 17.0, 4.0, 4, 0.7, .20, .20, 1.8, 1.1, .25, .15, .10, 0.5, 0.6, "abgh"),
    "dormant":   Type(.04, .0, 1.0, 1.0, 12.0, 4.0, 1, 0.0, .0, .0, 1.0, 1.0, .0, .0, .0, 0.5, 0.0, "abcd"),
    "newcomer":  Type(.0, .02, 1.0, 1.1, 18.0, 4.0, 5, 1.2, .16, .30, 1.3, 1.0, .60, .15, .10, 0.8, 0.5, "aegi"),
    # Not a customer's type: sessions of people whom the shop does not know.
    "stranger":  Type(.0, .0, 1.0, 1.0, 19.0, 4.0, 3, 0.7, .06, .15, 1.4, 1.1, .15, .10, .08, 0.6, 0.0, "aegi"),
}
# fmt: on
TYPE_NAMES = tuple(TYPES)
NEWCOMER, LAPSED, DORMANT, STRANGER, GIFTER, WHOLESALE = (
    TYPE_NAMES.index(name) for name in ("newcomer", "lapsed", "dormant", "stranger", "gifter", "wholesale")
)
NEWCOMER_DAYS = 45
JOINING_PER_DAY = 1 / 800
STRANGERS_PER_CUSTOMER = 0.02  # sessions a day
PRESENT_SEASONS = (((1, 28), (2, 14)), ((3, 1), (3, 22)), ((6, 7), (6, 20)), ((11, 20), (12, 23)))
_OF = {name: np.array([getattr(t, name) for t in TYPES.values()]) for name in Type._fields if name != "likes"}

DEPARTMENTS = (  # department > category, brands, mean price, what people type to find it
    ("Food > Coffee", ("Kestrel", "Morrow"), 9, ("coffee beans", "espresso", "decaf")),
    ("Food > Tea", ("Morrow", "Tamsin"), 7, ("earl grey", "green tea", "loose leaf tea")),
    ("Home > Kitchen", ("Pellworm", "Aldgate"), 24, ("pan", "chef knife", "kitchen scale")),
    ("Home > Cleaning", ("Aldgate", "Suds"), 6, ("soap", "sponge, large", "bleach")),
    ("Gifts > Toys", ("Bobbin", "Larch"), 28, ("wooden train", "puzzle", "teddy")),
    ("Gifts > Candles", ("Wick", "Tamsin"), 18, ("candle", "scented candle", "tea lights")),
    ("Gifts > Jewellery", ("Larch", "Orrery"), 65, ("silver ring", "necklace", "earrings")),
    ("Gifts > Books", ("Folio", "Quire"), 15, ("cook book", "atlas", "the \"best\" novel")),
    ("Fashion > Shoes", ("Stride", "Pellworm"), 55, ("trainers sale", "boots", "sandals")),
    ("Fashion > Bags", ("Stride", "Orrery"), 42, ("rucksack", "tote bag", "wallet sale")),
    ("Office > Paper", ("Quire", "Ledger"), 5, ("a4 paper", "envelopes", "notebook")),
    ("Office > Furniture", ("Ledger", "Aldgate"), 120, ("desk", "office chair", "shelf")),
)  # fmt: skip
PRODUCTS_PER_CATEGORY = 40
PRODUCTS = PRODUCTS_PER_CATEGORY * len(DEPARTMENTS)
TERMS_PER_CATEGORY = 3
ODD_TERMS = (
    "cofee beens",
    "wodden trian",
    "xqzt",
    "crème brûlée set",
    "mug\u0007",
    "\u0001desk",
    "schlüssel 🔑",
    "tea\tset",
)
CONTROL_TERMS = (4, 5, 7)
NO_PRICE_SHARE = 0.04  # of the catalogue
CANCELLED_SHARE = 0.02  # of the orders

COUNTRIES = ("GB", "IE", "DE", "FR", "US", "SE")
COUNTRY_SHARES = (0.70, 0.06, 0.07, 0.05, 0.08, 0.04)
CURRENCIES = (HOME_CURRENCY, "EUR", "USD", "SEK")
CURRENCY_OF_COUNTRY = np.array([0, 1, 1, 1, 2, 3])
PRICE_FACTORS = (1.0, 1.2, 1.3, 13.5)
SEK = CURRENCIES.index("SEK")  # has no rate on Saturday and Sunday; prices in whole kronor

PHONES = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Android 15; Mobile; rv:139.0) Gecko/139.0 Firefox/139.0",
)
DESKTOPS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:139.0) Gecko/20100101 Firefox/139.0",
)
CRAWLERS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/137.0.0.0 Safari/537.36",
    "mozilla/5.0 (x11; linux x86_64) applewebkit/537.36 (khtml, like gecko) headlesschrome/131.0.0.0 safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) HEADLESSCHROME/129.0.0.0 Safari/537.36",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "python-requests/2.32.3",
)
FLEET_AGENT = "Mozilla/5.0 (Windows NT 6.1; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/109.0.0.0 Safari/537.36"
AGENTS = (*PHONES, *DESKTOPS, *CRAWLERS, FLEET_AGENT)
FIRST_DESKTOP, FIRST_CRAWLER, FLEET = len(PHONES), len(PHONES) + len(DESKTOPS), len(AGENTS) - 1
CHANNELS = ("direct", "organic", "newsletter", "ads", "social")

ACTIONS = (
    "product_view", "site_search", "cart_add", "cart_remove", "checkout_start", "order_done", "sign_in", "hover_tile",
)  # fmt: skip
VIEW, SEARCH, ADD, REMOVE, CHECKOUT, PURCHASE, LOGIN, UNKNOWN = range(len(ACTIONS))
PAGES = ("/p", "/search", "/p", "/cart", "/checkout", "/checkout/thanks", "/account/sign-in", "/p")

KINDS = ("sale", "return", "gift_card", "test", "void", "adjustment", "bad_debt", "postage", "fee", "discount")
SALE, RETURN, GIFT_CARD, TEST, VOID, ADJUSTMENT, BAD_DEBT, POSTAGE, FEE, DISCOUNT = range(len(KINDS))
# Codes of what is no product, numbered after the products.
CODES = ("GIFT-50", "POSTAGE", "WRAPPING", "VOUCHER", "LEDGER")
CODE = {kind: PRODUCTS + n for n, kind in enumerate((GIFT_CARD, POSTAGE, FEE, DISCOUNT, ADJUSTMENT))}
# Lines an order has beside its products: kind, number of the line, pounds, share of the orders.
EXTRA_LINES = ((POSTAGE, 91, 4, 0.3), (FEE, 92, 2, 0.03), (DISCOUNT, 93, -5, 0.04))

# Clients of which the shop also records when an event was sent and when it came; what their clocks are off by.
TWO_CLOCKS_SHARE = 0.02  # of the visitors
CLOCKS_OFF_MS = tuple(minutes * 60_000 for minutes in (0, -26 * 60, -120, -7, 5, 180, 49 * 60))

# What a planted row is, by name in truth/defects.csv. An empty name is a row that is to be kept.
RULES = (
    "", "malformed", "no_time", "future",
    "too_late", "no_visitor", "unknown_type", "same_id", "same_event",
    "no_order_id", "no_product", "bad_quantity", "bad_price", "no_price", "missing_rate",
    "gift_card", "test_order", "void", "adjustment", "bad_debt", "superseded", "exact",
)  # fmt: skip
RULE = {name: code for code, name in enumerate(RULES)}
KIND_RULES = np.array([RULE.get({"test": "test_order"}.get(kind, kind), 0) for kind in KINDS], dtype="i1")
BAD_TIMES = ("", "yesterday", "2026-13-45T99:00:00Z", "0000-00-00")
BAD_QUANTITIES = ("two", "0", '"1,5"')
BAD_PRICES = ("free", "-4.00", '"12,50"')

EVENT = np.dtype(
    [
        ("at", "i8"), ("id", "i8"), ("visitor", "u8"), ("customer", "i4"), ("mail", "i4"), ("action", "i1"),
        ("product", "i4"), ("term", "i4"), ("agent", "i2"), ("country", "i1"), ("channel", "i1"), ("rule", "i1"),
        ("bad_price", "?"),
    ]
)  # fmt: skip
ORDER = np.dtype(
    [
        ("at", "i8"), ("modified", "i8"), ("id", "i8"), ("line", "i2"), ("customer", "i4"), ("mail", "i4"),
        ("mail_form", "i1"), ("product", "i4"), ("quantity", "i4"), ("price", "i8"), ("discount", "i8"),
        ("currency", "i1"), ("kind", "i1"), ("undoes", "i8"), ("country", "i1"), ("rule", "i1"), ("variant", "i1"),
        ("blank_price", "?"), ("restated", "?"),
    ]
)  # fmt: skip
EVENT_HEADER = "hit_id,ts,client_id,user_ref,email,action,sku,dept,list_price,ccy,query,url,geo,ua,utm_source,sent,server_ts"
ORDER_HEADER = (
    "order_no,line,created_utc,modified_utc,cust_no,cust_email,cust_name,sku,dept,qty,unit_price,discount,ccy,"
    "line_type,pay_state,is_test,refund_of,ship_country"
)
CUSTOMER_HEADER = "cust_no,email,full_name,phone,signup_utc,country_code"
PRODUCT_HEADER = "sku,title,maker,dept,list_price,ccy,added_on"
RATE_HEADER = "fixing_date,ccy,gbp_per_unit"


def write(out: Path, customers: int, days: int, seed: int, last_day: date, undecodable: bool = False) -> None:
    """Write the shop of `days` days up to `last_day` into the folder `out`, whole or not at all.

    Files, all CSV: events-, orders-, customers-<day>.csv.gz, rates-<day>.csv, products.csv; beside them
    truth/customers.csv, truth/defects.csv (a file's data rows count from 1) and truth/truth.json. The same arguments
    give the same bytes; a shop that lies in `out` is replaced.
    `undecodable` puts bytes into the last event file that are not UTF-8.
    Raises UserError for a size below 1 and for an `out` that holds anything but such a shop.
    """
    if customers < 1 or days < 1 or seed < 0:
        raise UserError(f"sample: customers = {customers}, days = {days}, seed = {seed}: give sizes from 1 and a seed from 0")
    out = Path(out)
    if out.exists() and not (out.is_dir() and (_is_shop(out) or not any(out.iterdir()))):
        raise UserError(f"sample: {out} exists and is no sample shop; choose another folder or empty it")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        (temporary / "new/truth").mkdir(parents=True)
        _write_shop(temporary / "new", customers, days, seed, last_day, undecodable)
        if out.exists():
            os.replace(out, temporary / "old")
        os.replace(temporary / "new", out)
    finally:
        shutil.rmtree(temporary)


def last_day(out: Path) -> date:
    """The last day of the shop that lies in `out`; raises UserError where there is none."""
    if not _is_shop(Path(out)):
        raise UserError(f"sample: {out} holds no sample shop; make one: shoal sample --out {out}")
    return date.fromisoformat(json.loads((Path(out) / "truth/truth.json").read_text())["last_day"])


def _is_shop(folder: Path) -> bool:
    return (folder / "truth/truth.json").is_file()


def _write_shop(folder: Path, customers: int, days: int, seed: int, last: date, undecodable: bool) -> None:
    first = last - timedelta(days=days - 1)
    shop = _Shop(customers, days, seed, first)
    ledger = _Ledger(shop)
    _write_text(folder / "products.csv", PRODUCT_HEADER, shop.catalogue_lines())
    events, orders = defaultdict(list), defaultdict(list)  # rows by the day in whose file they arrive
    for offset in range(days):
        day = first + timedelta(days=offset)
        rng = np.random.default_rng((seed, 2, day.toordinal()))
        new, changed = shop.advance(rng, offset)
        _write_customers(folder, day, shop, new, changed, ledger)
        rates = _rates(day, seed)
        _write_text(folder / f"rates-{day}.csv", RATE_HEADER, [f"{day},{c},{r / 10_000:.4f}" for c, r in rates.items()])
        ledger.rows["rates"] += len(rates)

        visits, hits = _visits(rng, shop, day, offset)
        _deliver(events, _with_planted_events(rng, hits, shop))
        robots = _robots(rng, shop, day) + _sleepless(shop, day)
        for rule, rows in robots:
            ledger.robots[rule].update(rows["visitor"].tolist())
        rows = _joined([rows for _, rows in robots], EVENT)
        _deliver(events, [(_number(rows, day, 1_000_000_000), rows["at"] // DAY_MS)])
        people = _like_robots(shop, day)
        for kind, rows in people:
            ledger.people[kind].update(rows["visitor"].tolist())
        rows = _joined([rows for _, rows in people], EVENT)
        _deliver(events, [(_number(rows, day, 2_000_000_000), rows["at"] // DAY_MS)])
        _deliver(orders, _with_planted_orders(rng, _sales(rng, shop, visits, day), shop, day))

        spoil = undecodable and day == last
        number = _day_number(day)
        _write_events(folder, day, shop, _arrived(events, number, EVENT), ledger, spoil)
        _write_orders(folder, day, shop, _arrived(orders, number, ORDER), ledger, seed)
    ledger.rows["products"] = PRODUCTS
    _write_truth(folder / "truth", shop, ledger, customers, days, seed, first, last)


# ---------------------------------------------------------------------------------------------------------------- who


class _Shop:
    """The catalogue and everybody who is a customer by the last day; `known` of them are so today."""

    def __init__(self, customers: int, days: int, seed: int, first: date):
        self.seed, self.first, self.base = seed, first, customers
        joined_by = np.floor((np.arange(days) + 1) * customers * JOINING_PER_DAY).astype(int)
        joined_by[0] = 0  # the first day's are those known already
        self.joined_by = np.maximum.accumulate(joined_by)
        n = self.n = customers + int(self.joined_by[-1])
        u = np.random.default_rng((seed, 0)).random((n, 16))
        z = np.random.default_rng((seed, 1)).standard_normal((n, 8))

        self.joined = np.where(
            np.arange(n) < customers,
            -30 - np.floor(u[:, 0] * 1500).astype(int),
            np.searchsorted(self.joined_by, np.arange(n) - customers, side="right"),
        )
        self.type = _choose(u[:, 1], np.cumsum(_OF["share"]))
        self.type[(self.joined >= 0) & (self.type == DORMANT)] = TYPE_NAMES.index("window")
        self.stops = np.where(self.joined >= 0, self.joined + NEWCOMER_DAYS, 0) + 5 + np.floor(u[:, 2] * 35).astype(int)
        self.country = _choose(u[:, 3], np.cumsum(COUNTRY_SHARES))
        self.favourite = _choose(u[:, 4], _likes()[self.type])
        self.of = {  # each customer's own factor
            name: np.exp(spread * z[:, i])
            for i, (name, spread) in enumerate(
                {"visits": 0.35, "views": 0.25, "searches": 0.3, "buys": 0.3, "returns": 0.4, "lines": 0.2}.items()
            )
        }
        self.of["discounts"] = np.exp(0.25 * z[:, 6])

        first_is_phone = u[:, 5] < _OF["mobile"][self.type]
        phone = np.floor(u[:, 6] * len(PHONES)).astype(int)
        desktop = FIRST_DESKTOP + np.floor(u[:, 7] * len(DESKTOPS)).astype(int)
        self.agents = np.stack([np.where(first_is_phone, phone, desktop), np.where(first_is_phone, desktop, phone), desktop], 1)
        ids = np.arange(n, dtype="u8")
        self.devices = np.stack([_hash(seed, 10 + k, ids) for k in range(3)], 1)
        self.n_devices = 1 + (u[:, 8] < 0.5) + (u[:, 8] < 0.08)
        # A household on one device, and a public one for each 5,000 customers: there the visitor follows the log-ins.
        self.always_logs_in = np.zeros((n, 3), dtype=bool)
        household = np.flatnonzero(u[1:customers, 9] < 0.015) + 1
        for i in household:
            self.devices[i, 0], self.agents[i, 0] = self.devices[i - 1, 0], self.agents[i - 1, 0]
            self.always_logs_in[[i - 1, i], 0] = True
        public = u[:, 10] < 0.02
        self.n_devices[public] = 3
        self.devices[public, 2] = _hash(seed, 20, ids[public] // np.uint64(5000))
        self.agents[public, 2] = FIRST_DESKTOP
        self.always_logs_in[public, 2] = True

        first_name, last_name = (
            np.floor(u[:, 11] * len(FIRST_NAMES)).astype(int),
            np.floor(u[:, 12] * len(LAST_NAMES)).astype(int),
        )
        domain = np.floor(u[:, 13] * len(EMAIL_DOMAINS)).astype(int)
        # E-mail addresses: first those of guests that come back, then the customers' in order.
        self.guests = max(50, customers // 10)
        g = np.arange(self.guests)
        first_name = np.concatenate([g % len(FIRST_NAMES), first_name])
        last_name = np.concatenate([g // len(FIRST_NAMES) % len(LAST_NAMES), last_name])
        domain = np.concatenate([g % len(EMAIL_DOMAINS), domain])
        serial = pa.array(np.concatenate([g + 1, np.arange(n) + 1])).cast(pa.string())
        tag = pa.array(["g"] * self.guests + [""] * n)
        given, family = pa.array(FIRST_NAMES).take(pa.array(first_name)), pa.array(LAST_NAMES).take(pa.array(last_name))
        self.ids = pa.array([f"C{i + 1:07}" for i in range(n)])
        self.names = _join(given, family, separator=" ")
        mails = _join(given, pa.scalar("."), family, tag, serial, pa.scalar("@"), pa.array(EMAIL_DOMAINS).take(pa.array(domain)))
        mails = pc.utf8_lower(mails)
        self.mails = pa.concat_arrays([mails, pc.utf8_upper(mails), _join(pa.scalar(" "), mails, pa.scalar(" "))])
        self.signup_ms = (_day_number(first) + self.joined) * DAY_MS + np.floor(u[:, 14] * DAY_MS).astype("i8") // 1000 * 1000
        self.known = customers

        catalogue = np.random.default_rng((seed, 3))
        self.price = np.empty((len(CURRENCIES), PRODUCTS), dtype="i8")  # in hundredths of the currency
        means = np.repeat([mean for _, _, mean, _ in DEPARTMENTS], PRODUCTS_PER_CATEGORY)
        pounds = means * np.exp(0.5 * catalogue.standard_normal(PRODUCTS))
        for currency, factor in enumerate(PRICE_FACTORS):
            self.price[currency] = np.maximum(np.round(pounds * factor), 1) * 100 - (0 if currency == SEK else 1)
        self.price_texts = pa.array(_decimals(self.price.ravel()), pa.string())
        self.has_price = catalogue.random(PRODUCTS) >= NO_PRICE_SHARE
        self.skus = pa.array([f"{k // PRODUCTS_PER_CATEGORY + 10}-{k % PRODUCTS_PER_CATEGORY:03}" for k in range(PRODUCTS)])
        self.departments = pa.array([DEPARTMENTS[k // PRODUCTS_PER_CATEGORY][0] for k in range(PRODUCTS)])

    def advance(self, rng: np.random.Generator, offset: int) -> tuple[np.ndarray, np.ndarray]:
        """Make `offset` the current day; the customers who are new to the shop's files and those who moved."""
        before = self.known if offset else 0
        self.known = self.base + int(self.joined_by[offset])
        new = np.arange(before, self.known)
        changed = np.empty(0, dtype=int)
        if before:
            changed = np.unique(rng.integers(0, before, rng.poisson(0.0003 * before)))
            self.country[changed] = rng.integers(0, len(COUNTRIES), len(changed))
        return new, changed

    def types_on(self, offset: int) -> np.ndarray:
        """Type of each customer that is known on a day."""
        joined = self.joined[: self.known]
        return np.where((joined >= 0) & (offset - joined < NEWCOMER_DAYS), NEWCOMER, self.type[: self.known])

    def catalogue_lines(self) -> list[str]:
        lines = []
        for k, (sku, department) in enumerate(zip(self.skus.to_pylist(), self.departments.to_pylist(), strict=True)):
            brand = DEPARTMENTS[k // PRODUCTS_PER_CATEGORY][1][k % 2]
            price = f"{self.price[0, k] / 100:.2f}" if self.has_price[k] else ""
            added = self.first - timedelta(days=30 + k * 7 % 900)
            title = f"{brand} {department.split(' > ')[1]} No. {k % PRODUCTS_PER_CATEGORY + 1}"
            lines.append(f"{sku},{title},{brand},{department},{price},{HOME_CURRENCY},{added}")
        return lines


@dataclass
class _Visits:
    """One entry per session of a day, and one per line that was bought in it."""

    customer: np.ndarray  # -1: a stranger
    type: np.ndarray
    country: np.ndarray
    signed: np.ndarray
    ordered_at: np.ndarray
    line_visit: np.ndarray
    line_product: np.ndarray


def _visits(rng: np.random.Generator, shop: _Shop, day: date, offset: int) -> tuple[_Visits, np.ndarray]:
    types = shop.types_on(offset)
    rate = _OF["visits"][types] * shop.of["visits"][: shop.known]
    rate *= 1 + (types == NEWCOMER) * 11 * np.exp(-(offset - shop.joined[: shop.known]) / 15)
    if any(start <= (day.month, day.day) <= end for start, end in PRESENT_SEASONS):
        rate *= _OF["season"][types]
    if day.weekday() >= 5:
        rate *= _OF["weekend"][types]
    rate[(types == LAPSED) & (offset >= shop.stops[: shop.known])] = 0
    customer = np.repeat(np.arange(shop.known), rng.poisson(rate))
    customer = np.concatenate([customer, np.full(rng.poisson(STRANGERS_PER_CUSTOMER * shop.base), -1)])
    n = len(customer)
    stranger = customer < 0
    kind = np.where(stranger, STRANGER, types[customer])

    def mean(name: str) -> np.ndarray:
        return _OF[name][kind] * np.where(stranger, 1.0, shop.of[name][customer])

    hour = (_OF["hour"][kind] + _OF["hour_sd"][kind] * rng.standard_normal(n)) % 24
    start = _day_number(day) * DAY_MS + np.floor(hour * HOUR_MS).astype("i8")
    pick = rng.random(n)
    device = np.minimum(
        (pick > 0.7).astype(int) + (pick > np.where(shop.always_logs_in[customer, 2], 0.7, 0.92)),
        shop.n_devices[customer] - 1,
    )
    fresh = stranger | (rng.random(n) < 0.02)  # a deleted cookie: a visitor nobody has seen
    visitor = np.where(fresh, _hash(shop.seed, 30 + day.toordinal(), np.arange(n, dtype="u8")), shop.devices[customer, device])
    agent = np.where(stranger, rng.integers(0, FIRST_CRAWLER, n), shop.agents[customer, device])
    country = np.where(stranger, _choose(rng.random(n), np.cumsum(COUNTRY_SHARES)), shop.country[customer])

    buys = rng.random(n) < np.minimum(mean("buys"), 0.9)
    carts = buys | (rng.random(n) < _OF["carts"][kind])
    lines = np.where(carts, 1 + rng.poisson(np.maximum(mean("lines") - 1, 0)), 0)
    removes = (carts & (rng.random(n) < 0.12)).astype(int)
    adds = lines + removes
    views = np.maximum(1 + rng.poisson(mean("views") - 0.5 * np.minimum(mean("views"), 1)), adds)
    searches = rng.poisson(mean("searches"))
    checkouts = buys | (carts & (rng.random(n) < 0.35))

    pick = rng.random(n)
    known = ~stranger & (pick < _OF["signed"][kind])
    remembered = known & ~fresh & (rng.random(n) < 0.5)
    log_in = (known & ~remembered) | (~stranger & shop.always_logs_in[customer, device] & ~fresh)
    remembered &= ~log_in
    log_in_late = buys & ~stranger & ~log_in & ~remembered & (rng.random(n) < 0.6)
    signed_from = np.where(remembered, -1.0, np.where(log_in, 0.0, np.where(log_in_late, 0.87, np.inf)))

    # The steps of a session in the order of `key`: 0 comes first, 1 last.
    visit_of_view = np.repeat(np.arange(n), views)
    nth_view = _nth(views)
    view_key = 0.05 + 0.78 * (nth_view + rng.random(len(nth_view))) / views[visit_of_view]
    product = _products(rng, kind[visit_of_view], np.where(stranger, -1, shop.favourite[customer])[visit_of_view])
    visit_of_add, nth_add = np.repeat(np.arange(n), adds), _nth(adds)
    viewed = (np.cumsum(views) - views)[visit_of_add] + nth_add
    removed = nth_add >= lines[visit_of_add]
    visit_of_search = np.repeat(np.arange(n), searches)
    terms = _terms(rng, kind[visit_of_search])
    steps = [
        (visit_of_view, VIEW, view_key, product, -1),
        (visit_of_add, ADD, view_key[viewed] + 1e-9, product[viewed], -1),
        (visit_of_add[removed], REMOVE, 0.86, product[viewed[removed]], -1),
        (visit_of_search, SEARCH, 0.05 + 0.7 * rng.random(len(visit_of_search)), -1, terms),
        (np.flatnonzero(log_in), LOGIN, 0.0, -1, -1),
        (np.flatnonzero(log_in_late), LOGIN, 0.87, -1, -1),
        (np.flatnonzero(checkouts), CHECKOUT, 0.9, -1, -1),
        (np.flatnonzero(buys), PURCHASE, 1.0, -1, -1),
    ]
    visit = np.concatenate([step[0] for step in steps])
    rows = np.zeros(len(visit), dtype=EVENT)
    for name, i in (("action", 1), ("product", 3), ("term", 4)):
        rows[name] = np.concatenate([np.broadcast_to(step[i], len(step[0])) for step in steps])
    key = np.concatenate([np.broadcast_to(step[2], len(step[0])) for step in steps])
    order = np.lexsort((key, visit))
    rows, visit, key = rows[order], visit[order], key[order]

    pause = np.minimum(2_000 + rng.exponential(38_000, len(rows)), 20 * 60_000).astype("i8")
    first = np.flatnonzero(np.diff(visit, prepend=-1))
    pause[first] = 0
    elapsed = np.cumsum(pause)
    rows["at"] = start[visit] + elapsed - np.repeat(elapsed[first], np.diff(first, append=len(rows)))
    rows["visitor"], rows["agent"], rows["country"] = visitor[visit], agent[visit], country[visit]
    rows["channel"] = rng.integers(0, len(CHANNELS), n)[visit]
    signed = key >= signed_from[visit]
    rows["customer"] = np.where(signed, customer[visit], -1)
    names_mail = signed & ((rows["action"] == LOGIN) | (rows["action"] == PURCHASE))
    rows["mail"] = np.where(names_mail, shop.guests + customer[visit], -1)

    # Wholesalers order by telephone now and then: an order without a click.
    by_phone = buys & (kind == WHOLESALE) & (rng.random(n) < 0.25)
    ordered_at = start.copy()
    is_purchase = rows["action"] == PURCHASE
    ordered_at[visit[is_purchase]] = rows["at"][is_purchase]
    bought = ~removed & buys[visit_of_add]
    made = _Visits(
        customer=customer,
        type=kind,
        country=country,
        signed=np.isfinite(signed_from),
        ordered_at=ordered_at // 1000 * 1000,
        line_visit=visit_of_add[bought],
        line_product=product[viewed[bought]],
    )
    return made, _number(rows[~by_phone[visit]], day, 0)


def _products(rng: np.random.Generator, kind: np.ndarray, favourite: np.ndarray) -> np.ndarray:
    """A product for each viewer: half of the time of the favourite category, and some products far more than others."""
    n = len(kind)
    category = _choose(rng.random(n), _likes()[kind])
    category = np.where((favourite >= 0) & (rng.random(n) < 0.5), favourite, category)
    return category * PRODUCTS_PER_CATEGORY + np.floor(PRODUCTS_PER_CATEGORY * rng.random(n) ** 2).astype(int)


def _terms(rng: np.random.Generator, kind: np.ndarray) -> np.ndarray:
    n = len(kind)
    term = _choose(rng.random(n), _likes()[kind]) * TERMS_PER_CATEGORY + rng.integers(0, TERMS_PER_CATEGORY, n)
    odd = len(DEPARTMENTS) * TERMS_PER_CATEGORY + rng.integers(0, len(ODD_TERMS), n)
    return np.where(rng.random(n) < 0.06, odd, term)


def _likes() -> np.ndarray:
    """Cumulative share of each category by type, shape (types, categories)."""
    weight = np.full((len(TYPES), len(DEPARTMENTS)), 1.0)
    for row, kind in zip(weight, TYPES.values(), strict=True):
        for letter in kind.likes:
            row[ord(letter) - ord("a")] = 5.0
    return np.cumsum(weight / weight.sum(1, keepdims=True), axis=1)


# ------------------------------------------------------------------------------------------------------------- robots


def _robots(rng: np.random.Generator, shop: _Shop, day: date) -> list[tuple[str, np.ndarray]]:
    """Rows of each robot with the rule that finds it: it shows that trait on every day it comes."""
    number, midnight, parts = day.toordinal(), _day_number(day) * DAY_MS, []

    def keep(rule: str, rows: np.ndarray) -> None:
        rows["customer"] = rows["mail"] = rows["term"] = -1
        parts.append((rule, rows))

    def crawl(rule: str, nth: int, n: int, shortest_ms: float, longest_ms: float, hour: float, agent: int) -> None:
        rows = np.zeros(n, dtype=EVENT)
        pause = rng.uniform(shortest_ms, longest_ms, n)
        rows["at"] = midnight + int(hour * HOUR_MS) + np.floor(np.cumsum(pause)).astype("i8")
        rows["visitor"] = _robot_ids(shop, rule)[nth]
        rows["agent"], rows["product"] = agent, rng.integers(0, PRODUCTS, n)
        keep(rule, rows)

    for nth in range(len(_robot_ids(shop, "user_agent"))):
        if rng.random() < 0.5:
            crawl(
                "user_agent",
                nth,
                rng.integers(5, 60),
                3_000,
                40_000,
                rng.uniform(0, 22),
                FIRST_CRAWLER + nth % len(CRAWLERS),
            )
    for nth in range(len(_robot_ids(shop, "rate"))):
        if (number + 7 * nth) % 23 == 0:
            crawl("rate", nth, rng.integers(2_400, 3_600), 2_000, 18_000, rng.uniform(1, 4), FIRST_DESKTOP)
    for nth in range(len(_robot_ids(shop, "no_human_pause"))):
        if (number + 5 * nth) % 9 == 0:
            crawl("no_human_pause", nth, rng.integers(130, 320), 200, 900, rng.uniform(0, 23), FIRST_DESKTOP + 1)
    if number % 11 == 3:  # many ids, a single view each, all of the same look
        n = 40 + shop.base // 50
        rows = np.zeros(n, dtype=EVENT)
        rows["at"] = midnight + 14 * HOUR_MS + np.sort(rng.integers(0, 1_200_000, n))
        rows["visitor"] = _hash(shop.seed, 50_000_000 + number, np.arange(n, dtype="u8"))
        rows["agent"], rows["product"] = FLEET, rng.integers(0, PRODUCTS)
        keep("one_hit_fleet", rows)
    return parts


def _sleepless(shop: _Shop, day: date) -> list[tuple[str, np.ndarray]]:
    """Robots with an even beat, and robots that stay for three days, from a stream of their own."""
    rng, number, parts = np.random.default_rng((shop.seed, 5, day.toordinal())), day.toordinal(), []
    for nth, visitor in enumerate(_robot_ids(shop, "even_pauses")):
        if (number + 3 * nth) % 7 == 0:
            n = int(rng.integers(60, 240))
            pause = rng.uniform(4_000, 60_000) * (1 + rng.uniform(0.01, 0.05) * rng.standard_normal(n))
            pause[n // 2] += HOUR_MS
            parts.append(("even_pauses", _views(rng, day, rng.uniform(0, 18), pause, visitor, FIRST_DESKTOP)))
    for nth, visitor in enumerate(_robot_ids(shop, "around_the_clock")):
        nth_day = (number + 4 * nth) % 12
        if nth_day < 3:
            pause = np.minimum(60_000 + rng.exponential(420_000, 600), 1_500_000)
            begin, end = ((14, 24), (0, 24), (0, 9))[nth_day]
            rows = _views(rng, day, begin, pause, visitor, FIRST_DESKTOP + 2)
            parts.append(("around_the_clock", rows[rows["at"] < _day_number(day) * DAY_MS + end * HOUR_MS]))
    return parts


def _like_robots(shop: _Shop, day: date) -> list[tuple[str, np.ndarray]]:
    """People whom a careless rule takes for robots: quick on the phone, at a steady pace, up all night, all on one page."""
    rng, number, parts = np.random.default_rng((shop.seed, 6, day.toordinal())), day.toordinal(), []
    for nth in range(1 + shop.base // 3000):
        quick, steady, owl = (_hash(shop.seed, stream, np.array([number * 1000 + nth])) for stream in (46, 47, 48))
        pause = 1400 * np.exp(0.6 * rng.standard_normal(rng.integers(60, 180)))
        parts.append(("quick", _views(rng, day, rng.uniform(6, 22), pause, quick, 0)))
        pause = np.maximum(12_000 + 3_600 * rng.standard_normal(rng.integers(40, 90)), 2_000)
        parts.append(("steady", _views(rng, day, rng.uniform(6, 22), pause, steady, FLEET)))
        if number % 2 == 0:
            pause = np.minimum(60_000 + rng.exponential(360_000, 400), 1_700_000)
            rows = _views(rng, day, 12, pause, owl, FIRST_DESKTOP)
            parts.append(("night_owl", rows[rows["at"] < (_day_number(day) + 1) * DAY_MS + 5 * HOUR_MS]))
    if number % 7 == 2:  # a newsletter: most look at its page and leave, a quarter looks on
        n = 80 + shop.base // 20
        views = np.where(rng.random(n) < 0.25, rng.integers(2, 6, n), 1)
        nth, visitor = _nth(views), _hash(shop.seed, 49, number * 1_000_000 + np.arange(n))
        rows = _views(rng, day, 12, np.zeros(len(nth)), np.repeat(visitor, views), 0)
        rows["at"] += np.repeat(rng.integers(0, 1_800_000, n), views) + nth * rng.integers(5_000, 60_000, len(nth))
        rows["agent"] = np.repeat(rng.choice((0, 1, FIRST_DESKTOP), n), views)
        rows["product"] = np.where(nth == 0, rng.integers(0, PRODUCTS), rows["product"])
        rows["channel"] = CHANNELS.index("newsletter")
        parts.append(("newsletter", rows))
    return parts


def _views(rng: np.random.Generator, day: date, hour: float, pause: np.ndarray, visitor, agent: int) -> np.ndarray:
    """A visitor's views of any products, from `hour` on, with these pauses in milliseconds."""
    rows = np.zeros(len(pause), dtype=EVENT)
    rows["at"] = _day_number(day) * DAY_MS + int(hour * HOUR_MS) + np.floor(np.cumsum(pause)).astype("i8")
    rows["visitor"], rows["agent"], rows["product"] = visitor, agent, rng.integers(0, PRODUCTS, len(pause))
    rows["customer"] = rows["mail"] = rows["term"] = -1
    return rows


def _robot_ids(shop: _Shop, rule: str) -> np.ndarray:
    stream, count = {
        "user_agent": (41, max(len(CRAWLERS), shop.base // 250)),
        "rate": (42, max(1, shop.base // 5000)),
        "no_human_pause": (43, max(2, shop.base // 2000)),
        "even_pauses": (44, max(2, shop.base // 1000)),
        "around_the_clock": (45, max(2, shop.base // 1500)),
    }[rule]
    return _hash(shop.seed, stream, np.arange(count, dtype="u8"))


# ------------------------------------------------------------------------------------------------------ orders, defects


def _sales(rng: np.random.Generator, shop: _Shop, visits: _Visits, day: date) -> tuple[np.ndarray, np.ndarray]:
    """The day's order lines, and for each the chance that it comes back."""
    buyers, nth_order, lines = np.unique(visits.line_visit, return_inverse=True, return_counts=True)
    n, kind, customer = len(buyers), visits.type[buyers], visits.customer[buyers]
    signed, stranger = visits.signed[buyers], customer < 0
    of_customer = shop.guests + rng.integers(0, shop.known, n)  # a guest who uses the address of an account
    mail = np.where(rng.random(n) < 0.3, of_customer, rng.integers(0, shop.guests, n))
    mail = np.where(stranger, mail, shop.guests + customer)
    discounted = rng.random(n) < np.minimum(
        _OF["discounts"][kind] * np.where(stranger, 1.0, shop.of["discounts"][customer]), 0.97
    )
    share = np.where(discounted, np.clip(_OF["discount"][kind] + 0.05 * rng.standard_normal(n), 0.02, 0.6), 0)

    rows = np.zeros(len(visits.line_visit), dtype=ORDER)
    rows["id"] = (_day_number(day) * 10_000_000 + np.arange(n))[nth_order]
    rows["line"] = 1 + _nth(lines)  # the lines of a session lie together
    rows["at"] = rows["modified"] = visits.ordered_at[buyers][nth_order]
    rows["customer"] = np.where(signed, customer, -1)[nth_order]
    rows["mail"] = mail[nth_order]
    rows["mail_form"] = np.where(signed, 0, rng.integers(0, 3, n))[nth_order]
    rows["country"] = visits.country[buyers][nth_order]
    rows["currency"] = CURRENCY_OF_COUNTRY[rows["country"]]
    rows["product"] = visits.line_product
    rows["price"] = shop.price[rows["currency"], rows["product"]]
    spread = np.where(kind == WHOLESALE, np.exp(0.4 * rng.standard_normal(n)), 1.0)
    rows["quantity"] = 1 + rng.poisson(((_OF["quantity"][kind] - 1) * spread)[nth_order])
    rows["discount"] = _whole(np.floor(rows["quantity"] * rows["price"] * share[nth_order]), rows["currency"])
    rows["undoes"] = -1
    comes_back = _OF["returns"][kind] * np.where(stranger, 1.0, shop.of["returns"][customer])
    return rows, comes_back[nth_order]


def _with_planted_orders(
    rng: np.random.Generator, sales: tuple[np.ndarray, np.ndarray], shop: _Shop, day: date
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The day's order rows with what is planted, its returns and second versions; each with the day it arrives."""
    rows, comes_back = sales
    n, number = len(rows), _day_number(day)
    arrival = rows["at"] // DAY_MS
    _mark_missing_rates(rows)
    # A defect is planted alone in its row, in the home currency, so that a row has one reason and no more.
    whole = (rows["currency"] == 0) & (rows["rule"] == 0)
    pick = rng.random(n)
    has_price = shop.has_price[rows["product"]]
    unpriced = whole & ~has_price & (pick < 0.3)
    rows["blank_price"] = unpriced | (whole & has_price & (pick < 0.003))  # the latter have a price in the catalogue
    rows["rule"][unpriced] = RULE["no_price"]
    whole &= ~rows["blank_price"]

    fates = (
        "no_time", "future", "no_order_id", "no_product", "bad_quantity", "bad_price", "malformed",
        "restated", "twice", "reload",
    )  # fmt: skip
    fate = _choose(rng.random(n), np.cumsum([0.0015] * 7 + [0.008, 0.002, 0.002]), whole)
    for code, name in enumerate(fates[:7]):
        rows["rule"][fate == code] = RULE[name]
    rows["variant"] = rng.integers(0, 12, n)
    future = fate == fates.index("future")
    rows["at"][future] += rng.integers(2, 30, future.sum()) * DAY_MS
    rows["modified"] = rows["at"]

    older = fate == fates.index("restated")
    rows["restated"] = older
    newer = rows[older].copy()
    newer["restated"] = False
    newer["modified"] += rng.integers(8 * 3600, 20 * 3600, len(newer)) * 1000
    newer["discount"] = newer["quantity"] * newer["price"] // 5 + 1
    twice, reload = rows[fate == fates.index("twice")].copy(), rows[fate == fates.index("reload")].copy()
    twice["rule"] = reload["rule"] = RULE["exact"]

    kept = (rows["rule"] == 0) & (fate < 0)
    cancelled = _uniform(shop.seed, 60, rows["id"]) < CANCELLED_SHARE  # by order: all of its lines, within hours
    comes = kept & (cancelled | (rng.random(n) < comes_back))
    back, cancelled = rows[comes].copy(), cancelled[comes]
    part = ~cancelled & (back["quantity"] > 1) & (rng.random(len(back)) < 0.5)
    undone = np.where(part, rng.integers(1, np.maximum(back["quantity"], 2)), back["quantity"])
    back["discount"] = np.where(part, _whole(back["discount"] * undone // back["quantity"], back["currency"]), back["discount"])
    delay_s = np.where(cancelled, rng.integers(1200, 18_000, len(back)), rng.integers(2 * 86_400, 30 * 86_400, len(back)))
    back["at"] += delay_s * 1000
    back["modified"] = back["at"]
    back["undoes"] = np.where(rng.random(len(back)) < 0.85, back["id"], -1)
    back["id"] = number * 10_000_000 + 5_000_000 + np.arange(len(back))
    back["line"], back["quantity"], back["kind"], back["mail_form"] = 1, -undone, RETURN, 0
    back["blank_price"] = False
    _mark_missing_rates(back)

    extra, refunded = _extra_lines(shop, rows, number)
    others = _other_orders(rng, shop, number)
    return [
        (rows, arrival),
        (newer, newer["at"] // DAY_MS + 1),
        (twice, twice["at"] // DAY_MS),
        (reload, reload["at"] // DAY_MS + 1),
        (back, back["at"] // DAY_MS),
        (extra, extra["at"] // DAY_MS),
        (refunded, refunded["at"] // DAY_MS),
        (others, others["at"] // DAY_MS),
    ]


def _extra_lines(shop: _Shop, rows: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Postage, gift wrapping and vouchers of the day's orders; and the postage that cancelled orders get back.

    A voucher is for orders that begin with a line of at least four times its worth.
    """
    parts = []
    firsts = rows[(rows["line"] == 1) & (rows["rule"] == 0)]
    for kind, line, pounds, share in EXTRA_LINES:
        price = np.round(pounds * np.array(PRICE_FACTORS)).astype("i8")[firsts["currency"]] * 100
        affords = firsts["quantity"] * firsts["price"] - firsts["discount"] + 4 * price >= 0
        having = (_uniform(shop.seed, 60 + line, firsts["id"]) < share) & affords
        extra = firsts[having].copy()
        extra["line"], extra["kind"], extra["product"], extra["price"] = line, kind, CODE[kind], price[having]
        extra["quantity"], extra["discount"], extra["blank_price"], extra["restated"] = 1, 0, False, False
        parts.append(extra)
    postage = parts[0]
    refunded = postage[_uniform(shop.seed, 60, postage["id"]) < CANCELLED_SHARE].copy()
    refunded["at"] += HOUR_MS
    refunded["modified"], refunded["undoes"] = refunded["at"], refunded["id"]
    refunded["id"] = number * 10_000_000 + 8_000_000 + np.arange(len(refunded))
    refunded["line"], refunded["quantity"], refunded["kind"], refunded["mail_form"] = 1, -1, RETURN, 0
    _mark_missing_rates(refunded)
    return _joined(parts, ORDER), refunded


def _other_orders(rng: np.random.Generator, shop: _Shop, number: int) -> np.ndarray:
    """Gift cards, test orders, voids, book-keeping, and returns of orders from before the shop's first file."""
    kinds = np.repeat([GIFT_CARD, TEST, VOID, ADJUSTMENT, RETURN, BAD_DEBT], rng.poisson(0.4 + 0.0002 * shop.base, 6))
    n = len(kinds)
    rows = np.zeros(n, dtype=ORDER)
    rows["kind"], rows["rule"], rows["line"], rows["undoes"] = kinds, KIND_RULES[kinds], 1, -1
    rows["at"] = rows["modified"] = number * DAY_MS + rng.integers(0, 86_400, n) * 1000
    rows["id"] = number * 10_000_000 + 9_000_000 + np.arange(n)
    rows["customer"] = np.where(kinds == TEST, -1, rng.integers(0, shop.known, n))
    rows["mail"] = np.where(kinds == TEST, -1, shop.guests + rows["customer"])
    rows["product"] = rng.integers(0, PRODUCTS, n)
    rows["price"] = shop.price[0, rows["product"]]
    rows["price"][kinds == GIFT_CARD], rows["product"][kinds == GIFT_CARD] = 5000, CODE[GIFT_CARD]
    booked = (kinds == ADJUSTMENT) | (kinds == BAD_DEBT)
    rows["price"][booked], rows["product"][booked] = np.where(kinds[booked] == ADJUSTMENT, 499, -12_345), CODE[ADJUSTMENT]
    unmatched = kinds == RETURN
    rows["undoes"][unmatched] = (_day_number(shop.first) - 9) * 10_000_000 + rng.integers(0, 1000, unmatched.sum())
    rows["quantity"] = np.where(unmatched, -1, 1)
    return rows


def _mark_missing_rates(rows: np.ndarray) -> None:
    weekday = (rows["at"] // DAY_MS + 3) % 7  # the epoch was a Thursday
    rows["rule"] = np.where((rows["currency"] == SEK) & (weekday >= 5), RULE["missing_rate"], rows["rule"])


def _rates(day: date, seed: int) -> dict[str, int]:
    """Ten-thousandths of the home currency for one unit. Chosen so that each amount is exact in four decimals."""
    rng = np.random.default_rng((seed, 4, day.toordinal()))
    euro, dollar, krona = rng.integers(-2, 3), rng.integers(-2, 3), rng.integers(-20, 21)
    rates = {"EUR": 8500 + 100 * int(euro), "USD": 7800 + 100 * int(dollar)}
    return rates if day.weekday() >= 5 else {**rates, "SEK": 742 + int(krona)}


def _with_planted_events(rng: np.random.Generator, rows: np.ndarray, shop: _Shop) -> list[tuple[np.ndarray, np.ndarray]]:
    """The day's events with what is planted among them; each with the day it arrives."""
    fates = {
        "no_time": 0.0006, "future": 0.0005, "too_late": 0.0005, "no_visitor": 0.0006, "unknown_type": 0.0006,
        "malformed": 0.0005, "bad_price": 0.0005, "late": 0.004, "same_id": 0.002, "same_id_next_day": 0.001,
        "no_id": 0.003, "same_event": 0.0008, "same_event_next_day": 0.0004,
    }  # fmt: skip
    names = list(fates)
    fate = _choose(rng.random(len(rows)), np.cumsum(list(fates.values())))
    arrival = rows["at"] // DAY_MS
    for code, name in enumerate(names[:6]):
        rows["rule"][fate == code] = RULE[name]

    def those(name: str) -> np.ndarray:
        return np.flatnonzero(fate == names.index(name))

    future, too_late, late = those("future"), those("too_late"), those("late")
    rows["at"][future] += rng.integers(2, 40, len(future)) * DAY_MS
    arrival[too_late] += rng.integers(5, 20, len(too_late))
    arrival[late] += rng.integers(1, 4, len(late))
    rows["bad_price"][those("bad_price")] = True
    rows["action"][those("unknown_type")] = UNKNOWN
    for name in ("no_id", "same_event", "same_event_next_day"):
        rows["id"][those(name)] = -1
    batches = [(rows, arrival)]
    for name in ("same_id", "same_id_next_day", "same_event", "same_event_next_day"):
        copies = rows[those(name)].copy()
        copies["rule"] = RULE[name.removesuffix("_next_day")]
        batches.append((copies, copies["at"] // DAY_MS + name.endswith("_next_day")))
    return batches


# ------------------------------------------------------------------------------------------------------------ delivery


def _deliver(queue: dict[int, list[np.ndarray]], batches: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for rows, arrival in batches:
        for number in np.unique(arrival):
            queue[int(number)].append(rows[arrival == number])


def _arrived(queue: dict[int, list[np.ndarray]], number: int, dtype: np.dtype) -> np.ndarray:
    """The rows of a day's file, by time; a copy comes after its original."""
    rows = _joined(queue.pop(number, []), dtype)
    return rows[np.argsort(rows["at"], kind="stable")]


class _Ledger:
    """What was written, for truth/."""

    def __init__(self, shop: _Shop):
        self.rows: Counter[str] = Counter()
        self.defects: list[tuple[str, int, str]] = []  # file, data row from 1, rule
        self.kept: Counter[str] = Counter()  # odd rows that are no rejects
        self.robots: dict[str, set[int]] = defaultdict(set)
        self.people: dict[str, set[int]] = defaultdict(set)  # who look like robots
        self.money: Counter[str] = Counter()  # millionths of the home currency
        self.older: dict[tuple[int, int], tuple[str, int, int]] = {}  # order line: file, row and amount of its first version

    def note(self, file: str, rules: np.ndarray) -> None:
        for i in np.flatnonzero(rules):
            self.defects.append((file, int(i) + 1, RULES[rules[i]]))


def _write_events(folder: Path, day: date, shop: _Shop, rows: np.ndarray, ledger: _Ledger, spoil: bool) -> None:
    file, n = f"events-{day}.csv.gz", len(rows)
    rules, action, product = rows["rule"], rows["action"], rows["product"]
    currency = CURRENCY_OF_COUNTRY[rows["country"]]
    bad_price = rows["bad_price"] & (product >= 0)
    price = np.where((product >= 0) & shop.has_price[product] & ~bad_price, currency * PRODUCTS + product, -1)
    clock, sent, received = _clocks(shop, rows, _day_number(day))
    columns = [
        _join(pa.scalar("h"), _numbers(rows["id"])),
        _replace(_times(rows["at"] + clock, 1), rules == RULE["no_time"], BAD_TIMES),
        _numbers(np.where(rules == RULE["no_visitor"], -1, (rows["visitor"] >> np.uint64(8)).astype("i8"))),
        _pick(shop.ids, np.where(rules == RULE["no_visitor"], -1, rows["customer"])),
        _pick(shop.mails, np.where(rules == RULE["no_visitor"], -1, rows["mail"])),
        _pick(ACTIONS, action),
        _pick(shop.skus, product),
        _pick(shop.departments, product),
        _replace(_pick(shop.price_texts, price), bad_price, BAD_PRICES),
        _pick(CURRENCIES, np.where(product >= 0, currency, -1)),
        _pick(_term_texts(), rows["term"]),
        _pick(PAGES, action),
        _pick(COUNTRIES, rows["country"]),
        _pick([_quoted(agent) for agent in AGENTS], rows["agent"]),
        _pick(CHANNELS, rows["channel"]),
        _known_times(sent),
        _known_times(received),
    ]
    data = _csv(EVENT_HEADER, columns, np.flatnonzero(rules == RULE["malformed"]))
    _write_gzip(folder / file, data[:-1] + b"\xff\xfe\n" if spoil else data)
    ledger.note(file, rules)
    ledger.rows["events"] += n
    sound = rules == 0
    first_odd = len(DEPARTMENTS) * TERMS_PER_CATEGORY
    ledger.kept["late"] += int((sound & (rows["at"] // DAY_MS < _day_number(day))).sum())
    ledger.kept["no_id"] += int((sound & (rows["id"] < 0)).sum())
    ledger.kept["clock_skew"] += int((clock != 0).sum())
    ledger.kept["bad_price"] += int((sound & bad_price).sum())
    ledger.kept["control_character"] += int((sound & np.isin(rows["term"] - first_odd, CONTROL_TERMS)).sum())


def _clocks(shop: _Shop, rows: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each event: what the client's clock is off by, and when it was sent and received, -1 where that is not recorded.

    Of half of the clocks that are ahead only the arrival is known. Rows with a defect, and late ones, are left alone.
    """
    pick = _uniform(shop.seed, 70, rows["visitor"]) / TWO_CLOCKS_SHARE
    both = (pick < 1) & (rows["rule"] == 0) & (rows["id"] >= 0) & (rows["at"] // DAY_MS == number)
    nth = np.where(both, pick * len(CLOCKS_OFF_MS), 0)
    off = np.array(CLOCKS_OFF_MS)[nth.astype(int)]
    arrival_only = (off > 0) & (nth % 1 < 0.5)
    wait = np.where(arrival_only, 0, rows["id"] % 20 * 1000)
    sent = np.where(both & ~arrival_only, rows["at"] + off + wait, -1)
    return off, sent, np.where(both, rows["at"] + wait, -1)


def _write_orders(folder: Path, day: date, shop: _Shop, rows: np.ndarray, ledger: _Ledger, seed: int) -> None:
    file, rules, kind = f"orders-{day}.csv.gz", rows["rule"], rows["kind"]
    rejected = {name: rules == RULE[name] for name in RULES}
    product = np.where(rejected["no_product"], -1, rows["product"])
    form = len(shop.mails) // 3
    price = np.where(rows["blank_price"], "", _decimals(rows["price"]))
    columns = [
        _join(_pick("SRGTVABSSS", kind), _numbers(np.where(rejected["no_order_id"], -1, rows["id"]))),
        _numbers(rows["line"]),
        _replace(_times(rows["at"], 1000), rejected["no_time"], BAD_TIMES),
        _times(rows["modified"], 1000),
        _pick(shop.ids, rows["customer"]),
        _pick(shop.mails, np.where(rows["mail"] < 0, -1, rows["mail_form"].astype(int) * form + rows["mail"])),
        _pick(shop.names, rows["mail"]),
        _pick([*shop.skus.to_pylist(), *CODES], product),
        _pick(shop.departments, np.where(product < PRODUCTS, product, -1)),
        _replace(_numbers(rows["quantity"], negative=True), rejected["bad_quantity"], BAD_QUANTITIES, rows["variant"]),
        _replace(pa.array(price, pa.string()), rejected["bad_price"], BAD_PRICES, rows["variant"]),
        pa.array(_decimals(rows["discount"]), pa.string()),
        _pick(CURRENCIES, rows["currency"]),
        _pick(("SALE", "REFUND", "GIFTCARD", "SALE", "SALE", "ADJUST", "WRITEOFF", "POSTAGE", "FEE", "DISCOUNT"), kind),
        pa.array(np.select([kind == RETURN, kind == VOID], ["REFUNDED", "VOIDED"], "PAID")),
        pa.array(np.where(kind == TEST, "Y", "N")),
        _join(pa.scalar("S"), _numbers(rows["undoes"])),
        _pick(COUNTRIES, rows["country"]),
    ]
    _write_gzip(folder / file, _csv(ORDER_HEADER, columns, np.flatnonzero(rejected["malformed"])))
    ledger.note(file, rules)
    ledger.rows["orders"] += len(rows)
    ledger.kept["price_from_catalogue"] += int((rejected[""] & rows["blank_price"]).sum())
    for extra, *_ in EXTRA_LINES:
        ledger.kept[f"{KINDS[extra]}_line"] += int((rejected[""] & (kind == extra)).sum())
    ledger.kept["return_without_order"] += int((rejected[""] & (kind == RETURN) & (rows["undoes"] < 0)).sum())

    sound = np.flatnonzero(rejected[""])
    rate_of = {
        int(d): {HOME_CURRENCY: 10_000, **_rates(EPOCH + timedelta(days=int(d)), seed)}
        for d in np.unique(rows["at"][sound] // DAY_MS)
    }
    for i in sound:
        row = rows[i]
        rate = rate_of[int(row["at"]) // DAY_MS][CURRENCIES[row["currency"]]]
        gross, discount = abs(int(row["quantity"])) * int(row["price"]) * rate, int(row["discount"]) * rate
        key = (int(row["id"]), int(row["line"]))
        if row["restated"]:
            ledger.older[key] = (file, int(i) + 1, discount)
        elif key in ledger.older:
            older_file, older_row, older_discount = ledger.older.pop(key)
            ledger.defects.append((older_file, older_row, "superseded"))
            ledger.money["gross"] -= gross
            ledger.money["discounts"] -= older_discount
        if row["kind"] == RETURN:
            ledger.money["returns"] += gross - discount
        elif row["kind"] == DISCOUNT:
            ledger.money["discounts"] -= gross
        else:
            ledger.money["gross"] += gross
            ledger.money["discounts"] += discount


def _write_customers(folder: Path, day: date, shop: _Shop, new: np.ndarray, changed: np.ndarray, ledger: _Ledger) -> None:
    who = np.concatenate([new, changed])
    columns = [
        _pick(shop.ids, who),
        _pick(shop.mails, shop.guests + who),
        _pick(shop.names, shop.guests + who),
        _join(pa.scalar("+44 7700 9"), _numbers(10_000 + who % 90_000)),
        _times(shop.signup_ms[who], 1000),
        _pick(COUNTRIES, shop.country[who]),
    ]
    _write_gzip(folder / f"customers-{day}.csv.gz", _csv(CUSTOMER_HEADER, columns, np.empty(0, dtype=int)))
    ledger.rows["customers"] += len(who)


def _write_truth(
    folder: Path, shop: _Shop, ledger: _Ledger, customers: int, days: int, seed: int, first: date, last: date
) -> None:
    ids, types = shop.ids.to_pylist(), shop.types_on(days - 1)
    _write_text(folder / "customers.csv", "customer_id,type", [f"{i},{TYPE_NAMES[t]}" for i, t in zip(ids, types, strict=True)])
    _write_text(folder / "defects.csv", "file,row,rule", [f"{f},{r},{rule}" for f, r, rule in sorted(ledger.defects)])
    money = {**ledger.money, "net": ledger.money["gross"] - ledger.money["discounts"] - ledger.money["returns"]}
    truth = {
        "parameters": {"customers": customers, "days": days, "seed": seed},
        "first_day": str(first),
        "last_day": str(last),
        "rows": dict(sorted(ledger.rows.items())),
        "money": {
            "currency": HOME_CURRENCY,
            **{k: _four_decimals(money.get(k, 0)) for k in ("gross", "discounts", "returns", "net")},
        },
        "types": dict(sorted(Counter(TYPE_NAMES[t] for t in types).items())),
        "defects": dict(sorted(Counter(rule for _, _, rule in ledger.defects).items())),
        "kept": dict(sorted(ledger.kept.items())),
        "robots": {rule: sorted(str(v >> 8) for v in ids) for rule, ids in sorted(ledger.robots.items())},
        "people": {kind: sorted(str(v >> 8) for v in ids) for kind, ids in sorted(ledger.people.items())},
    }
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")


# ------------------------------------------------------------------------------------------------------- numbers, text


def _choose(u: np.ndarray, cumulative: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Index of the interval of `cumulative` (one row, or a row per element) that `u` falls into.

    It is -1 where u lies above a total below 1, and outside `among`; a total of 1 up to rounding leaves nothing above.
    """
    last = cumulative.shape[-1]
    index = (u[:, None] >= cumulative).sum(1) if cumulative.ndim == 2 else np.searchsorted(cumulative, u, side="right")
    index = np.where(index < last, index, np.where(cumulative[..., -1] > 1 - 1e-9, last - 1, -1))
    return index if among is None else np.where(among, index, -1)


def _nth(counts: np.ndarray) -> np.ndarray:
    """0, 1, .. count-1 for each count."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _hash(seed: int, stream: int, value: np.ndarray) -> np.ndarray:
    """64 well-mixed bits for each value (splitmix64), the same for all times."""
    with np.errstate(over="ignore"):
        x = value.astype("u8") * np.uint64(0x9E3779B97F4A7C15) + np.uint64(
            (seed * 1_000_003 + stream) * 0xD1342543DE82EF95 % 2**64
        )
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _uniform(seed: int, stream: int, value: np.ndarray) -> np.ndarray:
    return (_hash(seed, stream, value) >> np.uint64(11)) / 2.0**53


def _whole(hundredths: np.ndarray, currency: np.ndarray) -> np.ndarray:
    """Amounts in whole kronor where the currency is SEK."""
    hundredths = hundredths.astype("i8")
    return np.where(currency == SEK, hundredths // 100 * 100, hundredths)


def _day_number(day: date) -> int:
    return (day - EPOCH).days


def _number(rows: np.ndarray, day: date, start: int) -> np.ndarray:
    """Give events their ids, unique over all days."""
    rows["id"] = _day_number(day) * 10_000_000_000 + start + np.arange(len(rows))
    return rows


def _joined(parts: list[np.ndarray], dtype: np.dtype) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=dtype), *parts])


def _join(*parts: pa.Array | pa.Scalar, separator: str = "") -> pa.Array:
    """Row by row; null where a part is."""
    return pc.binary_join_element_wise(*parts, separator)


def _pick(texts, index: np.ndarray) -> pa.Array:
    """texts[index], null where the index is negative."""
    texts = texts if isinstance(texts, pa.Array) else pa.array(list(texts))
    return texts.take(pa.array(index.astype("i8"), mask=index < 0))


def _numbers(values: np.ndarray, negative: bool = False) -> pa.Array:
    """Whole numbers as text; null below 0 unless negative ones are meant."""
    values = values.astype("i8")
    return pa.array(values, mask=None if negative else values < 0).cast(pa.string())


def _decimals(hundredths: np.ndarray) -> np.ndarray:
    return np.array([f"{v // 100}.{v % 100:02}" for v in hundredths.tolist()], dtype=object)


def _four_decimals(millionths: int) -> str:
    if millionths % 100:
        raise ValueError(f"{millionths} millionths are not exact in four decimals")
    sign, ten_thousandths = "-" if millionths < 0 else "", abs(millionths) // 100
    return f"{sign}{ten_thousandths // 10_000}.{ten_thousandths % 10_000:04}"


def _replace(texts: pa.Array, where: np.ndarray, by: tuple[str, ...], variant: np.ndarray | None = None) -> pa.Array:
    hits = np.flatnonzero(where)
    if not len(hits):
        return texts
    chosen = hits if variant is None else variant[hits]
    return pc.replace_with_mask(texts, pa.array(where), pa.array([by[i % len(by)] for i in chosen.tolist()], pa.string()))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"') else text


_SECONDS = pa.array([f"T{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}" for s in range(86_400)])
_MILLISECONDS = pa.array([f".{ms:03}Z" for ms in range(1000)])


def _times(at_ms: np.ndarray, resolution_ms: int) -> pa.Array:
    days, nth = np.unique(at_ms // DAY_MS, return_inverse=True)
    day = _pick(np.datetime_as_string(days.astype("M8[D]")).tolist(), nth) if len(days) else pa.array([], pa.string())
    fraction = _pick(_MILLISECONDS, at_ms % 1000) if resolution_ms == 1 else pa.scalar("Z")
    return _join(day, _pick(_SECONDS, at_ms % DAY_MS // 1000), fraction)


def _known_times(at_ms: np.ndarray) -> pa.Array:
    return pc.if_else(pa.array(at_ms >= 0), _times(np.maximum(at_ms, 0), 1), pa.scalar(None, pa.string()))


def _term_texts() -> pa.Array:
    return pa.array([_quoted(t) for *_, terms in DEPARTMENTS for t in terms] + [_quoted(t) for t in ODD_TERMS])


def _csv(header: str, columns: list[pa.Array], malformed: np.ndarray) -> bytes:
    """The file's text; a malformed row has a field too many or some too few."""
    lines = pc.binary_join_element_wise(*columns, ",", null_handling="replace", null_replacement="")
    if len(malformed):
        mask = np.zeros(len(lines), dtype=bool)
        mask[malformed] = True
        broken = []
        for i in malformed.tolist():
            fields = next(csv.reader([lines[i].as_py()]))
            text = io.StringIO()
            csv.writer(text, lineterminator="").writerow(fields[:-4] if i % 2 else [*fields[:3], "?", *fields[3:]])
            broken.append(text.getvalue())
        lines = pc.replace_with_mask(lines, pa.array(mask), pa.array(broken, pa.string()))
    lines = pc.binary_join_element_wise(lines, pa.scalar(""), "\n")
    if not len(lines):
        return f"{header}\n".encode()
    size = np.frombuffer(lines.buffers()[1], dtype="i4")[lines.offset + len(lines)]
    return f"{header}\n".encode() + lines.buffers()[2].to_pybytes()[:size]


def _write_text(path: Path, header: str, lines: list[str]) -> None:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf8")


def _write_gzip(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data, compresslevel=1, mtime=0))
