"""Which column of a file becomes which of ours, and which table a kind of file is for, by names and values."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from jobs.source_guess import values as looks
from jobs.source_guess.names import NAMES
from jobs.source_guess.samples import Sample

COLUMNS = {
    "events": (
        "event_at", "event_type", "event_id", "visitor_id", "customer_id", "email_key", "product_id", "category", "price",
        "currency",
        "search_term", "page", "device", "country", "user_agent", "channel", "sent_at", "received_at", "order_id", "address",
    ),
    "orders": (
        "order_id", "ordered_at", "updated_at", "line_id", "line_no", "customer_id", "email_key", "product_id", "product_name",
        "category", "quantity", "unit_price", "line_amount", "discount_amount", "order_discount", "order_shipping", "order_tax",
        "currency", "original_order_id", "kind", "country", "shop",
    ),
    "products": ("product_id", "name", "brand", "category", "price", "currency", "known_on"),
    "customers": ("customer_id", "email_key", "registered_at", "country", "merged_into", "updated_at"),
    "rates": ("rated_on", "currency", "rate"),
}  # fmt: skip
NEEDED = {
    "events": ("event_at", "event_type"), "orders": ("order_id", "ordered_at"), "products": ("product_id",),
    "customers": ("customer_id",), "rates": ("rated_on", "currency", "rate"),
}  # fmt: skip
_TIMES = frozenset(("event_at", "ordered_at", "updated_at", "sent_at", "received_at", "registered_at", "known_on", "rated_on"))
_NUMBERS = frozenset((
    "quantity", "unit_price", "line_amount", "discount_amount", "order_discount", "order_shipping", "order_tax", "price", "rate",
))  # fmt: skip
_ID_OF = {"orders": "order_id", "customers": "customer_id", "products": "product_id", "events": "event_id"}
_DROPPED = re.compile(
    r"(bill|ship)[-_ ]to|(full|first|last|billing|shipping|customer|cust|user|buyer|receiver|contact)_?name|surname"
    r"|phone|mobile|telephone|fax"
    r"|street|address(?!_?key)|zip|postcode|postal|birth|telefon|stra(ss|\u00df)e|vorname|nachname|iban"
    r"|card_?(no|number|holder)|passport|password|\bnotes?\b|comment|latitude|longitude",
    re.I,
)
SURE, LIKELY, GUESS = "sure", "likely", "guess"


@dataclass
class Role:
    """What one of our columns is made of: an expression over a column of the file, how sure that is, and why."""

    column: str
    expression: str
    certainty: str
    reason: str


@dataclass
class Guess:
    """What a kind of file is taken for."""

    table: str
    roles: dict[str, Role]
    personal: dict[str, str] = field(default_factory=dict)
    drop: list[str] = field(default_factory=list)
    reason: str = ""

    @property
    def missing(self) -> list[str]:
        """The columns without which the table cannot be landed."""
        missing = [ours for ours in NEEDED[self.table] if ours not in self.roles]
        is_nobody = self.table == "events" and not {"visitor_id", "customer_id"} & set(self.roles)
        return [*missing, *(["visitor_id"] if is_nobody else [])]


def guess_table(sample: Sample) -> Guess:
    """Return which table the rows are for, and its columns: the table for which most of what it needs is there."""
    guesses = [_guess_roles(sample, table) for table in COLUMNS]
    best = max(guesses, key=lambda guess: _score(sample, guess))
    best.personal, best.drop = _find_personal(sample, best)
    if best.table == "events":  # the address of a client is personal
        best.personal |= {role.column: "address" for ours, role in best.roles.items() if ours == "address"}
    return best


def _score(sample: Sample, guess: Guess) -> float:
    """Return how well the rows fit a table; each table has columns that no other has."""
    has = {ours for ours, role in guess.roles.items() if not role.column or sample.values(role.column)}
    own = {
        "events": 2 * ("event_type" in has and "event_at" in has)
        + 2 * ("visitor_id" in has)
        + 2 * ("user_agent" in has or "page" in has),
        "orders": 3 * ("order_id" in has)
        + 2 * ("quantity" in has)
        + ("unit_price" in has or "line_amount" in has)
        + ("ordered_at" in has),
        "products": 3 * ("product_id" in has and not has & {"known_on"})
        + 2 * ("brand" in has)
        + ("name" in has)
        + ("price" in has),
        "customers": 3 * ("customer_id" in has)
        + 2 * ("email_key" in has)
        + 2 * ("registered_at" in has)
        + 3 * ("merged_into" in has),
        "rates": 9 * (has == {"rated_on", "currency", "rate"} and len(sample.columns) <= 6),
    }[guess.table]
    if guess.table in ("products", "customers"):
        roles = _guess_roles(sample, "orders").roles
        own -= 2 * len({"order_id", "quantity", "line_no"} & set(roles))
        own -= 3 * (guess.table == "customers" and "product_id" in roles)
        own -= 6 * (not _guess_roles(sample, "events").missing)
    if guess.table == "orders" and "product_id" not in has and not has & {"quantity", "unit_price", "line_amount"}:
        own -= 4
    if guess.table == "events" and "event_type" in has and _are_clicks(sample.values(guess.roles["event_type"].column)):
        own += 4
    return own - 4 * len(guess.missing) + 0.01 * len(has)


def _guess_roles(sample: Sample, table: str) -> Guess:
    roles: dict[str, Role] = {}
    taken: set[str] = set()
    names = _find_names_of_people(sample)
    for ours in COLUMNS[table]:
        taken |= {column for column in names if ours in ("product_name", "name")}
        ranked = sorted(
            (rank, column)
            for column in sample.columns
            if column not in taken and (rank := _rank(ours, column, table)) is not None
        )
        for rank, column in ranked:
            role = _check_values(ours, column, rank, sample)
            if role is not None:
                roles[ours] = role
                taken.add(column)
                break
    if table in ("events", "orders"):
        _fill_by_values(sample, table, roles, taken)
    if {"line_amount", "unit_price"} <= set(roles):
        if not sample.values(roles["unit_price"].column):
            del roles["unit_price"]  # blank in all rows seen
        elif roles["line_amount"].certainty != SURE:
            del roles["line_amount"]  # one of the two is enough, and the price is named better
    return Guess(table, roles)


def _find_names_of_people(sample: Sample) -> list[str]:
    """Return columns that are called `name` alone in files that have addresses of people: then they are rather people's."""
    has_people = any(looks.share(sample.values(column), looks.EMAIL.fullmatch) > 0.5 for column in sample.columns)
    return [column for column in sample.columns if has_people and _plain(column) == "name"]


def _rank(ours: str, column: str, table: str) -> int | None:
    """Return how well a column's name fits one of ours, 0 best, or None."""
    names = NAMES[ours].split()
    last = _plain(column.rpartition(".")[2])
    plain = _plain(column)
    if ours == _ID_OF.get(table) and plain in ("id", "no", "number"):
        return 30
    if (ours == "customer_id" and plain == "customerid") or (ours == "order_id" and plain == "orderid"):
        return 0
    for candidate, penalty in ((plain, 0), (last, 10)):
        if candidate in names:
            return names.index(candidate) + penalty
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _check_values(ours: str, column: str, rank: int, sample: Sample) -> Role | None:
    """Return the role of a column that is named as one of ours, where its values can be that."""
    values = sample.values(column)
    certainty = SURE if rank < 3 else LIKELY if rank < 20 else GUESS
    if not values:
        return Role(column, column, GUESS, "by its name; blank in the rows seen") if rank < 10 else None
    if ours in _TIMES:
        form = looks.guess_time(column, values)
        return form and Role(column, form.expression, certainty if form.is_sure else GUESS, form.note or "with its offset")
    if ours in _NUMBERS:
        number = looks.guess_number(column, values)
        return number and Role(column, number[0], certainty, number[1] or f"such as {_example(values)}")
    if looks.share(values, looks.EMAIL.fullmatch) > 0.5 and ours not in ("email_key",):
        return Role(column, column, LIKELY, "addresses, hashed") if ours == "customer_id" else None
    if ours == "email_key":
        return Role(column, column, SURE, "addresses, hashed")
    if ours == "currency" and looks.share(values, re.compile("[A-Za-z]{3}").fullmatch) < 0.8:
        return None
    if ours == "event_type" and (len(set(values)) > max(40, len(values) // 4) or looks.share(values, looks.is_number) > 0.5):
        return None
    if ours == "user_agent" and looks.share(values, lambda text: "/" in text) < 0.5:
        return None
    if ours == "line_no" and looks.share(values, lambda text: text.isdigit()) < 0.8:
        return None
    return Role(column, column, certainty, f"such as {_example(values)}" if ours != "address" else "addresses, hashed")


def _example(values: Iterable[str]) -> str:
    """Return a value as an example that no person can be found by."""
    text = next(iter(values))
    is_harmless = re.fullmatch(r"[\w.:/ -]{1,20}", text) and not looks.PHONE.fullmatch(text)
    return text if is_harmless or looks.is_number(text) else "a text"


def _fill_by_values(sample: Sample, table: str, roles: dict[str, Role], taken: set[str]) -> None:
    """Fill what a table needs from columns whose values alone show it, as in files without a header line."""
    time, who = ("event_at", "visitor_id") if table == "events" else ("ordered_at", "customer_id")
    free = [column for column in sample.columns if column not in taken]
    for column in free:
        values = sample.values(column)
        if not values:
            continue
        if time not in roles and (form := looks.guess_time(column, values)) and not (values[0].isdigit() and len(values[0]) == 8):
            roles[time] = Role(column, form.expression, LIKELY, f"its values are times; {form.note}")
        elif table == "events" and "event_type" not in roles and _are_event_words(values):
            roles["event_type"] = Role(column, column, LIKELY, "its values are words for what visitors do")
        elif "header" in sample.words and who not in roles and looks.share(values, looks.is_time) == 0 and table == "events":
            roles[who] = Role(column, column, GUESS, "the first column of a file without a header line")
    if table == "events" and "visitor_id" not in roles and "customer_id" not in roles and "address" in roles:
        roles["visitor_id"] = Role(
            roles["address"].column, roles["address"].expression, GUESS, "there is nothing else to tell visitors apart"
        )
    if (
        table == "events"
        and "event_type" not in roles
        and {"event_at", "visitor_id"} <= set(roles)
        and {"page", "product_id"} & set(roles)
    ):
        word = "other" if "product_id" not in roles else "view"
        roles["event_type"] = Role("", f"'{word}'", GUESS, f"no column says what happened: each row is taken for `{word}`")


def _are_event_words(values: list[str]) -> bool:
    words = {value.lower() for value in values}
    return len(words) <= 30 and any(name_event(word) not in (None, "other") for word in words)


def _are_clicks(values: list[str]) -> bool:
    """Return whether some of the words are what visitors do and no order does."""
    return bool({"view", "search", "add_to_cart", "login"} & {name_event(value) for value in set(values)})


def name_event(word: str) -> str | None:
    """Return our name of an event that a vendor calls `word`, or None where no part of it says.

    >>> [name_event(word) for word in ("product_view", "pv", "addToCart", "cart", "order_done", "scroll")]
    ['view', 'view', 'add_to_cart', 'add_to_cart', 'purchase', None]
    """
    plain = _plain(word)
    for pattern, ours in (
        ("removefromcart|cartremove|removecart|productremoved", "remove_from_cart"),
        ("addtocart|cartadd|addcart|productadded|^cart$|^basket$|addtobasket", "add_to_cart"),
        ("checkout", "begin_checkout"),
        ("purchase|^buy|order(done|completed|placed)|transaction|^order$|^sale$", "purchase"),
        ("search", "search"),
        ("login|signin|signedin|identify", "login"),
        ("pageview", "other"),
        ("view|^pv$|^click$|detail", "view"),
    ):
        if re.search(pattern, plain):
            return ours
    return None


def _find_personal(sample: Sample, guess: Guess) -> tuple[dict[str, str], list[str]]:
    """Return the columns that are hashed, with their kind, and those that are never stored."""
    used = {role.column: ours for ours, role in guess.roles.items()}
    names = _find_names_of_people(sample)
    personal, drop = {}, []
    for column in sample.columns:
        values = sample.values(column)
        if looks.share(values, looks.EMAIL.fullmatch) > 0.5 or _plain(column) in NAMES["email_key"].split():
            personal[column] = "email"
        elif column in used:
            continue
        elif looks.share(values, looks.ADDRESS.fullmatch) > 0.5 or _DROPPED.search(column) or column in names:
            drop.append(column)
    return personal, drop
