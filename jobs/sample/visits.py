"""What people do in the shop on a day: sessions, the steps in them, and what is bought."""

from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np

from jobs.sample.currencies import COUNTRY_SHARES
from jobs.sample.customer_types import LAPSED, MEANS, NEWCOMER, STRANGER, WHOLESALE
from jobs.sample.devices import CHANNELS, FIRST_CRAWLER
from jobs.sample.draws import choose_index, hash_values, number_within_groups
from jobs.sample.products import (
    CATEGORY_SHARES,
    FIRST_ODD_TERM,
    LINES_PER_CATEGORY,
    ODD_TERMS,
    PRODUCTS_PER_CATEGORY,
    find_product,
    find_term,
)
from jobs.sample.rhythms import COMPARING, NO_RHYTHM, draw_rhythms, rank_views
from jobs.sample.rows import ADD, CHECKOUT, EVENT, PURCHASE, REMOVE, SEARCH, SIGN_IN, VIEW, assign_event_ids
from jobs.sample.shop import Shop
from jobs.sample.tastes import NO_TASTE, WORDS_PER_CUSTOMER, WORDS_PER_TASTE, draw_tastes
from jobs.sample.times import DAY_MS, HOUR_MS, to_day_number

STRANGERS_PER_CUSTOMER = 0.02  # sessions a day of people whom the shop does not know
PRESENT_SEASONS = (((1, 28), (2, 14)), ((3, 1), (3, 22)), ((6, 7), (6, 20)), ((11, 20), (12, 23)))
WORDY_SHARE = 0.7  # of the searches: by a word of a taste too
MISS_SHARE = 0.04  # of the searches: after the last view
# The place of a step in its session: 0 comes first, 1 last.
FIRST_VIEW_PLACE, LAST_VIEW_PLACE = 0.05, 0.83
REMOVE_PLACE = 0.86
MISS_PLACE = 0.865
LATE_SIGN_IN_PLACE = 0.87


@dataclass(frozen=True)
class Sessions:
    """The sessions of a day, one entry each."""

    customer: np.ndarray  # -1: a stranger
    type: np.ndarray
    country: np.ndarray
    device: np.ndarray  # position among the customer's devices
    visitor: np.ndarray
    agent: np.ndarray
    has_new_cookie: np.ndarray  # the cookie was deleted: a visitor id that nobody has seen
    start_ms: np.ndarray
    shop: Shop

    @property
    def is_stranger(self) -> np.ndarray:
        return self.customer < 0

    def means(self, name: str) -> np.ndarray:
        """Return the mean of the type, times the customer's own factor."""
        return MEANS[name][self.type] * np.where(self.is_stranger, 1.0, self.shop.customers.factors[name][self.customer])


class Baskets(NamedTuple):
    """What happens in each session."""

    buys: np.ndarray
    lines: np.ndarray  # lines in the cart at the end
    adds: np.ndarray
    views: np.ndarray
    searches: np.ndarray
    checks_out: np.ndarray


class SignIns(NamedTuple):
    """How each session is signed in."""

    signed_in_from: np.ndarray  # place from which the session names its customer: -1 remembered, infinite never
    early: np.ndarray  # signs in at the start
    late: np.ndarray  # signs in before paying


class Steps(NamedTuple):
    """The events of a day before they have a time, and the lines that were put into carts."""

    session: np.ndarray
    place: np.ndarray
    events: np.ndarray  # EVENT
    line_session: np.ndarray  # lines that stay in their cart
    line_product: np.ndarray


@dataclass(frozen=True)
class Purchases:
    """The lines bought on a day, and what the orders take from their sessions."""

    sessions: Sessions
    is_signed_in: np.ndarray  # per session
    ordered_ms: np.ndarray  # per session
    line_session: np.ndarray
    line_product: np.ndarray


def draw_visits(rng: np.random.Generator, shop: Shop, day: date, offset: int) -> tuple[Purchases, np.ndarray]:
    """Return what is bought on a day, and the day's events of people."""
    sessions = _draw_sessions(rng, shop, day, offset)
    baskets = _draw_baskets(rng, sessions)
    sign_ins = _draw_sign_ins(rng, sessions, baskets)
    steps = _draw_steps(rng, sessions, baskets, sign_ins)
    events = _draw_events(rng, sessions, steps, sign_ins)
    # Wholesalers order by telephone now and then: an order without a click.
    by_phone = baskets.buys & (sessions.type == WHOLESALE) & (rng.random(len(sessions.customer)) < 0.25)
    ordered_ms = sessions.start_ms.copy()
    is_purchase = events["action"] == PURCHASE
    ordered_ms[steps.session[is_purchase]] = events["time"][is_purchase]
    is_bought = baskets.buys[steps.line_session]
    purchases = Purchases(
        sessions=sessions,
        is_signed_in=np.isfinite(sign_ins.signed_in_from),
        ordered_ms=ordered_ms // 1000 * 1000,
        line_session=steps.line_session[is_bought],
        line_product=steps.line_product[is_bought],
    )
    return purchases, assign_event_ids(events[~by_phone[steps.session]], day, 0)


def _draw_sessions(rng: np.random.Generator, shop: Shop, day: date, offset: int) -> Sessions:
    customers, devices = shop.customers, shop.customers.devices
    types = customers.types_on(offset)
    customer = np.repeat(np.arange(customers.n_known), rng.poisson(_session_rates(shop, types, day, offset)))
    customer = np.concatenate([customer, np.full(rng.poisson(STRANGERS_PER_CUSTOMER * customers.n_first_day), -1)])
    n, is_stranger = len(customer), customer < 0
    session_type = np.where(is_stranger, STRANGER, types[customer])
    hour = (MEANS["hour"][session_type] + MEANS["hour_sd"][session_type] * rng.standard_normal(n)) % 24
    pick = rng.random(n)
    device = np.minimum(
        (pick > 0.7).astype(int) + (pick > np.where(devices.always_signs_in[customer, 2], 0.7, 0.92)),
        devices.counts[customer] - 1,
    )
    has_new_cookie = is_stranger | (rng.random(n) < 0.02)
    new_visitor = hash_values(shop.seed, 30 + day.toordinal(), np.arange(n, dtype="u8"))
    agent = np.where(is_stranger, rng.integers(0, FIRST_CRAWLER, n), devices.agents[customer, device])
    stranger_country = choose_index(rng.random(n), np.cumsum(COUNTRY_SHARES))
    return Sessions(
        customer=customer,
        type=session_type,
        country=np.where(is_stranger, stranger_country, customers.country[customer]),
        device=device,
        visitor=np.where(has_new_cookie, new_visitor, devices.visitors[customer, device]),
        agent=agent,
        has_new_cookie=has_new_cookie,
        start_ms=to_day_number(day) * DAY_MS + np.floor(hour * HOUR_MS).astype("i8"),
        shop=shop,
    )


def _session_rates(shop: Shop, types: np.ndarray, day: date, offset: int) -> np.ndarray:
    """Return the mean number of sessions of each known customer on a day."""
    customers = shop.customers
    joined, stops = customers.joined[: customers.n_known], customers.stops[: customers.n_known]
    rates = MEANS["visits"][types] * customers.factors["visits"][: customers.n_known]
    rates *= 1 + (types == NEWCOMER) * 11 * np.exp(-(offset - joined) / 15)
    if any(start <= (day.month, day.day) <= end for start, end in PRESENT_SEASONS):
        rates *= MEANS["season"][types]
    if day.weekday() >= 5:
        rates *= MEANS["weekend"][types]
    rates[(types == LAPSED) & (offset >= stops)] = 0
    return rates


def _draw_baskets(rng: np.random.Generator, sessions: Sessions) -> Baskets:
    n = len(sessions.customer)
    buys = rng.random(n) < np.minimum(sessions.means("buys"), 0.9)
    fills_cart = buys | (rng.random(n) < MEANS["carts"][sessions.type])
    lines = np.where(fills_cart, 1 + rng.poisson(np.maximum(sessions.means("lines") - 1, 0)), 0)
    adds = lines + (fills_cart & (rng.random(n) < 0.12))  # the extra product is removed again
    mean_views = sessions.means("views")
    views = np.maximum(1 + rng.poisson(mean_views - 0.5 * np.minimum(mean_views, 1)), adds)
    searches = rng.poisson(sessions.means("searches"))
    return Baskets(buys, lines, adds, views, searches, checks_out=buys | (fills_cart & (rng.random(n) < 0.35)))


def _draw_sign_ins(rng: np.random.Generator, sessions: Sessions, baskets: Baskets) -> SignIns:
    n, is_stranger = len(sessions.customer), sessions.is_stranger
    always_signs_in = sessions.shop.customers.devices.always_signs_in[sessions.customer, sessions.device]
    pick = rng.random(n)
    signs_in = ~is_stranger & (pick < MEANS["signed_in"][sessions.type])
    remembered = signs_in & ~sessions.has_new_cookie & (rng.random(n) < 0.5)
    early = (signs_in & ~remembered) | (~is_stranger & always_signs_in & ~sessions.has_new_cookie)
    remembered &= ~early
    late = baskets.buys & ~is_stranger & ~early & ~remembered & (rng.random(n) < 0.6)
    signed_in_from = np.where(remembered, -1.0, np.where(early, 0.0, np.where(late, LATE_SIGN_IN_PLACE, np.inf)))
    return SignIns(signed_in_from, early, late)


def _draw_steps(rng: np.random.Generator, sessions: Sessions, baskets: Baskets, sign_ins: SignIns) -> Steps:
    all_sessions = np.arange(len(sessions.customer))
    view_session = np.repeat(all_sessions, baskets.views)
    product = _draw_products(rng, sessions, view_session)
    add_session, nth_add = np.repeat(all_sessions, baskets.adds), number_within_groups(baskets.adds)
    first_view = np.cumsum(baskets.views) - baskets.views
    viewed = first_view[add_session] + nth_add  # a product is viewed before it is added
    is_removed = nth_add >= baskets.lines[add_session]
    search_session = np.repeat(all_sessions, baskets.searches)
    # A search is for a product that is viewed in its session.
    searched = first_view[search_session] + number_within_groups(baskets.searches) % baskets.views[search_session]
    term = _draw_terms(rng, sessions.customer[search_session], sessions.shop, product[searched])
    view_place, add_place, search_place = _draw_places(rng, sessions, baskets, product, viewed, searched)
    # (session, action, place, product, term)
    parts = [
        (view_session, VIEW, view_place, product, -1),
        (add_session, ADD, add_place, product[viewed], -1),
        (add_session[is_removed], REMOVE, REMOVE_PLACE, product[viewed[is_removed]], -1),
        (search_session, SEARCH, search_place, -1, term),
        (np.flatnonzero(sign_ins.early), SIGN_IN, 0.0, -1, -1),
        (np.flatnonzero(sign_ins.late), SIGN_IN, LATE_SIGN_IN_PLACE, -1, -1),
        (np.flatnonzero(baskets.checks_out), CHECKOUT, 0.9, -1, -1),
        (np.flatnonzero(baskets.buys), PURCHASE, 1.0, -1, -1),
    ]
    sizes = [len(part[0]) for part in parts]
    session, action, place, products, terms = (
        np.concatenate([np.broadcast_to(part[i], size) for part, size in zip(parts, sizes, strict=True)]) for i in range(5)
    )
    events = np.zeros(len(session), dtype=EVENT)
    events["action"], events["product"], events["term"] = action, products, terms
    order = np.lexsort((place, session))
    return Steps(session[order], place[order], events[order], add_session[~is_removed], product[viewed[~is_removed]])


def _draw_places(
    rng: np.random.Generator, sessions: Sessions, baskets: Baskets, product: np.ndarray, viewed: np.ndarray, searched: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places of the views, of the cart adds and of the searches in their sessions, by the sessions' rhythms.

    `product` is per view; `viewed` and `searched` are the views of the products that are added and searched for.
    """
    rhythm = draw_rhythms(rng, np.where(sessions.is_stranger, NO_RHYTHM, sessions.shop.customers.rhythm[sessions.customer]))
    session = np.repeat(np.arange(len(rhythm)), baskets.views)
    rank = rank_views(rhythm, baskets.views, baskets.adds, product // PRODUCTS_PER_CATEGORY)

    def place_view(rank: np.ndarray, session: np.ndarray) -> np.ndarray:
        return FIRST_VIEW_PLACE + (LAST_VIEW_PLACE - FIRST_VIEW_PLACE) * rank / baskets.views[session]

    place = place_view(rank, session)
    add_session, search_session = session[viewed], session[searched]
    before, after = -0.05, 0.05  # of the distance from one view to the next; a step at 0 or less would come before the sign-in
    add_place = np.where(
        rhythm[add_session] == COMPARING,
        LAST_VIEW_PLACE + 0.02 * number_within_groups(baskets.adds) / baskets.adds[add_session],
        place_view(rank[viewed] + after, add_session),
    )
    first_bought = baskets.views - np.maximum(baskets.adds, 1)  # in the order of browsing
    search_place = np.choose(
        rhythm[search_session],
        (
            place_view(rank[searched] + before, search_session),
            0.01,
            place_view(first_bought[search_session] + before, search_session),
        ),
    )
    is_miss = rng.random(len(searched)) < MISS_SHARE
    return place, add_place, np.where(is_miss, MISS_PLACE, search_place)


def _draw_products(rng: np.random.Generator, sessions: Sessions, session: np.ndarray) -> np.ndarray:
    """Return a product for each view: half of the time of the favourite category, and some lines far more than others."""
    n, customer = len(session), sessions.customer[session]
    customers = sessions.shop.customers
    favourite = np.where(customer < 0, -1, customers.favourite[customer])
    category = choose_index(rng.random(n), CATEGORY_SHARES[sessions.type[session]])
    category = np.where((favourite >= 0) & (rng.random(n) < 0.5), favourite, category)
    line = np.floor(LINES_PER_CATEGORY * rng.random(n) ** 2).astype(int)
    return find_product(category, line, draw_tastes(rng, np.where(customer < 0, NO_TASTE, customers.taste[customer])))


def _draw_terms(rng: np.random.Generator, customer: np.ndarray, shop: Shop, product: np.ndarray) -> np.ndarray:
    """Return a search term for the product of each search, most after a word of a taste; now and then an odd term."""
    n, is_stranger = len(customer), customer < 0
    taste = draw_tastes(rng, np.where(is_stranger, NO_TASTE, shop.customers.taste[customer]))
    first_word = np.where(is_stranger, rng.integers(0, WORDS_PER_TASTE, n), shop.customers.first_word[customer])
    word = (first_word + rng.integers(0, WORDS_PER_CUSTOMER, n)) % WORDS_PER_TASTE
    term = find_term(product, np.where(rng.random(n) < WORDY_SHARE, taste * WORDS_PER_TASTE + word, -1))
    odd_term = FIRST_ODD_TERM + rng.integers(0, len(ODD_TERMS), n)
    return np.where(rng.random(n) < 0.06, odd_term, term)


def _draw_events(rng: np.random.Generator, sessions: Sessions, steps: Steps, sign_ins: SignIns) -> np.ndarray:
    """Return the events of the steps with their times, devices and customers."""
    events, session = steps.events, steps.session
    pause_ms = np.minimum(2_000 + rng.exponential(38_000, len(events)), 20 * 60_000).astype("i8")
    first = np.flatnonzero(np.diff(session, prepend=-1))
    pause_ms[first] = 0
    elapsed_ms = np.cumsum(pause_ms)
    before_ms = np.repeat(elapsed_ms[first], np.diff(first, append=len(events)))  # of the sessions before
    events["time"] = sessions.start_ms[session] + elapsed_ms - before_ms
    events["visitor"], events["agent"] = sessions.visitor[session], sessions.agent[session]
    events["country"] = sessions.country[session]
    events["channel"] = rng.integers(0, len(CHANNELS), len(sessions.customer))[session]
    is_signed_in = steps.place >= sign_ins.signed_in_from[session]
    events["customer"] = np.where(is_signed_in, sessions.customer[session], -1)
    names_mail = is_signed_in & ((events["action"] == SIGN_IN) | (events["action"] == PURCHASE))
    events["mail"] = np.where(names_mail, sessions.shop.customers.contacts.n_guests + sessions.customer[session], -1)
    return events
