"""A shop of any size as vendor files: Parquet by day and the mapping beside them, for measuring speed and memory.

Customers and products are drawn by Zipf-Mandelbrot weights; sessions have a daily rhythm, run over midnight, begin signed
out and sometimes end in an order; order lines come back after two weeks; some rows are sent twice. A day is made from
the seed and its date alone, so that it is the same in a short history and in a long one.
"""

import argparse
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

LAST_DAY = date(2025, 12, 31)
PRODUCTS = 20_000
CATEGORIES = 40
GUESTS = 1_000_000  # visitors who never sign in
GUEST_SHARE = 0.1
LOGIN_SHARE = 0.25  # sessions that sign in on the way; the others are signed in from the start
ORDER_SHARE = 0.05  # of the sessions of four events and more
RETURN_SHARE, RETURN_DAYS = 0.06, 14
TWICE_SHARE = 0.005
ROBOT_EVENTS_PER_DEVICE = 1_200  # a day; below what clean.events flags
DEVICES = ("desktop", "phone", "tablet")
COUNTRIES = ("GB", "DE", "FR", "US", "NL", "SE", "IT", "ES")
CHANNELS = ("direct", "organic", "email", "paid", "affiliate")
HOURS = (2, 1, 1, 1, 1, 1, 2, 4, 6, 7, 7, 7, 8, 7, 6, 6, 7, 8, 9, 10, 10, 8, 6, 4)  # weight of each hour, UTC
TYPES = ("view", "search", "add_to_cart", "remove_from_cart", "begin_checkout", "purchase", "login")
VIEW, SEARCH, CART, UNCART, CHECKOUT, PURCHASE, LOGIN = range(len(TYPES))
AGENTS = tuple(
    f"Mozilla/5.0 ({system}) Browser/{n}.0" for system in ("Windows", "Macintosh", "Linux", "iPhone") for n in range(8)
)
DAY_MS = 86_400_000

MAPPING = r"""name = "bench"
currency = "EUR"
[events]
files = "events-*.parquet"
format = "parquet"
file_day = 'events-(\d{4}-\d{2}-\d{2})'
[events.columns]
event_id = "hit"
event_at = "at"
visitor_id = "visitor"
customer_id = "user"
event_type = "action"
product_id = "sku"
category = "department"
price = "price"
search_term = "query"
device = "device"
country = "country"
user_agent = "agent"
channel = "channel"
[orders]
files = "orders-*.parquet"
format = "parquet"
file_day = 'orders-(\d{4}-\d{2}-\d{2})'
[orders.columns]
order_id = "number"
line_no = "line"
ordered_at = "at"
customer_id = "user"
product_id = "sku"
category = "department"
quantity = "pieces"
unit_price = "price"
discount_amount = "discount"
kind = "kind"
undoes_order_id = "refund_of"
[products]
files = "products.parquet"
format = "parquet"
[products.columns]
product_id = "sku"
name = "title"
category = "department"
price = "price"
[customers]
files = "customers-*.parquet"
format = "parquet"
file_day = 'customers-(\d{4}-\d{2}-\d{2})'
[customers.columns]
customer_id = "user"
registered_at = "joined"
country = "country"
"""


@dataclass(frozen=True)
class Shop:
    """`events` over `days` days up to LAST_DAY, repeated rows not counted.

    `robot` is the share of all events of one customer, who has so many devices that no rule flags them. `signed_out` is
    the share of customers' sessions without a sign-in: such a device may find its customer days later.
    """

    events: int
    days: int = 365
    customers: int = 200_000
    seed: int = 1
    robot: float = 0.0
    signed_out: float = 0.0

    @property
    def first_day(self) -> date:
        return LAST_DAY - timedelta(days=self.days - 1)

    @property
    def name(self) -> str:
        told = [f"{self.events}-events", f"{self.days}-days", f"{self.customers}-customers", f"seed-{self.seed}"]
        told += [f"robot-{self.robot}"] * bool(self.robot) + [f"signed-out-{self.signed_out}"] * bool(self.signed_out)
        return "-".join(told)


def write(shop: Shop, folder: Path, days: Iterable[date] | None = None, events: int | None = None) -> None:
    """The vendor files of these days (all of the shop's, where None) and the mapping `source.toml`.

    `events` is the size of each of the days, where it is not the shop's. A file is written as a whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "source.toml").write_text(MAPPING)
    _save(_products(), folder / "products.parquet")
    for day in days or (shop.first_day + timedelta(days=n) for n in range(shop.days)):
        ours = events or _per_day(shop)
        _save(_events(shop, day, ours), folder / f"events-{day}.parquet")
        _save(_orders(shop, day, ours), folder / f"orders-{day}.parquet")
        _save(_customers(shop, day), folder / f"customers-{day}.parquet")


def _per_day(shop: Shop) -> int:
    return shop.events // shop.days


def _save(table: pa.Table, path: Path) -> None:
    new = path.with_suffix(".new")
    pa.parquet.write_table(table, new, compression="zstd", row_group_size=100_000)
    new.replace(path)


def _random(shop: Shop, stream: str, day: date | None = None) -> np.random.Generator:
    return np.random.default_rng([shop.seed, day.toordinal() if day else 0, *stream.encode()])


@lru_cache
def _weights(n: int, exponent: float, shift: float) -> np.ndarray:
    """Cumulative Zipf-Mandelbrot weights of n ranks."""
    weights = (np.arange(n) + shift) ** -exponent
    return weights.cumsum() / weights.sum()


@lru_cache
def _prices() -> np.ndarray:
    return np.round(np.random.default_rng(0).lognormal(3, 0.8, PRODUCTS), 2)


@lru_cache
def _departments() -> pa.Array:
    return pa.array([f"department {n % CATEGORIES:02d}" for n in range(PRODUCTS)])


def _some_products(random: np.random.Generator, n: int) -> np.ndarray:
    return np.searchsorted(_weights(PRODUCTS, 0.9, 10), random.random(n))


def _take(values: Iterable[str], indices: np.ndarray, where: np.ndarray | None = None) -> pa.Array:
    return pa.array(list(values)).take(pa.array(indices, mask=None if where is None else ~where))


@lru_cache(maxsize=RETURN_DAYS + 2)
def _made(shop: Shop, day: date, n: int) -> tuple[pa.Table, pa.Table]:
    """(n events, order lines) of the sessions begun on the day; some of both lie after midnight."""
    random = _random(shop, "sessions", day)
    lengths = np.minimum(1 + random.lognormal(1.1, 1.0, n // 2 + 10).astype(int), 80)
    lengths = lengths[: np.searchsorted(lengths.cumsum(), n) + 1]
    lengths[-1] -= lengths.sum() - n
    sessions = len(lengths)
    of = np.repeat(np.arange(sessions), lengths)  # the session of each event
    first = lengths.cumsum() - lengths
    place = np.arange(n) - first[of]

    customer = np.searchsorted(_weights(shop.customers, 0.8, 200), random.random(sessions))
    device = np.where(random.random(sessions) < 0.5, customer % 3, (customer // 3) % 3)
    guest = random.random(sessions) < GUEST_SHARE
    robot = random.random(sessions) < shop.robot
    devices = max(3, math.ceil(shop.robot * n / ROBOT_EVENTS_PER_DEVICE))
    customer = np.where(robot, shop.customers, customer)
    visitor = np.where(guest & ~robot, 10**12 + random.integers(GUESTS, size=sessions), customer * 1_000 + device)
    visitor = np.where(robot, customer * 1_000 + random.integers(devices, size=sessions), visitor)
    guest &= ~robot

    login = np.where(random.random(sessions) < LOGIN_SHARE, random.integers(1, 4, sessions), 0)
    login = np.where(login < lengths, login, 0)
    login = np.where(random.random(sessions) < shop.signed_out, 100, login)
    login = np.where(guest, 100, login)
    kind = np.searchsorted([0.76, 0.88, 0.98], random.random(n))
    kind[(place == login[of]) & (place > 0)] = LOGIN
    buys = (random.random(sessions) < ORDER_SHARE) & (lengths > 4)
    last = first + lengths - 1
    for back, what in ((0, PURCHASE), (1, CHECKOUT), (2, CART)):
        kind[last[buys] - back] = what

    hours = np.searchsorted(np.cumsum(HOURS) / sum(HOURS), random.random(sessions))
    hours = np.where(robot & (hours < 8), hours + 8, hours)  # sleeps at night, so that it is no robot around the clock
    begins = (hours + random.random(sessions)) * 3_600_000
    pauses = np.minimum(random.lognormal(9.9, 1.0, n), 25 * 60_000)
    so_far = pauses.cumsum()
    at = (begins[of] + so_far - so_far[first][of]).astype(np.int64) + _midnight(day)
    product = _some_products(random, n)
    about = ~np.isin(kind, (SEARCH, LOGIN))
    hit = day.toordinal() * 10_000_000 + np.arange(n)
    user = pa.array(customer[of], mask=(place < login[of]))
    events = pa.table(
        {
            "hit": hit,
            "at": pa.array(at, pa.timestamp("ms")),
            "visitor": visitor[of],
            "user": user,
            "action": _take(TYPES, kind),
            "sku": pa.array(product, mask=~about),
            "department": _departments().take(pa.array(product, mask=~about)),
            "price": pa.array(_prices()[product], mask=~about),
            "query": _take((f"term {n}" for n in range(500)), product % 500, kind == SEARCH),
            "device": _take(DEVICES, device[of]),
            "country": _take(COUNTRIES, (customer % len(COUNTRIES))[of]),
            "agent": _take(AGENTS, (visitor % len(AGENTS))[of]),
            "channel": _take(CHANNELS, random.integers(len(CHANNELS), size=sessions)[of]),
        }
    )
    buyers = last[buys]
    lines = 1 + random.poisson(1.2, len(buyers))
    bought = np.repeat(buyers, lines)
    number = np.arange(len(bought)) - np.repeat(lines.cumsum() - lines, lines)
    product = np.where(number == 0, product[bought], _some_products(random, len(bought)))
    pieces = 1 + random.poisson(0.4, len(bought))
    discount = np.where(random.random(len(bought)) < 0.2, np.round(_prices()[product] * pieces * 0.1, 2), 0)
    orders = pa.table(
        {
            "number": pa.array(hit[bought]).cast(pa.string()),
            "line": number + 1,
            "at": pa.array(at[bought], pa.timestamp("ms")),
            "user": user.take(pa.array(bought)),
            "sku": product,
            "department": _departments().take(pa.array(product)),
            "pieces": pieces,
            "price": _prices()[product],
            "discount": discount,
            "kind": pa.repeat("sale", len(bought)),
            "refund_of": pa.nulls(len(bought), pa.string()),
        }
    )
    return events, orders


def _midnight(day: date) -> int:
    """Its first moment in ms since 1970."""
    return (day - date(1970, 1, 1)).days * DAY_MS


def _of_the_day(parts: list[pa.Table], day: date) -> pa.Table:
    """The rows with a time on the day, in order of time."""
    rows = pa.concat_tables(parts)
    at = rows["at"].cast(pa.int64()).to_numpy() - _midnight(day)
    return rows.filter(pa.array((at >= 0) & (at < DAY_MS))).sort_by("at")


def _twice(shop: Shop, rows: pa.Table, stream: str, day: date) -> pa.Table:
    """The rows, and at the end some of them again."""
    random = _random(shop, stream, day)
    again = np.flatnonzero(random.random(rows.num_rows) < TWICE_SHARE)
    return pa.concat_tables([rows, rows.take(pa.array(again))])


def _sources(shop: Shop, day: date, n: int) -> list[tuple[pa.Table, pa.Table]]:
    """What the sessions of the day and of the day before made; the first day has none before it."""
    eve = day - timedelta(days=1)
    return [_made(shop, day, n)] + ([_made(shop, eve, _per_day(shop))] if eve >= shop.first_day else [])


def _events(shop: Shop, day: date, n: int) -> pa.Table:
    return _twice(shop, _of_the_day([events for events, _ in _sources(shop, day, n)], day), "events", day)


def _orders(shop: Shop, day: date, n: int) -> pa.Table:
    placed = _of_the_day([orders for _, orders in _sources(shop, day, n)], day)
    then = day - timedelta(days=RETURN_DAYS)
    if then >= shop.first_day:
        placed = pa.concat_tables([placed, _returned(shop, then)])
    return _twice(shop, placed, "orders", day)


def _returned(shop: Shop, day: date) -> pa.Table:
    """The return lines, RETURN_DAYS later, of some order lines of the day."""
    lines = _of_the_day([orders for _, orders in _sources(shop, day, _per_day(shop))], day)
    random = _random(shop, "returns", day)
    lines = lines.filter(pa.array(random.random(lines.num_rows) < RETURN_SHARE))
    later = lines["at"].cast(pa.int64()).to_numpy() + RETURN_DAYS * DAY_MS
    given_back = {
        "number": pa.array([f"r{number}" for number in lines["number"].to_pylist()], pa.string()),
        "at": pa.array(later, pa.timestamp("ms")),
        "discount": np.zeros(lines.num_rows),
        "kind": pa.repeat("return", lines.num_rows),
        "refund_of": lines["number"],
    }
    return pa.table({name: given_back.get(name, lines[name]) for name in lines.column_names})


def _customers(shop: Shop, day: date) -> pa.Table:
    """Who registered on the day: all of the first half by the first, and of the others so many a day."""
    customer = np.arange(shop.customers)
    joined = _random(shop, "customers").integers(0, 730, shop.customers)  # days before the day after LAST_DAY
    ago = (LAST_DAY + timedelta(days=1) - day).days
    mine = customer[joined >= ago] if day == shop.first_day else customer[joined == ago]
    at = _midnight(LAST_DAY + timedelta(days=1)) - joined[mine] * DAY_MS
    country = _take(COUNTRIES, mine % len(COUNTRIES))
    return pa.table({"user": mine, "joined": pa.array(at, pa.timestamp("ms")), "country": country})


def _products() -> pa.Table:
    sku = np.arange(PRODUCTS)
    titles = pa.array([f"product {n}" for n in sku])
    return pa.table({"sku": sku, "title": titles, "department": _departments(), "price": _prices()})


def main(argv: list[str]) -> int:
    """Write a shop into a folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generator", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--events", type=int, default=30_000_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--robot", type=float, default=0.0, help="share of all events that one customer has, such as 0.05")
    parser.add_argument("--signed-out", type=float, default=0.0, help="share of customers' sessions without a sign-in")
    chosen = parser.parse_args(argv)
    write(Shop(chosen.events, chosen.days, chosen.customers, chosen.seed, chosen.robot, chosen.signed_out), chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
