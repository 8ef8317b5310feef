"""clean.events: one row per event.

Inputs: bronze.events, and the last minutes of the day before for sessions that cross midnight. Rules that may be debated:
- Two events are the same if their ids are; without ids, if visitor, type, product, page, search words and time are.
- The customer is the one known at that time (clean.identities), back to the visitor's first event.
- A robot is flagged, never dropped.
- A client's wrong clock is corrected where the source sends both clocks, and the correction is kept in a column.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

import polars as pl
import pyarrow as pa

from jobs import business_day, parsing
from jobs.clean import _ids, _people, _repeats, _robots, _rows, events_rejects, identities, sessions, visitor_days
from jobs.config.settings import Clean
from jobs.storage.table import Table

TYPES = ("view", "search", "add_to_cart", "remove_from_cart", "begin_checkout", "purchase", "login", "other")

SCHEMA = """
    event_id STRING NOT NULL COMMENT 'id of the event; made from what it is where the source has none',
    day DATE NOT NULL COMMENT 'day it happened, in the business time zone',
    event_at TIMESTAMP NOT NULL COMMENT 'when, UTC',
    visitor_id STRING NOT NULL COMMENT 'device or browser; the customer where the source knows no devices',
    customer_id STRING COMMENT 'customer known at that time; null while unknown',
    session_id STRING NOT NULL COMMENT 'session it belongs to',
    event_type STRING NOT NULL COMMENT 'view, search, add_to_cart, remove_from_cart, begin_checkout, purchase, login or other',
    product_id STRING COMMENT 'product',
    category STRING COMMENT 'category of the product, as sent',
    price DECIMAL(18,4) COMMENT 'price shown, in the currency beside it; null unless above 0',
    currency STRING COMMENT 'currency of the price',
    search_term STRING COMMENT 'words searched for, lower case',
    page STRING COMMENT 'page',
    device STRING COMMENT 'kind of device, lower case',
    country STRING COMMENT 'country',
    is_bot BOOLEAN NOT NULL COMMENT 'a robot by one of the rules',
    bot_rule STRING COMMENT 'user_agent, rate, no_human_pause, even_pauses, one_hit_fleet, address_fleet or around_the_clock',
    channel STRING COMMENT 'where the visit came from',
    session_started_at TIMESTAMP NOT NULL COMMENT 'first event of the session',
    active_since TIMESTAMP NOT NULL COMMENT 'start of the activity without a silence, which may span cut sessions',
    identified_on DATE COMMENT 'day on which the customer of this event became known',
    signed_in BOOLEAN NOT NULL COMMENT 'the event itself named its customer, by id or e-mail',
    clock_skew_seconds DOUBLE COMMENT 'seconds by which the time sent was corrected; null where it was not',
    shared_since DATE COMMENT 'day from which its visitor or customer id is known to be shared; see clean.identity_alarms',
    former_customer_id STRING COMMENT 'customer it was given to, from identified_on until shared_since'"""
TABLE = Table(
    "clean.events", __doc__.split("\n\n")[0], SCHEMA, "day",
    {"type_known": f"event_type IN {TYPES}", "bot_has_rule": "is_bot = (bot_rule IS NOT NULL)"},
    {"delta.dataSkippingStatsColumns": "event_at,customer_id,shared_since"},  # features skip files by the last
)  # fmt: skip


_IDS = ["visitor_id", "customer_id", "product_id", "order_id"]
_TEXTS = [
    "event_id", "email_key", "event_type", "category", "currency", "search_term", "page", "device", "country", "user_agent",
    "channel", "address",
]  # fmt: skip
_SAME_EVENT = ["visitor_id", "event_type", "product_id", "page", "search_term", "client_time"]
_RULES = {
    "no_time": pl.col("event_at").is_null(),
    "scientific_id": pl.col("has_scientific_id"),
    "implausible_day": pl.col("is_implausible"),
    "future": pl.col("own_day") > pl.col("day"),
    "too_late": pl.col("own_day") < pl.col("day"),
    "no_visitor": pl.col("visitor_id").is_null(),
    "unknown_type": pl.col("event_type").is_null(),
}
_PLACES = ("session_started_at", "active_since", "bot_rule")  # what the sessions of the day before may change
OPEN_COLUMNS = ("visitor_id", "event_at", "active_since", "session_started_at", "day")


def find_visitors(raw: pa.Table, null_words: _ids.NullWords) -> pa.Array:
    """Return the visitor of each row of bronze.events: the key of classify_events."""
    return _visitor(_ids.clean_ids(raw, ["visitor_id", "customer_id"], null_words)[0]).to_arrow()


@dataclass(frozen=True)
class Inputs:
    """What the rows of bronze.events are cleaned with, besides other rows: the same for all of a run.

    `mapped` are the columns that the source has, and `people` says whom ids and e-mail addresses name. Days
    and hours are those of `time_zone`.
    """

    people: _people.People
    currency: str
    settings: Clean
    mapped: Collection[str]
    null_words: _ids.NullWords
    time_zone: str = business_day.UTC


def classify_events(tables: dict[str, pa.Table], inputs: Inputs) -> dict[str, pa.Table]:
    """Type the rows of bronze.events, refuse those that break a rule, and keep the first of events that say the same.

    Key: visitor. Inputs: `raw`; `earlier`, the purchases of clean.visitor_days of some days before. Outputs: `kept`, typed;
    `rejects`, as received, for clean.events_rejects; `visitors`, with `is_named` where a customer is known on them;
    `fingerprints` (_robots.count_fingerprints); `agents`, the distinct user agents; `corrections` (_ids.measure_corrections).
    About 1 µs of CPU a row.
    """
    raw, settings = tables["raw"], inputs.settings
    typed, noted = _type_events(raw, inputs)
    rules = _rows.find_broken_rules(raw, typed, _RULES)
    is_refused = rules.list.len() > 0
    accepted = _people.name_customers(_identify_events(typed.filter(~is_refused)), inputs.people)
    repeated = _repeats.find_repeated(accepted, visitor_days.list_purchases(_rows.to_frame(tables["earlier"])), settings)
    is_repeated = pl.repeat(False, len(accepted), eager=True).scatter(repeated["row"], True)
    kept = accepted.filter(~is_repeated).drop("position").with_row_index("position")
    counts = _robots.count_fingerprints(kept, settings) if "visitor_id" in inputs.mapped else _robots.NO_COUNTS
    outputs = {
        "kept": kept.drop(
            "position", "_file", "_row", "client_time", "email_key", "has_scientific_id", "is_implausible", "own_day"
        ),
        "visitors": kept.group_by("visitor_id").agg(is_named=pl.col("known_customer_id").is_not_null().any()),
        "fingerprints": counts,
        "agents": kept.select("user_agent").unique(),
        "corrections": _ids.measure_corrections(raw, noted),
    }
    refused = typed.select("position").with_columns(rules).filter(is_refused)
    rejects = _select_rejects(raw, refused, _list_repeated(accepted, repeated))
    return {name: rows.to_arrow() for name, rows in outputs.items()} | {"rejects": rejects}


def _type_events(raw: pa.Table, inputs: Inputs) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the columns of each row in their types, `position` being its number; and what was noted of ids."""
    ids, noted = _ids.clean_ids(raw, _IDS, inputs.null_words)
    texts = ids.hstack(parsing.clean_texts(raw, _TEXTS))
    event_type = pl.col("event_type").str.to_lowercase()
    typed = texts.select(
        _visitor(texts).alias("visitor_id"),
        "customer_id", "email_key", "product_id", "category", "page", "country", "user_agent", "channel", "order_id", "address",
        source_id="event_id",
        event_type=pl.when(event_type.is_in(TYPES)).then(event_type),
        currency=pl.col("currency").str.to_uppercase().fill_null(inputs.currency),
        search_term=pl.col("search_term").str.to_lowercase(),
        device=pl.col("device").str.to_lowercase(),
    )  # fmt: skip
    price = parsing.parse_number(_rows.take_column(raw, "price"))
    times = parsing.correct_event_times(
        *(_rows.take_column(raw, name) for name in ("event_at", "sent_at", "received_at")), inputs.settings.clock_skew_seconds
    )
    rows = typed.hstack([*times, *_rows.take_origin(raw), price.alias("price")]).with_columns(
        price=pl.when(pl.col("price") > 0).then("price"),
        is_anonymous=pl.col("customer_id").is_null() & pl.col("email_key").is_null(),
        has_scientific_id=_ids.is_scientific(noted),
        own_day=business_day.to_day(pl.col("event_at"), inputs.time_zone),
    )
    return rows.with_columns(is_implausible=pl.col("own_day") < inputs.settings.first_day), noted


def _visitor(texts: pl.DataFrame) -> pl.Series:
    return texts.select(pl.coalesce("visitor_id", "customer_id")).to_series()


def _identify_events(accepted: pl.DataFrame) -> pl.DataFrame:
    """Add event_id: the source's; without one, a hash of what makes two events the same."""
    lacks_id = accepted["source_id"].is_null()
    if not lacks_id.any():
        return accepted.with_columns(event_id="source_id")
    texts = accepted.filter(lacks_id).with_columns(client_time=format_time(pl.col("client_time")))
    joined = texts.select(pl.concat_str([pl.col(c).fill_null("\x00") for c in _SAME_EVENT], separator="\x1f")).to_series()
    ids = pl.Series([hashlib.md5(text.encode()).hexdigest() for text in joined], dtype=pl.String)  # noqa: S324
    if lacks_id.all():
        return accepted.with_columns(event_id=ids)
    return accepted.with_columns(event_id=accepted["source_id"].scatter(lacks_id.arg_true(), ids))


def format_time(time: pl.Expr) -> pl.Expr:
    """Return a time as text, with as many digits of the fraction as it has."""
    fraction = time.dt.strftime(".%6f").str.strip_chars_end("0").str.strip_suffix(".")
    return time.dt.strftime("%Y-%m-%d %H:%M:%S") + fraction


def _list_repeated(accepted: pl.DataFrame, repeated: pl.DataFrame) -> pl.DataFrame:
    """Return the repeated rows: position, rules."""
    positions = accepted["position"].gather(repeated["row"])
    return pl.DataFrame({"position": positions, "rules": repeated.select(pl.concat_list("rule")).to_series()})


def _select_rejects(raw: pa.Table, refused: pl.DataFrame, repeated: pl.DataFrame) -> pa.Table:
    """Return the refused rows and the repeated ones (position, rules), as received, with their outcome and rules."""
    outcomes = [rows.with_columns(outcome=pl.lit(outcome)) for rows, outcome in ((refused, "reject"), (repeated, "duplicate"))]
    return _rows.select_rejects(raw, pl.concat(outcomes), events_rejects.TABLE)


def clean_visitors(tables: dict[str, pa.Table], fleets: pl.DataFrame, crawlers: pl.Series, inputs: Inputs) -> dict[str, pa.Table]:
    """Return clean.events and clean.visitor_days of the kept events: robots, sessions, customers.

    Key: visitor. Inputs: `kept` of classify_events; `open`, OPEN_COLUMNS of stored events of the days before; `later`, the
    stored events of days after whose sessions may change; `visitor_days`, those stored for other days, and `links`, the
    stored identities, of the visitors on which a customer is known. Outputs: `events`, those of `later` too; `visitor_days`;
    `purchases` of the kept
    events, by visitor and day; `links`, all of these visitors, and `linked`, the visitors; `changes` (kind, day): days of
    `later`, of links and of other stored events that change. Sorted by day. About 1.5 µs of CPU a row.
    """
    settings, mapped = inputs.settings, inputs.mapped
    kept, later, before, others = (_rows.to_frame(tables[name]) for name in ("kept", "later", "links", "visitor_days"))
    before = before.filter(pl.col("day").is_not_null())  # older lakes have links without one
    rows = _order_by_visitor(kept, later, _rows.to_frame(tables["open"]), inputs)
    placed = _place_in_sessions(_flag_robots(rows, crawlers, fleets, settings), inputs)
    fresh = placed.filter(~pl.col("is_stored"))
    new_days = visitor_days.summarize_visitor_days(fresh, has_visitors="visitor_id" in mapped)
    outputs = {"links": before.clear(), "linked": before.clear().select("visitor_id")}
    changes = {"later": _find_changed_days(placed)}
    if "visitor_id" in mapped:
        linked = pl.concat([fresh.filter(pl.col("known_customer_id").is_not_null())["visitor_id"], before["visitor_id"]]).unique()
        all_days = pl.concat([others, new_days.select(others.columns)]).filter(pl.col("visitor_id").is_in(linked.implode()))
        outputs |= {"links": identities.link_visitors(all_days, settings, inputs.people.shared), "linked": linked.to_frame()}
        changes["links"], changes["events"] = identities.find_changed_days(others, before, outputs["links"])
    fresh = identities.attach_customers(fresh.with_columns(customer_id="known_customer_id"), outputs["links"])
    stored = _restate(placed.filter("is_stored"), outputs["links"], outputs["linked"])
    outputs["events"] = pl.concat([rows.select(TABLE.columns) for rows in (fresh, stored)]).sort("day", maintain_order=True)
    outputs["visitor_days"] = new_days.select(visitor_days.TABLE.columns).sort("day", "visitor_id")
    outputs["purchases"] = new_days.select("visitor_id", "day", "purchases").drop_nulls("purchases")
    outputs["changes"] = pl.DataFrame(
        [(kind, day) for kind, days in changes.items() for day in days], {"kind": pl.String, "day": pl.Date}, orient="row"
    )
    return {name: rows.to_arrow() for name, rows in outputs.items()}


def restate_events(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """Return stored `events` with the customers that `links` give them; those of visitors not in `linked` as they are.

    Key: visitor. Output: `events`, sorted by day. About 0.5 µs of CPU a row.
    """
    restated = _restate(*(_rows.to_frame(tables[name]) for name in ("events", "links", "linked")))
    return {"events": restated.sort("day", "visitor_id", "event_at", "event_id").to_arrow()}


def _order_by_visitor(kept: pl.DataFrame, later: pl.DataFrame, before: pl.DataFrame, inputs: Inputs) -> pl.DataFrame:
    """Return the rows of each visitor together in the order of time, of equal moments those of days before first.

    Of the days `before` only events count whose session may go on (`is_earlier`). `is_stored` are `later` events.
    """
    midnight = business_day.start_of_day(pl.col("day").dt.offset_by("1d"), inputs.time_zone)
    is_open = pl.col("event_at") >= midnight - pl.duration(minutes=inputs.settings.session_gap_minutes)
    was = {f"was_{column}": pl.col(column) for column in _PLACES}
    rows = pl.concat(
        [
            before.filter(is_open).with_columns(is_earlier=True, is_stored=False),
            kept.with_columns(is_earlier=False, is_stored=False),
            later.with_columns(is_earlier=False, is_stored=True, **was),
        ],
        how="diagonal",
    )
    visitor = rows["visitor_id"].cast(pl.Categorical).to_physical().alias("visitor")
    return rows.with_columns(visitor).sort("visitor", "event_at", maintain_order=True)


def _flag_robots(rows: pl.DataFrame, crawlers: pl.Series, fleets: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Set bot_rule of the events that are neither stored nor of a day before."""
    is_fresh = ~(rows["is_earlier"] | rows["is_stored"])
    rules = _robots.flag_robots(number_visitor_days(rows.filter(is_fresh)), crawlers, fleets, settings)["bot_rule"]
    return rows.with_columns(bot_rule=rows["bot_rule"].scatter(is_fresh.arg_true(), rules))


def number_visitor_days(rows: pl.DataFrame) -> pl.DataFrame:
    """Add the number of the visitor's day to rows in the order of visitor and time."""
    return rows.with_columns(visitor_day=pl.struct("visitor", "day").rle_id())


def _place_in_sessions(rows: pl.DataFrame, inputs: Inputs) -> pl.DataFrame:
    """Return the fresh and the stored events in their sessions, with the robots that only these show."""
    placed = number_visitor_days(sessions.assign_sessions(rows, inputs.settings))
    return _robots.flag_round_the_clock_activity(placed, inputs.settings, inputs.time_zone)


def _find_changed_days(placed: pl.DataFrame) -> list[date]:
    """Return the days on which a stored event has another session or robot rule than it had."""
    stored = placed.filter("is_stored")
    differs = pl.any_horizontal(pl.col(c).ne_missing(pl.col(f"was_{c}")) for c in _PLACES)
    return stored.filter(differs)["day"].unique().to_list() if len(stored) else []


def _restate(stored: pl.DataFrame, links: pl.DataFrame, linked: pl.DataFrame) -> pl.DataFrame:
    """Return stored events of clean.events; those of `linked` visitors with the customers that `links` give them."""
    if not len(stored) or not len(linked):
        return stored.select(TABLE.columns)
    concerned = stored.join(linked, "visitor_id", "semi")
    attached = identities.attach_customers(identities.without_stitching(concerned), links)
    return pl.concat([attached.select(TABLE.columns), stored.join(linked, "visitor_id", "anti").select(TABLE.columns)])
