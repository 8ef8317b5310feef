"""Robots, and people whom a careless rule takes for robots.

Each robot shows the trait of its rule on every day it comes. A robot or person here is a visitor without a customer.
"""

from datetime import date

import numpy as np

from jobs.sample.devices import CRAWLERS, FIRST_CRAWLER, FIRST_DESKTOP, FLEET, NEWSLETTER
from jobs.sample.draws import hash_values, number_within_groups
from jobs.sample.products import N_PRODUCTS
from jobs.sample.rows import EVENT
from jobs.sample.shop import Shop
from jobs.sample.times import DAY_MS, HOUR_MS, to_day_number

EventsByName = list[tuple[str, np.ndarray]]  # the rule or the kind of people, and the events of a visitor


def draw_robots(rng: np.random.Generator, shop: Shop, day: date) -> EventsByName:
    """Return the events of the day's robots, by the rule that should flag them."""
    return [
        *_draw_crawlers(rng, shop, day),
        *_draw_one_hit_fleet(rng, shop, day),
        *_draw_steady_robots(shop, day),
    ]


def _draw_crawlers(rng: np.random.Generator, shop: Shop, day: date) -> EventsByName:
    number, parts = day.toordinal(), []
    for nth, visitor in enumerate(_robot_visitors(shop, "user_agent")):
        if rng.random() < 0.5:
            n, hour = rng.integers(5, 60), rng.uniform(0, 22)
            pauses = rng.uniform(3_000, 40_000, n)
            agent = FIRST_CRAWLER + nth % len(CRAWLERS)
            parts.append(("user_agent", _draw_views(rng, day, hour, pauses, visitor, agent)))
    for nth, visitor in enumerate(_robot_visitors(shop, "rate")):
        if (number + 7 * nth) % 23 == 0:
            n, hour = rng.integers(2_400, 3_600), rng.uniform(1, 4)
            pauses = rng.uniform(2_000, 18_000, n)
            parts.append(("rate", _draw_views(rng, day, hour, pauses, visitor, FIRST_DESKTOP)))
    for nth, visitor in enumerate(_robot_visitors(shop, "no_human_pause")):
        if (number + 5 * nth) % 9 == 0:
            n, hour = rng.integers(130, 320), rng.uniform(0, 23)
            pauses = rng.uniform(200, 900, n)
            parts.append(("no_human_pause", _draw_views(rng, day, hour, pauses, visitor, FIRST_DESKTOP + 1)))
    return parts


def _draw_one_hit_fleet(rng: np.random.Generator, shop: Shop, day: date) -> EventsByName:
    """Return, on some days, a single view each by many visitors with the same attributes."""
    number = day.toordinal()
    if number % 11 != 3:
        return []
    n = 40 + shop.customers.n_first_day // 50
    events = np.zeros(n, dtype=EVENT)
    events["time"] = to_day_number(day) * DAY_MS + 14 * HOUR_MS + np.sort(rng.integers(0, 1_200_000, n))
    events["visitor"] = hash_values(shop.seed, 50_000_000 + number, np.arange(n, dtype="u8"))
    events["agent"], events["product"] = FLEET, rng.integers(0, N_PRODUCTS)
    events["customer"] = events["mail"] = events["term"] = -1
    return [("one_hit_fleet", events)]


def _draw_steady_robots(shop: Shop, day: date) -> EventsByName:
    """Return robots with even pauses, and robots that stay for three days; they draw from a stream of their own."""
    rng, number, parts = np.random.default_rng((shop.seed, 5, day.toordinal())), day.toordinal(), []
    for nth, visitor in enumerate(_robot_visitors(shop, "even_pauses")):
        if (number + 3 * nth) % 7 == 0:
            n = int(rng.integers(60, 240))
            pauses = rng.uniform(4_000, 60_000) * (1 + rng.uniform(0.01, 0.05) * rng.standard_normal(n))
            pauses[n // 2] += HOUR_MS
            parts.append(("even_pauses", _draw_views(rng, day, rng.uniform(0, 18), pauses, visitor, FIRST_DESKTOP)))
    for nth, visitor in enumerate(_robot_visitors(shop, "around_the_clock")):
        nth_day = (number + 4 * nth) % 12
        if nth_day < 3:
            pauses = np.minimum(60_000 + rng.exponential(420_000, 600), 1_500_000)
            begin, end = ((14, 24), (0, 24), (0, 9))[nth_day]
            events = _draw_views(rng, day, begin, pauses, visitor, FIRST_DESKTOP + 2)
            parts.append(("around_the_clock", events[events["time"] < to_day_number(day) * DAY_MS + end * HOUR_MS]))
    return parts


def draw_robot_like_people(shop: Shop, day: date) -> EventsByName:
    """Return the events of people who look like robots, by kind: quick, steady, up all night, and readers of a newsletter."""
    rng, number, parts = np.random.default_rng((shop.seed, 6, day.toordinal())), day.toordinal(), []
    for nth in range(1 + shop.customers.n_first_day // 3000):
        quick, steady, owl = (hash_values(shop.seed, stream, np.array([number * 1000 + nth])) for stream in (46, 47, 48))
        pauses = 1400 * np.exp(0.6 * rng.standard_normal(rng.integers(60, 180)))
        parts.append(("quick", _draw_views(rng, day, rng.uniform(6, 22), pauses, quick, 0)))
        pauses = np.maximum(12_000 + 3_600 * rng.standard_normal(rng.integers(40, 90)), 2_000)
        parts.append(("steady", _draw_views(rng, day, rng.uniform(6, 22), pauses, steady, FLEET)))
        if number % 2 == 0:
            pauses = np.minimum(60_000 + rng.exponential(360_000, 400), 1_700_000)
            events = _draw_views(rng, day, 12, pauses, owl, FIRST_DESKTOP)
            parts.append(("night_owl", events[events["time"] < (to_day_number(day) + 1) * DAY_MS + 5 * HOUR_MS]))
    if number % 7 == 2:
        parts.append(("newsletter", _draw_newsletter_readers(rng, shop, day)))
    return parts


def _draw_newsletter_readers(rng: np.random.Generator, shop: Shop, day: date) -> np.ndarray:
    """Return views after a newsletter: most readers look at its page and leave, a quarter goes on."""
    n = 80 + shop.customers.n_first_day // 20
    views = np.where(rng.random(n) < 0.25, rng.integers(2, 6, n), 1)
    nth = number_within_groups(views)
    visitor = hash_values(shop.seed, 49, day.toordinal() * 1_000_000 + np.arange(n))
    events = _draw_views(rng, day, 12, np.zeros(len(nth)), np.repeat(visitor, views), 0)
    events["time"] += np.repeat(rng.integers(0, 1_800_000, n), views) + nth * rng.integers(5_000, 60_000, len(nth))
    events["agent"] = np.repeat(rng.choice((0, 1, FIRST_DESKTOP), n), views)
    events["product"] = np.where(nth == 0, rng.integers(0, N_PRODUCTS), events["product"])
    events["channel"] = NEWSLETTER
    return events


def _draw_views(rng: np.random.Generator, day: date, hour: float, pauses: np.ndarray, visitor, agent: int) -> np.ndarray:
    """Return a visitor's views of any products, from `hour` on, with these pauses in milliseconds."""
    events = np.zeros(len(pauses), dtype=EVENT)
    events["time"] = to_day_number(day) * DAY_MS + int(hour * HOUR_MS) + np.floor(np.cumsum(pauses)).astype("i8")
    events["visitor"], events["agent"], events["product"] = visitor, agent, rng.integers(0, N_PRODUCTS, len(pauses))
    events["customer"] = events["mail"] = events["term"] = -1
    return events


def _robot_visitors(shop: Shop, rule: str) -> np.ndarray:
    """Return the visitor ids of all robots of a rule."""
    n = shop.customers.n_first_day
    stream, count = {
        "user_agent": (41, max(len(CRAWLERS), n // 250)),
        "rate": (42, max(1, n // 5000)),
        "no_human_pause": (43, max(2, n // 2000)),
        "even_pauses": (44, max(2, n // 1000)),
        "around_the_clock": (45, max(2, n // 1500)),
    }[rule]
    return hash_values(shop.seed, stream, np.arange(count, dtype="u8"))
