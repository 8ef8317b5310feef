"""Every rule of cleaning by its name: what it means, what becomes of the row, and the settings behind it.

docs/rules.md is made from it. A row's first broken rule decides how it is counted in quality.reconciliation.
"""

from dataclasses import dataclass

REFUSED, REPEATED, FLAGGED, CORRECTED = "refused", "repeated", "flagged", "corrected"
LINKED, ALARMED, MATCHED = "linked", "alarm", "matched"
_MEANS = {
    REFUSED: "the row is in `clean.<table>_rejects` with its rules, outcome `reject`, and in no other table",
    REPEATED: "the row is in `clean.<table>_rejects`, outcome `duplicate`; the one it repeats decides",
    FLAGGED: "the row is kept and marked; features leave it out",
    CORRECTED: "the row is kept with the value it should have, and the correction beside it",
    LINKED: "why a visitor's events belong to a customer, in `clean.identities`",
    ALARMED: "what too many customers share merges nobody with anybody; in `clean.identity_alarms`",
    MATCHED: "how a return found the line it undoes, in `clean.returns`",
}


@dataclass(frozen=True)
class Rule:
    """One rule of one clean table; `settings` are keys of the section `clean` in `conf/*.toml`."""

    table: str
    name: str
    kind: str
    meaning: str
    settings: tuple[str, ...] = ()


_MALFORMED = "the row has another number of fields than the header"
_FUTURE = "its time is after the day of its file; after the day of landing where files name no day"
_SAME_DAY = "another row about the same {} comes later in the files of the day"
_UNCHANGED = "the {} is as it was known before"

RULES = (
    Rule("events", "malformed", REFUSED, _MALFORMED),
    Rule("events", "no_time", REFUSED, "the time is missing or is none"),
    Rule("events", "future", REFUSED, _FUTURE),
    Rule("events", "too_late", REFUSED, "its time is more than so many days before the day of its file", ("late_days",)),
    Rule("events", "no_visitor", REFUSED, "neither a visitor nor a customer is named"),
    Rule("events", "unknown_type", REFUSED, "the mapping gives it no event type of ours"),
    Rule("events", "same_id", REPEATED, "the same visitor's event with this id came before it on the day"),
    Rule("events", "same_event", REPEATED, "without ids: same visitor, type, product, page, search term and time sent"),
    Rule(
        "events", "clock_skew", CORRECTED,
        "the clocks of client and server differ by more than this between sending and arrival: the time of the event is moved"
        " by the difference; without a time of sending, an event from after its arrival has the time of its arrival",
        ("clock_skew_seconds",),
    ),
    Rule("events", "user_agent", FLAGGED, "an agent of the visitor that day is on the crawler-user-agents list, in any case"),
    Rule("events", "rate", FLAGGED, "at least so many pauses between moments of the visitor's day", ("bot_events_per_day",)),
    Rule(
        "events", "no_human_pause", FLAGGED, "at least so many pauses in the visitor's day, half of them that short or shorter",
        ("bot_pause_events", "bot_pause_seconds"),
    ),
    Rule(
        "events", "even_pauses", FLAGGED,
        "at least so many pauses within the sessions of the visitor's day, with a standard deviation of at most this share of"
        " their mean", ("bot_even_pauses", "bot_even_spread"),
    ),
    Rule(
        "events", "one_hit_fleet", FLAGGED,
        "at least so many visitors with one event each that day, not signed in, alike in agent, type, product, page, search"
        " term, device, country and channel, in the same stretch of so many minutes; and such visitors are at least this share"
        " of all who came that day with their agent and country: people on a popular page have common browsers",
        ("bot_fleet_ids", "bot_fleet_minutes", "bot_fleet_share"),
    ),
    Rule(
        "events", "around_the_clock", FLAGGED,
        "events in at least so many hours of the visitor's day, or by the end of it active for so many hours without a silence,"
        " over midnight too", ("bot_active_hours",),
    ),
    Rule("orders", "malformed", REFUSED, _MALFORMED),
    Rule("orders", "no_time", REFUSED, "the time of the order is missing or is none"),
    Rule("orders", "future", REFUSED, _FUTURE),
    Rule("orders", "no_order_id", REFUSED, "the order is not named"),
    Rule("orders", "gift_card", REFUSED, "the sale of a gift card: money for a later order, not for a product"),
    Rule("orders", "test_order", REFUSED, "an order of the shop's own, made to test"),
    Rule("orders", "void", REFUSED, "an authorisation that was never charged"),
    Rule("orders", "bad_debt", REFUSED, "money a customer owes and will not pay, written off in the shop's books"),
    Rule("orders", "adjustment", REFUSED, "the shop's own book-keeping: corrections, stock counts, what it pays to others"),
    Rule("orders", "unknown_kind", REFUSED, "the mapping gives it no kind, or no line kind, of ours"),
    Rule("orders", "no_product", REFUSED, "the product is not named, on a line that is one"),
    Rule("orders", "bad_quantity", REFUSED, "the quantity is missing, none, zero, or below zero on a plain sale"),
    Rule("orders", "bad_price", REFUSED, "the price is none, or below zero on what is no discount line"),
    Rule("orders", "no_price", REFUSED, "neither the line nor the product list of its day has a price"),
    Rule("orders", "missing_rate", REFUSED, "foreign money without a rate, or with one too many days old", ("rate_days",)),
    Rule("orders", "bad_amount", REFUSED, "quantity times price is too large to be money"),
    Rule("orders", "bad_discount", REFUSED, "the discount is none, below zero or more than the line"),
    Rule("orders", "exact", REPEATED, "equal in all the source sends to a line that is kept or refused, or to another copy"),
    Rule("orders", "superseded", REPEATED, "a numbered line of which a later version is kept"),
    Rule("products", "malformed", REFUSED, _MALFORMED),
    Rule("products", "no_product", REFUSED, "the product is not named"),
    Rule("products", "no_list_price", REFUSED, "it has no price, and the policy of `clean.products.price` is to drop such rows"),
    Rule("products", "same_day", REPEATED, _SAME_DAY.format("product")),
    Rule("products", "unchanged", REPEATED, _UNCHANGED.format("product")),
    Rule("customers", "malformed", REFUSED, _MALFORMED),
    Rule("customers", "no_customer", REFUSED, "the customer is not named"),
    Rule("customers", "same_day", REPEATED, _SAME_DAY.format("customer")),
    Rule("customers", "unchanged", REPEATED, _UNCHANGED.format("customer")),
    Rule("identities", "seen", LINKED, "the customer signed in, or was named by its number, on the visitor"),
    Rule("identities", "mail", LINKED, "a known e-mail address, not a customer number, named the customer on the visitor"),
    Rule("identities", "back_to_first_event", LINKED, "the first customer known on a visitor has its earlier events too"),
    Rule(
        "identity_alarms", "shared_visitor", ALARMED,
        "more customers were known on the visitor within so many days: only events that name their customer have one",
        ("max_customers_per_visitor", "customers_within_days"),
    ),
    Rule(
        "identity_alarms", "shared_mail", ALARMED, "more customers hold the e-mail address: from that day it names nobody",
        ("max_customers_per_mail",),
    ),
    Rule("returns", "by_order", MATCHED, "a line of the order it names, with the same product and pieces left"),
    Rule("returns", "by_price", MATCHED, "the latest earlier line of the same customer, product and price with pieces left"),
    Rule("returns", "unmatched", MATCHED, "no line has pieces left: it counts alone, on its own day"),
)  # fmt: skip


def names(kind: str) -> frozenset[str]:
    """The names of the rules of a kind, of all tables."""
    return frozenset(rule.name for rule in RULES if rule.kind == kind)


def as_markdown() -> str:
    """docs/rules.md: a table of the rules for each clean table."""
    lines = [
        "# The rules of cleaning", "", "Made from `jobs/clean/rules.py` by `shoal rules`. Examples a shop can read lie in",
        "`tests/jobs/clean/scenarios`. What becomes of a row:", "",
        *(f"- **{kind}**: {meaning}." for kind, meaning in _MEANS.items()),
    ]  # fmt: skip
    for table in dict.fromkeys(rule.table for rule in RULES):
        lines += ["", f"## clean.{table}", "", "| rule | what becomes of the row | when | settings |", "|---|---|---|---|"]
        for rule in (rule for rule in RULES if rule.table == table):
            settings = ", ".join(f"`clean.{name}`" for name in rule.settings)
            lines.append(f"| `{rule.name}` | {rule.kind} | {rule.meaning} | {settings} |")
    return "\n".join(lines) + "\n"
