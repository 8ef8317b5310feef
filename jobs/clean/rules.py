"""Every rule of cleaning by its name: what it means, what becomes of the row, and the settings it uses.

docs/rules.md is generated from it. The first rule that a row breaks decides how quality.reconciliation counts the row.
"""

from collections.abc import Iterable
from dataclasses import dataclass

REFUSED, REPEATED, FLAGGED, CORRECTED = "refused", "repeated", "flagged", "corrected"
LINKED, ALARMED, MATCHED = "linked", "alarm", "matched"
_KINDS = {
    REFUSED: "the row is in `clean.<table>_rejects` with its rules, outcome `reject`, and in no other table",
    REPEATED: "the row is in `clean.<table>_rejects`, outcome `duplicate`; the row that it repeats decides",
    FLAGGED: "the row is kept and marked; features leave it out",
    CORRECTED: "the row is kept with the corrected value; another column says by how much",
    LINKED: "why a visitor's events belong to a customer, in `clean.identities`",
    ALARMED: "a visitor or address that too many customers share identifies nobody; in `clean.identity_alarms`",
    MATCHED: "how a return found the order line that it undoes, in `clean.returns`",
}


@dataclass(frozen=True)
class Rule:
    """One rule of one clean table; `settings` are the keys of section `clean` in `conf/*.toml` that it uses."""

    table: str
    name: str
    kind: str
    meaning: str
    settings: tuple[str, ...] = ()


_MALFORMED = "the line is no row: another number of fields than the header, a stray quote, no JSON object, or it fits no pattern"
_FUTURE = "its time is after the day of its file; where files name no day, after the day of landing"
_SAME_DAY = "another row of the same {} comes later in the files of the day"
_UNCHANGED = "the {} has not changed since its last row"

RULES = (
    Rule("events", "malformed", REFUSED, _MALFORMED),
    Rule("events", "no_time", REFUSED, "the time is missing or is not a time"),
    Rule("events", "future", REFUSED, _FUTURE),
    Rule("events", "too_late", REFUSED, "its time is more than `late_days` days before the day of its file", ("late_days",)),
    Rule("events", "no_visitor", REFUSED, "it names neither a visitor nor a customer"),
    Rule("events", "unknown_type", REFUSED, "the mapping gives it no known event type"),
    Rule("events", "same_id", REPEATED, "an event of the same visitor with the same id came before it on the day"),
    Rule(
        "events", "same_event", REPEATED,
        "where events have no id: an event with the same visitor, type, product, page, search term and time sent came before it",
    ),
    Rule(
        "events", "clock_skew", CORRECTED,
        "the clocks of client and server differ by more than `clock_skew_seconds` between sending and arrival: the time of the"
        " event is moved by the difference; an event without a time of sending that is later than its arrival gets the time of"
        " its arrival",
        ("clock_skew_seconds",),
    ),
    Rule(
        "events", "user_agent", FLAGGED,
        "a user agent of the visitor that day is on the crawler-user-agents list, in upper or lower case",
    ),
    Rule(
        "events", "rate", FLAGGED, "the visitor's day has at least `bot_events_per_day` pauses between moments",
        ("bot_events_per_day",),
    ),
    Rule(
        "events", "no_human_pause", FLAGGED,
        "the visitor's day has at least `bot_pause_events` pauses, half of them at most `bot_pause_seconds` long",
        ("bot_pause_events", "bot_pause_seconds"),
    ),
    Rule(
        "events", "even_pauses", FLAGGED,
        "the sessions of the visitor's day have at least `bot_even_pauses` pauses, with a standard deviation of at most"
        " `bot_even_spread` of their mean", ("bot_even_pauses", "bot_even_spread"),
    ),
    Rule(
        "events", "one_hit_fleet", FLAGGED,
        "at least `bot_fleet_ids` visitors, not signed in, have one event each that day, with the same user agent, type,"
        " product, page, search term, device, country and channel, within `bot_fleet_minutes` minutes; and such visitors are at"
        " least `bot_fleet_share` of all visitors of the day with the same user agent and country, because people on a popular"
        " page have common browsers",
        ("bot_fleet_ids", "bot_fleet_minutes", "bot_fleet_share"),
    ),
    Rule(
        "events", "around_the_clock", FLAGGED,
        "the visitor has events in at least `bot_active_hours` hours of the day, or has by its end been active for so many"
        " hours without a pause that ends a session, also across midnight", ("bot_active_hours",),
    ),
    Rule("orders", "malformed", REFUSED, _MALFORMED),
    Rule("orders", "no_time", REFUSED, "the time of the order is missing or is not a time"),
    Rule("orders", "future", REFUSED, _FUTURE),
    Rule("orders", "no_order_id", REFUSED, "it names no order"),
    Rule("orders", "gift_card", REFUSED, "the sale of a gift card: money for a later order, not for a product"),
    Rule("orders", "test_order", REFUSED, "a test order of the shop itself"),
    Rule("orders", "void", REFUSED, "an authorisation that was never charged"),
    Rule("orders", "bad_debt", REFUSED, "money that a customer will not pay, written off by the shop"),
    Rule("orders", "adjustment", REFUSED, "bookkeeping of the shop: corrections, stock counts, payments to others"),
    Rule("orders", "unknown_kind", REFUSED, "the mapping gives it no known kind or line kind"),
    Rule("orders", "no_product", REFUSED, "a product line names no product"),
    Rule("orders", "bad_quantity", REFUSED, "the quantity is missing, not a number, zero, or below zero on a sale"),
    Rule("orders", "bad_price", REFUSED, "the price is not a number, or below zero on a line that is not a discount"),
    Rule("orders", "no_price", REFUSED, "neither the line nor the product list of its day has a price"),
    Rule(
        "orders", "missing_rate", REFUSED, "foreign money without a rate of the day or of the `rate_days` days before it",
        ("rate_days",),
    ),
    Rule("orders", "bad_amount", REFUSED, "quantity times price is too large to be money"),
    Rule("orders", "bad_discount", REFUSED, "the discount is not a number, below zero or more than the line"),
    Rule(
        "orders", "exact", REPEATED,
        "equal, in all columns of the source, to a line that is kept or refused, or to another repeated line",
    ),
    Rule("orders", "superseded", REPEATED, "a later version of the numbered line is kept"),
    Rule("products", "malformed", REFUSED, _MALFORMED),
    Rule("products", "no_product", REFUSED, "it names no product"),
    Rule("products", "no_list_price", REFUSED, "it has no price, and the policy `clean.products.price` drops such rows"),
    Rule("products", "same_day", REPEATED, _SAME_DAY.format("product")),
    Rule("products", "unchanged", REPEATED, _UNCHANGED.format("product")),
    Rule("customers", "malformed", REFUSED, _MALFORMED),
    Rule("customers", "no_customer", REFUSED, "it names no customer"),
    Rule("customers", "same_day", REPEATED, _SAME_DAY.format("customer")),
    Rule("customers", "unchanged", REPEATED, _UNCHANGED.format("customer")),
    Rule("identities", "seen", LINKED, "an event of the visitor names the customer: a login, or the customer number"),
    Rule("identities", "mail", LINKED, "an event of the visitor has an e-mail address that is known to be the customer's"),
    Rule("identities", "back_to_first_event", LINKED, "the first known customer of a visitor has the earlier events too"),
    Rule(
        "identity_alarms", "shared_visitor", ALARMED,
        "more than `max_customers_per_visitor` customers were known on the visitor within `customers_within_days` days: only"
        " its events that name a customer have one",
        ("max_customers_per_visitor", "customers_within_days"),
    ),
    Rule(
        "identity_alarms", "shared_mail", ALARMED,
        "more than `max_customers_per_mail` customers have the e-mail address: from that day it identifies nobody",
        ("max_customers_per_mail",),
    ),
    Rule("returns", "by_order", MATCHED, "a line of the order that it names, with the same product and pieces not yet returned"),
    Rule(
        "returns", "by_price", MATCHED,
        "the latest earlier line of the same customer, product and price with pieces not yet returned",
    ),
    Rule("returns", "unmatched", MATCHED, "no line has pieces not yet returned: the return counts alone, on its own day"),
)  # fmt: skip


def rule_names(kind: str) -> frozenset[str]:
    """Return the names of the rules of a kind, of all tables."""
    return frozenset(rule.name for rule in RULES if rule.kind == kind)


def check_declared(names: Iterable[str]) -> None:
    """Raise ValueError for a rule of refusal that is not in RULES."""
    if undeclared := set(names) - rule_names(REFUSED):
        raise ValueError(f"jobs/clean/rules.py does not declare {', '.join(sorted(undeclared))}")


def as_markdown() -> str:
    """Return docs/rules.md: a table of rules for each clean table."""
    lines = [
        "# The rules of cleaning", "", "Generated from `jobs/clean/rules.py` by `shoal rules`. `tests/jobs/clean/scenarios` has",
        "examples that a shop owner can read. What becomes of a row:", "",
        *(f"- **{kind}**: {meaning}." for kind, meaning in _KINDS.items()),
    ]  # fmt: skip
    for table in dict.fromkeys(rule.table for rule in RULES):
        lines += ["", f"## clean.{table}", "", "| rule | what becomes of the row | when | settings |", "|---|---|---|---|"]
        for rule in (rule for rule in RULES if rule.table == table):
            settings = ", ".join(f"`clean.{name}`" for name in rule.settings)
            lines.append(f"| `{rule.name}` | {rule.kind} | {rule.meaning} | {settings} |")
    return "\n".join(lines) + "\n"
