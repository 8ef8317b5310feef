"""Generate a shop of any size as vendor files, Parquet by day with a mapping, to measure speed and memory.

Customers and products are drawn with Zipf-Mandelbrot weights. Sessions have a daily rhythm, run over midnight, begin signed out,
and sometimes end in an order. Order lines are returned after two weeks, and some rows are sent twice. A day depends on the seed
and its date only, so it is the same in a short history and in a long one.
"""

import argparse
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet

LAST_DAY = date(2025, 12, 31)
PRODUCTS = 20_000
CATEGORIES = 40
GUESTS = 1_000_000  # visitors who never sign in
GUEST_SHARE = 0.1
LOGIN_SHARE = 0.25  # of the sessions: those that sign in later than with the first event
MAX_EVENTS, NO_LOGIN = 80, 100  # of a session; a position that no event has
ORDER_SHARE = 0.05  # of the sessions with more than four events
RETURN_SHARE, RETURN_DAYS = 0.06, 14
REPEATED_SHARE = 0.005  # of the rows: those that are sent twice
ROBOT_EVENTS_PER_DEVICE = 1_200  # a day; too few for a robot rule of clean.events
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
original_order_id = "refund_of"
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
    """A shop with `events` events on the `days` days up to LAST_DAY, repeated rows not counted.

    `robot` is the share of all events that one customer has, on so many devices that no rule flags them. `signed_out` is the
    share of customers' sessions without a sign-in, whose devices may be linked to a customer days later.
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
        parts = [f"{self.events}-events", f"{self.days}-days", f"{self.customers}-customers", f"seed-{self.seed}"]
        parts += [f"robot-{self.robot}"] * bool(self.robot) + [f"signed-out-{self.signed_out}"] * bool(self.signed_out)
        return "-".join(parts)


def write(shop: Shop, folder: Path, days: Iterable[date] | None = None, events: int | None = None) -> None:
    """Write the vendor files of these days, by default all days of the shop, and the mapping `source.toml`.

    `events` is the number of events of each day, by default the shop's. A file is written whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "source.toml").write_text(MAPPING)
    _save(_make_products(), folder / "products.parquet")
    for day in days or (shop.first_day + timedelta(days=n) for n in range(shop.days)):
        n = events or _events_per_day(shop)
        _save(_make_events(shop, day, n), folder / f"events-{day}.parquet")
        _save(_make_orders(shop, day, n), folder / f"orders-{day}.parquet")
        _save(_make_customers(shop, day), folder / f"customers-{day}.parquet")


def _events_per_day(shop: Shop) -> int:
    return shop.events // shop.days


def _save(table: pa.Table, path: Path) -> None:
    new = path.with_suffix(".new")
    pa.parquet.write_table(table, new, compression="zstd", row_group_size=100_000)
    new.replace(path)


def _random(shop: Shop, stream: str, day: date | None = None) -> np.random.Generator:
    return np.random.default_rng([shop.seed, day.toordinal() if day else 0, *stream.encode()])


@lru_cache
def _weights(n: int, exponent: float, shift: float) -> np.ndarray:
    """Return the cumulative Zipf-Mandelbrot weights of n ranks."""
    weights = (np.arange(n) + shift) ** -exponent
    return weights.cumsum() / weights.sum()


@lru_cache
def _prices() -> np.ndarray:
    return np.round(np.random.default_rng(0).lognormal(3, 0.8, PRODUCTS), 2)


@lru_cache
def _departments() -> pa.Array:
    return pa.array([f"department {n % CATEGORIES:02d}" for n in range(PRODUCTS)])


def _draw_products(random: np.random.Generator, n: int) -> np.ndarray:
    return np.searchsorted(_weights(PRODUCTS, 0.9, 10), random.random(n))


def _take(values: Iterable[str], indices: np.ndarray, where: np.ndarray | None = None) -> pa.Array:
    """Return the values at these indices, null where `where` is false."""
    return pa.array(list(values)).take(pa.array(indices, mask=None if where is None else ~where))


class _Sessions(NamedTuple):
    """The m sessions that begin on a day, one array of m values for each attribute."""

    length: np.ndarray  # number of events
    customer: np.ndarray
    device: np.ndarray  # index of DEVICES
    visitor: np.ndarray
    is_robot: np.ndarray
    login: np.ndarray  # position of the first signed-in event; NO_LOGIN where there is none

    @property
    def first_event(self) -> np.ndarray:
        """Return the index of each session's first event."""
        return self.length.cumsum() - self.length


@lru_cache(maxsize=RETURN_DAYS + 2)
def _simulate_day(shop: Shop, day: date, n: int) -> tuple[pa.Table, pa.Table]:
    """Return (n events, order lines) of the sessions that begin on the day; some of both lie after midnight."""
    random = _random(shop, "sessions", day)
    sessions = _draw_sessions(random, shop, n)
    session_of_event = np.repeat(np.arange(len(sessions.length)), sessions.length)
    position = np.arange(n) - sessions.first_event[session_of_event]
    types, purchases = _draw_types(random, sessions, session_of_event, position)
    milliseconds = _draw_times(random, sessions, session_of_event) + _milliseconds(day)
    product = _draw_products(random, n)
    has_product = ~np.isin(types, (SEARCH, LOGIN))
    visitor, customer = sessions.visitor[session_of_event], sessions.customer[session_of_event]
    events = pa.table(
        {
            "hit": day.toordinal() * 10_000_000 + np.arange(n),
            "at": pa.array(milliseconds, pa.timestamp("ms")),
            "visitor": visitor,
            "user": pa.array(customer, mask=(position < sessions.login[session_of_event])),
            "action": _take(TYPES, types),
            "sku": pa.array(product, mask=~has_product),
            "department": _departments().take(pa.array(product, mask=~has_product)),
            "price": pa.array(_prices()[product], mask=~has_product),
            "query": _take((f"term {n}" for n in range(500)), product % 500, types == SEARCH),
            "device": _take(DEVICES, sessions.device[session_of_event]),
            "country": _take(COUNTRIES, customer % len(COUNTRIES)),
            "agent": _take(AGENTS, visitor % len(AGENTS)),
            "channel": _take(CHANNELS, random.integers(len(CHANNELS), size=len(sessions.length))[session_of_event]),
        }
    )
    return events, _draw_orders(random, events.take(pa.array(purchases)))


def _draw_sessions(random: np.random.Generator, shop: Shop, n: int) -> _Sessions:
    """Draw sessions with n events in all."""
    length = np.minimum(1 + random.lognormal(1.1, 1.0, n // 2 + 10).astype(int), MAX_EVENTS)
    length = length[: np.searchsorted(length.cumsum(), n) + 1]
    length[-1] -= length.sum() - n
    m = len(length)

    customer = np.searchsorted(_weights(shop.customers, 0.8, 200), random.random(m))
    device = np.where(random.random(m) < 0.5, customer % 3, (customer // 3) % 3)
    is_guest = random.random(m) < GUEST_SHARE
    is_robot = random.random(m) < shop.robot
    robot_devices = max(3, math.ceil(shop.robot * n / ROBOT_EVENTS_PER_DEVICE))
    is_guest &= ~is_robot
    customer = np.where(is_robot, shop.customers, customer)
    visitor = np.where(is_guest, 10**12 + random.integers(GUESTS, size=m), customer * 1_000 + device)
    visitor = np.where(is_robot, customer * 1_000 + random.integers(robot_devices, size=m), visitor)

    login = np.where(random.random(m) < LOGIN_SHARE, random.integers(1, 4, m), 0)
    login = np.where(login < length, login, 0)
    login = np.where(random.random(m) < shop.signed_out, NO_LOGIN, login)
    login = np.where(is_guest, NO_LOGIN, login)
    return _Sessions(length, customer, device, visitor, is_robot, login)


def _draw_types(
    random: np.random.Generator, sessions: _Sessions, session_of_event: np.ndarray, position: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (the type of each event as an index of TYPES, the indices of the purchase events)."""
    types = np.searchsorted([0.76, 0.88, 0.98], random.random(len(position)))
    types[(position == sessions.login[session_of_event]) & (position > 0)] = LOGIN
    has_order = (random.random(len(sessions.length)) < ORDER_SHARE) & (sessions.length > 4)
    purchases = (sessions.first_event + sessions.length - 1)[has_order]
    for events_before_end, event_type in enumerate((PURCHASE, CHECKOUT, CART)):
        types[purchases - events_before_end] = event_type
    return types, purchases


def _draw_times(random: np.random.Generator, sessions: _Sessions, session_of_event: np.ndarray) -> np.ndarray:
    """Return the time of each event in ms since midnight."""
    m = len(sessions.length)
    hours = np.searchsorted(np.cumsum(HOURS) / sum(HOURS), random.random(m))
    hours = np.where(sessions.is_robot & (hours < 8), hours + 8, hours)  # so that no rule for round-the-clock activity flags it
    starts = (hours + random.random(m)) * 3_600_000
    elapsed = np.minimum(random.lognormal(9.9, 1.0, len(session_of_event)), 25 * 60_000).cumsum()
    return (starts[session_of_event] + elapsed - elapsed[sessions.first_event][session_of_event]).astype(np.int64)


def _draw_orders(random: np.random.Generator, purchases: pa.Table) -> pa.Table:
    """Return the order lines of these purchase events; the first line has the product of the event."""
    n_lines = 1 + random.poisson(1.2, purchases.num_rows)
    purchase = np.repeat(np.arange(purchases.num_rows), n_lines)
    line = np.arange(len(purchase)) - np.repeat(n_lines.cumsum() - n_lines, n_lines)
    product = np.where(line == 0, purchases["sku"].to_numpy()[purchase], _draw_products(random, len(purchase)))
    pieces = 1 + random.poisson(0.4, len(purchase))
    discount = np.where(random.random(len(purchase)) < 0.2, np.round(_prices()[product] * pieces * 0.1, 2), 0)
    events = purchases.take(pa.array(purchase))
    return pa.table(
        {
            "number": events["hit"].cast(pa.string()),
            "line": line + 1,
            "at": events["at"],
            "user": events["user"],
            "sku": product,
            "department": _departments().take(pa.array(product)),
            "pieces": pieces,
            "price": _prices()[product],
            "discount": discount,
            "kind": pa.repeat("sale", len(purchase)),
            "refund_of": pa.nulls(len(purchase), pa.string()),
        }
    )


def _milliseconds(day: date) -> int:
    """Return the first moment of the day in ms since 1970."""
    return (day - date(1970, 1, 1)).days * DAY_MS


def _filter_day(parts: list[pa.Table], day: date) -> pa.Table:
    """Return the rows of the day, in order of time."""
    rows = pa.concat_tables(parts)
    at = rows["at"].cast(pa.int64()).to_numpy() - _milliseconds(day)
    return rows.filter(pa.array((at >= 0) & (at < DAY_MS))).sort_by("at")


def _repeat_some_rows(shop: Shop, rows: pa.Table, stream: str, day: date) -> pa.Table:
    """Return the rows, with some of them a second time at the end."""
    random = _random(shop, stream, day)
    repeated = np.flatnonzero(random.random(rows.num_rows) < REPEATED_SHARE)
    return pa.concat_tables([rows, rows.take(pa.array(repeated))])


def _simulate_two_days(shop: Shop, day: date, n: int) -> list[tuple[pa.Table, pa.Table]]:
    """Return the events and orders of the day's sessions, and of the sessions of the day before, if the shop had one."""
    day_before = day - timedelta(days=1)
    tables = [_simulate_day(shop, day, n)]
    return tables + ([_simulate_day(shop, day_before, _events_per_day(shop))] if day_before >= shop.first_day else [])


def _make_events(shop: Shop, day: date, n: int) -> pa.Table:
    return _repeat_some_rows(shop, _filter_day([events for events, _ in _simulate_two_days(shop, day, n)], day), "events", day)


def _make_orders(shop: Shop, day: date, n: int) -> pa.Table:
    lines = _filter_day([orders for _, orders in _simulate_two_days(shop, day, n)], day)
    order_day = day - timedelta(days=RETURN_DAYS)
    if order_day >= shop.first_day:
        lines = pa.concat_tables([lines, _make_returns(shop, order_day)])
    return _repeat_some_rows(shop, lines, "orders", day)


def _make_returns(shop: Shop, day: date) -> pa.Table:
    """Return the return lines, RETURN_DAYS later, of some order lines of the day."""
    lines = _filter_day([orders for _, orders in _simulate_two_days(shop, day, _events_per_day(shop))], day)
    random = _random(shop, "returns", day)
    lines = lines.filter(pa.array(random.random(lines.num_rows) < RETURN_SHARE))
    milliseconds = lines["at"].cast(pa.int64()).to_numpy() + RETURN_DAYS * DAY_MS
    changed_columns = {
        "number": pa.array([f"r{number}" for number in lines["number"].to_pylist()], pa.string()),
        "at": pa.array(milliseconds, pa.timestamp("ms")),
        "discount": np.zeros(lines.num_rows),
        "kind": pa.repeat("return", lines.num_rows),
        "refund_of": lines["number"],
    }
    return pa.table({name: changed_columns.get(name, lines[name]) for name in lines.column_names})


def _make_customers(shop: Shop, day: date) -> pa.Table:
    """Return the customers who registered on the day; the first day has all who registered before it too."""
    end = LAST_DAY + timedelta(days=1)
    customer = np.arange(shop.customers)
    days_before_end = _random(shop, "customers").integers(0, 730, shop.customers)
    age = (end - day).days
    registered = customer[days_before_end >= age] if day == shop.first_day else customer[days_before_end == age]
    milliseconds = _milliseconds(end) - days_before_end[registered] * DAY_MS
    country = _take(COUNTRIES, registered % len(COUNTRIES))
    return pa.table({"user": registered, "joined": pa.array(milliseconds, pa.timestamp("ms")), "country": country})


def _make_products() -> pa.Table:
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
    arguments = parser.parse_args(argv)
    sizes = arguments.events, arguments.days, arguments.customers, arguments.seed
    write(Shop(*sizes, arguments.robot, arguments.signed_out), arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
