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
    CORRECTED: "the row is kept with the corrected value; another column, or a measure of quality.reconciliation, says how much",
    LINKED: "why a visitor's events belong to a customer, in `clean.identities`",
    ALARMED: "what came in contradicts itself, or too many people share it, and counts for nobody; in `clean.identity_alarms`,"
    " or with its rule in the table",
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
_TOO_EARLY = "its time is before `first_day`: a date such as 1970-01-01 stands for none"
_SAME_DAY = "another row of the same {} comes later in the files of the day"
_UNCHANGED = "the {} has not changed since its last row"

_SCIENTIFIC = (
    "an id is a number in scientific notation, such as 1.2345E+12: a spreadsheet has rounded it, and different ids became one;"
    " export the file again without opening it in the spreadsheet"
)
_NULL_WORD = (
    "an id is a word that programs write where there is none, such as null, undefined or guest: it is null; the words are in"
    " `conf/policy.toml`, `clean.null_words`; counted as `null_word_<column>`"
)
_DECIMAL_ID = "an id is a whole number with a decimal point, such as 17850.0: it is 17850; counted as `decimal_id_<column>`"


def _list_id_rules(table: str) -> tuple[Rule, ...]:
    return (
        Rule(table, "scientific_id", REFUSED, _SCIENTIFIC),
        Rule(table, "null_word", CORRECTED, _NULL_WORD),
        Rule(table, "decimal_id", CORRECTED, _DECIMAL_ID),
    )


RULES = (
    Rule("events", "malformed", REFUSED, _MALFORMED),
    Rule("events", "no_time", REFUSED, "the time is missing or is not a time"),
    *_list_id_rules("events"),
    Rule("events", "implausible_day", REFUSED, "its time is before `first_day`", ("first_day",)),
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
        "events", "double_tag", REPEATED,
        "an event of a second tag: a view, search, checkout, purchase or login with the same visitor, product, page"
        " and search term"
        " came at most `double_tag_seconds` before it, or less than a second where events have no ids of their own; not a cart"
        " event, because people add a product twice; each event has one twin at most",
        ("double_tag_seconds",),
    ),
    Rule(
        "events", "same_transaction", REPEATED,
        "a purchase with the same visitor, product and transaction (`order_id`, else `event_id`) came up to"
        " `transaction_days` days"
        " before it; those of one moment are the items of one purchase", ("transaction_days",),
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
        "a user agent of the visitor that day is on the crawler-user-agents list, as whole words and in the list's"
        " case, or all in"
        " lower case, unless it holds a text of `app_agents`", ("app_agents",),
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
        "the sessions of the visitor's day have at least `bot_even_pauses` pauses between events that say something"
        " else than the one"
        " before (an open page that reports itself says nothing else), with a standard deviation of at most"
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
        "events", "address_fleet", FLAGGED,
        "at least `bot_fleet_ids` visitors, not signed in, have one event each that day, from the same address, within"
        " `bot_fleet_minutes` minutes, whatever their user agents; and such visitors are at least `bot_fleet_share`"
        " of all visitors of"
        " the day from the address", ("bot_fleet_ids", "bot_fleet_minutes", "bot_fleet_share"),
    ),
    Rule(
        "events", "around_the_clock", FLAGGED,
        "the visitor has events in at least `bot_active_hours` hours of the day, or has by its end been active for so many"
        " hours without a pause that ends a session, also across midnight", ("bot_active_hours",),
    ),
    Rule("orders", "malformed", REFUSED, _MALFORMED),
    Rule("orders", "no_time", REFUSED, "the time of the order is missing or is not a time"),
    *_list_id_rules("orders"),
    Rule("orders", "implausible_day", REFUSED, _TOO_EARLY, ("first_day",)),
    Rule("orders", "future", REFUSED, _FUTURE),
    Rule("orders", "no_order_id", REFUSED, "it names no order"),
    Rule("orders", "gift_card", REFUSED, "the sale of a gift card: money for a later order, not for a product"),
    Rule("orders", "test_order", REFUSED, "a test order of the shop itself"),
    Rule("orders", "void", REFUSED, "an authorisation that was never charged"),
    Rule("orders", "bad_debt", REFUSED, "money that a customer will not pay, written off by the shop"),
    Rule("orders", "adjustment", REFUSED, "bookkeeping of the shop: corrections, stock counts, payments to others"),
    Rule("orders", "unknown_kind", REFUSED, "the mapping gives it no known kind or line kind"),
    Rule("orders", "bad_quantity", REFUSED, "the quantity is missing, not a number or zero"),
    Rule("orders", "bad_price", REFUSED, "the price, or the amount of the line, is not a number"),
    Rule("orders", "bad_amount", REFUSED, "the amount of the line, or one of its order, is not a number"),
    Rule("orders", "no_price", REFUSED, "neither the line nor the product list of its day has a price"),
    Rule(
        "orders", "missing_rate", REFUSED, "foreign money without a rate of the day or of the `rate_days` days before it",
        ("rate_days",),
    ),
    Rule("orders", "bad_discount", REFUSED, "the discount is not a number"),
    Rule(
        "orders", "implausible_amount", REFUSED,
        "an amount is above `most_amount` of the home currency, such as a bar code in the place of a price", ("most_amount",),
    ),
    Rule(
        "orders", "exact", REPEATED,
        "equal, in all columns of the source, to a line that is kept or refused, or to another repeated line",
    ),
    Rule("orders", "superseded", REPEATED, "a later version of the numbered line is kept"),
    Rule("products", "malformed", REFUSED, _MALFORMED),
    Rule("products", "no_product", REFUSED, "it names no product"),
    *_list_id_rules("products"),
    Rule("products", "no_list_price", REFUSED, "it has no price, and the policy `clean.products.price` drops such rows"),
    Rule("products", "same_day", REPEATED, _SAME_DAY.format("product")),
    Rule("products", "unchanged", REPEATED, _UNCHANGED.format("product")),
    Rule("customers", "malformed", REFUSED, _MALFORMED),
    Rule("customers", "no_customer", REFUSED, "it names no customer"),
    *_list_id_rules("customers"),
    Rule("customers", "merge_cycle", REFUSED, "it makes an account part of itself, directly or through others"),
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
    Rule(
        "identity_alarms", "shared_customer", ALARMED,
        "a customer id that guests share: it comes with more than `max_mails_per_customer` e-mail addresses within"
        " `customers_within_days` days, or has at least `shared_customer_least` orders, or visitors, on a day and more than"
        " `shared_customer_factor` times those of the 99th percentile of ids: from that day it is no customer, and"
        " its rows are those"
        " of guests, who are found by their addresses",
        ("max_mails_per_customer", "customers_within_days", "shared_customer_least", "shared_customer_factor"),
    ),
    Rule(
        "returns", "by_order", MATCHED,
        "a line of the order that it names, or of the order with its number: of the same product, with money or pieces left",
    ),
    Rule(
        "returns", "by_amount", MATCHED,
        "an amount without a product, such as postage, or of a product that the order has not: spread over the lines of the"
        " order that it names, or with its number, in proportion to the money left on them",
    ),
    Rule(
        "returns", "by_price", MATCHED,
        "it is about no known order: the latest earlier line of the same customer, product and price with pieces left",
    ),
    Rule("returns", "unmatched", MATCHED, "no line has pieces left: the return counts alone, on its own day"),
    Rule(
        "returns", "over_return", ALARMED,
        "more than was sold, or is left after earlier returns: the money is in `over_amount` and counts in no sum",
    ),
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
