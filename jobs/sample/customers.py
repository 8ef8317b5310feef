"""Who shops here: the customers with their planted types, devices, names and addresses."""

from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.sample.currencies import COUNTRIES, COUNTRY_SHARES
from jobs.sample.customer_types import DORMANT, MEANS, NEWCOMER, TYPE_NAMES, WINDOW
from jobs.sample.devices import DESKTOPS, FIRST_DESKTOP, PHONES
from jobs.sample.draws import choose_index, hash_values
from jobs.sample.products import CATEGORY_SHARES
from jobs.sample.rhythms import NO_RHYTHM, RHYTHM_NAMES
from jobs.sample.tastes import NO_TASTE, TASTE_NAMES, WORDS_PER_TASTE
from jobs.sample.text_columns import join_texts
from jobs.sample.times import DAY_MS, to_day_number

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

NEWCOMER_DAYS = 45
JOINING_PER_DAY = 1 / 800  # of the customers known on the first day
MOVING_PER_DAY = 0.0003  # share of the customers who change their country
HOUSEHOLD_SHARE = 0.015  # customers who share a device with the customer before them
PUBLIC_SHARE = 0.02  # customers who also use a public device
CUSTOMERS_PER_PUBLIC_DEVICE = 5000
# The uniform draws of a customer, by column.
DRAWS = (
    "joined", "type", "stop", "country", "favourite", "first_device", "phone", "desktop", "n_devices", "household",
    "public", "first_name", "last_name", "domain", "signup_time", "unused",
)  # fmt: skip
FACTOR_SDS = {"visits": 0.35, "views": 0.25, "searches": 0.3, "buys": 0.3, "returns": 0.4, "lines": 0.2, "discounts": 0.25}


@dataclass(frozen=True)
class Devices:
    """Up to three devices per customer."""

    visitors: np.ndarray  # customers x 3: the visitor id
    agents: np.ndarray  # customers x 3: position in AGENTS
    counts: np.ndarray  # customers: how many of the three are in use
    always_signs_in: np.ndarray  # customers x 3: shared devices, where the visitor follows the sign-ins


@dataclass(frozen=True)
class Contacts:
    """Names and e-mail addresses: first those of guests who come back, then those of the customers in order."""

    n_guests: int
    names: pa.Array
    mails: pa.Array  # each address in three spellings: lower case, upper case, with spaces


class Plants(NamedTuple):
    """Which groups of customers are planted beside the types."""

    tastes: bool = True
    rhythms: bool = True


ALL_PLANTS = Plants()


class Customers:
    """Everybody who is a customer by the last day; the first `n_known` of them are customers today."""

    def __init__(self, n_first_day: int, days: int, seed: int, first_day: date, plants: Plants):
        joined_by = np.floor((np.arange(days) + 1) * n_first_day * JOINING_PER_DAY).astype(int)
        joined_by[0] = 0  # those of the first day are known already
        self.n_first_day = self.n_known = n_first_day
        self.n_joined_by = np.maximum.accumulate(joined_by)
        n = n_first_day + int(self.n_joined_by[-1])
        draws = dict(zip(DRAWS, np.random.default_rng((seed, 0)).random((n, len(DRAWS))).T, strict=True))
        normals = np.random.default_rng((seed, 1)).standard_normal((n, 8))
        tastes, rhythms, words = np.random.default_rng((seed, 7)).random((n, 3)).T

        self.joined = np.where(  # days after the first day
            np.arange(n) < n_first_day,
            -30 - np.floor(draws["joined"] * 1500).astype(int),
            np.searchsorted(self.n_joined_by, np.arange(n) - n_first_day, side="right"),
        )
        self.type = choose_index(draws["type"], np.cumsum(MEANS["share"]))
        self.type[(self.joined >= 0) & (self.type == DORMANT)] = WINDOW
        grown_up = np.where(self.joined >= 0, self.joined + NEWCOMER_DAYS, 0)
        self.stops = grown_up + 5 + np.floor(draws["stop"] * 35).astype(int)  # from this day on a lapsed customer stays away
        self.country = choose_index(draws["country"], np.cumsum(COUNTRY_SHARES))
        self.favourite = choose_index(draws["favourite"], CATEGORY_SHARES[self.type])  # a category
        self.taste = np.floor(tastes * len(TASTE_NAMES)).astype(int) if plants.tastes else np.full(n, NO_TASTE)
        self.rhythm = np.floor(rhythms * len(RHYTHM_NAMES)).astype(int) if plants.rhythms else np.full(n, NO_RHYTHM)
        self.first_word = np.floor(words * WORDS_PER_TASTE).astype(int)  # of those of a taste that the customer searches by
        # The customer's own factor on the mean of the type.
        self.factors = {name: np.exp(sd * normals[:, i]) for i, (name, sd) in enumerate(FACTOR_SDS.items())}
        self.devices = _draw_devices(draws, self.type, n_first_day, seed)
        self.contacts = _draw_contacts(draws, n_guests=max(50, n_first_day // 10))
        self.ids = pa.array([f"C{i + 1:07}" for i in range(n)])
        time_of_day = np.floor(draws["signup_time"] * DAY_MS).astype("i8") // 1000 * 1000
        self.signup_ms = (to_day_number(first_day) + self.joined) * DAY_MS + time_of_day

    def advance(self, rng: np.random.Generator, offset: int) -> tuple[np.ndarray, np.ndarray]:
        """Make `offset` the current day; return the customers new to the shop's files and those who moved."""
        n_before = self.n_known if offset else 0
        self.n_known = self.n_first_day + int(self.n_joined_by[offset])
        joined = np.arange(n_before, self.n_known)
        moved = np.empty(0, dtype=int)
        if n_before:
            moved = np.unique(rng.integers(0, n_before, rng.poisson(MOVING_PER_DAY * n_before)))
            self.country[moved] = rng.integers(0, len(COUNTRIES), len(moved))
        return joined, moved

    def types_on(self, offset: int) -> np.ndarray:
        """Return the type of each known customer on a day: a newcomer until the planted type shows."""
        joined = self.joined[: self.n_known]
        return np.where((joined >= 0) & (offset - joined < NEWCOMER_DAYS), NEWCOMER, self.type[: self.n_known])

    def list_groups(self, offset: int) -> list[tuple[str, str, str, str]]:
        """Return customer id, type, taste and rhythm of all customers on a day; an empty name where none is planted."""
        codes = zip(self.types_on(offset), self.taste[: self.n_known], self.rhythm[: self.n_known], strict=True)
        names = [(TYPE_NAMES[t], (*TASTE_NAMES, "")[taste], (*RHYTHM_NAMES, "")[rhythm]) for t, taste, rhythm in codes]
        return [(id_, *groups) for id_, groups in zip(self.ids.to_pylist(), names, strict=True)]


def _draw_devices(draws: dict[str, np.ndarray], types: np.ndarray, n_first_day: int, seed: int) -> Devices:
    first_is_phone = draws["first_device"] < MEANS["mobile"][types]
    phone = np.floor(draws["phone"] * len(PHONES)).astype(int)
    desktop = FIRST_DESKTOP + np.floor(draws["desktop"] * len(DESKTOPS)).astype(int)
    agents = np.stack([np.where(first_is_phone, phone, desktop), np.where(first_is_phone, desktop, phone), desktop], 1)
    positions = np.arange(len(types), dtype="u8")
    visitors = np.stack([hash_values(seed, 10 + n, positions) for n in range(3)], 1)
    counts = 1 + (draws["n_devices"] < 0.5) + (draws["n_devices"] < 0.08)
    always_signs_in = np.zeros((len(types), 3), dtype=bool)

    households = np.flatnonzero(draws["household"][1:n_first_day] < HOUSEHOLD_SHARE) + 1
    for i in households:
        visitors[i, 0], agents[i, 0] = visitors[i - 1, 0], agents[i - 1, 0]
        always_signs_in[[i - 1, i], 0] = True
    public = draws["public"] < PUBLIC_SHARE
    counts[public] = 3
    visitors[public, 2] = hash_values(seed, 20, positions[public] // np.uint64(CUSTOMERS_PER_PUBLIC_DEVICE))
    agents[public, 2] = FIRST_DESKTOP
    always_signs_in[public, 2] = True
    return Devices(visitors, agents, counts, always_signs_in)


def _draw_contacts(draws: dict[str, np.ndarray], n_guests: int) -> Contacts:
    guests, n = np.arange(n_guests), len(draws["first_name"])
    first_name = np.floor(draws["first_name"] * len(FIRST_NAMES)).astype(int)
    last_name = np.floor(draws["last_name"] * len(LAST_NAMES)).astype(int)
    domain = np.floor(draws["domain"] * len(EMAIL_DOMAINS)).astype(int)
    first_name = np.concatenate([guests % len(FIRST_NAMES), first_name])
    last_name = np.concatenate([guests // len(FIRST_NAMES) % len(LAST_NAMES), last_name])
    domain = np.concatenate([guests % len(EMAIL_DOMAINS), domain])
    number = pa.array(np.concatenate([guests + 1, np.arange(n) + 1])).cast(pa.string())
    guest_mark = pa.array(["g"] * n_guests + [""] * n)

    first_names, last_names = pa.array(FIRST_NAMES).take(pa.array(first_name)), pa.array(LAST_NAMES).take(pa.array(last_name))
    domains = pa.array(EMAIL_DOMAINS).take(pa.array(domain))
    mails = join_texts(first_names, pa.scalar("."), last_names, guest_mark, number, pa.scalar("@"), domains)
    mails = pc.utf8_lower(mails)
    spellings = [mails, pc.utf8_upper(mails), join_texts(pa.scalar(" "), mails, pa.scalar(" "))]
    return Contacts(n_guests, join_texts(first_names, last_names, separator=" "), pa.concat_arrays(spellings))
