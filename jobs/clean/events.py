"""clean.events: one row per event.

Inputs: bronze.events, and the last minutes of the day before for sessions that cross midnight. Rules that may be debated:
- Two events are the same if their ids are; without ids, if visitor, type, product, page, search words and time are.
- The customer is the one known at that time (clean.identities), back to the visitor's first event.
- A robot is flagged, never dropped.
- A client's wrong clock is corrected where the source sends both clocks, and the correction is kept in a column.
"""

from collections.abc import Collection, Iterator
from datetime import timedelta

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.clean import _rows
from jobs.config.settings import Clean
from jobs.event_time import correct_event_time, parse_time
from jobs.storage.table import Table

TYPES = ("view", "search", "add_to_cart", "remove_from_cart", "begin_checkout", "purchase", "login", "other")

SCHEMA = """
    event_id STRING NOT NULL COMMENT 'id of the event; made from what it is where the source has none',
    day DATE NOT NULL COMMENT 'day it happened, UTC',
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
    bot_rule STRING COMMENT 'the rule: user_agent, rate, no_human_pause, even_pauses, one_hit_fleet or around_the_clock',
    channel STRING COMMENT 'where the visit came from',
    session_started_at TIMESTAMP NOT NULL COMMENT 'first event of the session',
    active_since TIMESTAMP NOT NULL COMMENT 'start of the activity without a silence, which may span cut sessions',
    identified_on DATE COMMENT 'day on which the customer of this event became known',
    signed_in BOOLEAN NOT NULL COMMENT 'the event itself named its customer, by id or e-mail',
    clock_skew_seconds DOUBLE COMMENT 'seconds by which the time sent was corrected; null where it was not',
    shared_since DATE COMMENT 'day from which too many customers are known on the visitor; see clean.identity_alarms',
    former_customer_id STRING COMMENT 'customer it was given to, from identified_on until shared_since'"""
TABLE = Table(
    "clean.events", __doc__.split("\n\n")[0], SCHEMA, "day",
    {"type_known": f"event_type IN {TYPES}", "bot_has_rule": "is_bot = (bot_rule IS NOT NULL)"},
    {"delta.dataSkippingStatsColumns": "event_at,customer_id,shared_since"},  # features skip files by the last
)  # fmt: skip


# Attributes that are equal for all events of a fleet, besides the time.
_FINGERPRINT = ("user_agent", "event_type", "product_id", "page", "search_term", "device", "country", "channel")


def classify_events(raw: DataFrame, currency: str, clock_skew_seconds: float) -> DataFrame:
    """Return every bronze event, typed, with its `outcome` (kept, reject or duplicate) and `rules`."""
    event_at, skew = correct_event_time(clock_skew_seconds)
    event_type = F.lower(_rows.text("event_type"))
    price = _rows.number("price")
    typed = raw.select(
        "_extra", "_source", "_file", "_row", "day",
        _rows.text("event_id").alias("source_id"),
        event_at.alias("event_at"),
        skew.alias("clock_skew_seconds"),
        parse_time("event_at").alias("_client_time"),
        F.coalesce(_rows.text("visitor_id"), _rows.text("customer_id")).alias("visitor_id"),
        _rows.text("customer_id").alias("customer_id"),
        _rows.text("email_key").alias("email_key"),
        F.when(event_type.isin(*TYPES), event_type).alias("event_type"),
        _rows.text("product_id").alias("product_id"),
        _rows.text("category").alias("category"),
        F.when(price > 0, price).alias("price"),
        F.coalesce(F.upper(_rows.text("currency")), F.lit(currency)).alias("currency"),
        F.lower(_rows.text("search_term")).alias("search_term"),
        _rows.text("page").alias("page"),
        F.lower(_rows.text("device")).alias("device"),
        _rows.text("country").alias("country"),
        _rows.text("user_agent").alias("user_agent"),
        _rows.text("channel").alias("channel"),
    )  # fmt: skip
    own_day = F.to_date("event_at")
    rules = {
        "no_time": F.col("event_at").isNull(),
        "future": own_day > F.col("day"),
        "too_late": own_day < F.col("day"),
        "no_visitor": F.col("visitor_id").isNull(),
        "unknown_type": F.col("event_type").isNull(),
    }
    return _without_duplicates(typed.withColumn("rules", _rows.broken_rules(rules)).drop("_extra"))


def customer_lookups(raw: DataFrame) -> DataFrame:
    """Return the rows (key, day) of bronze.events that name a customer by an e-mail address."""
    return raw.select(_rows.text("email_key").alias("key"), "day").where("key IS NOT NULL")


def _without_duplicates(typed: DataFrame) -> DataFrame:
    """Outcome and rules: of equal events the first in file order is kept."""
    what = ("visitor_id", "event_type", "product_id", "page", "search_term", "_client_time")
    keyed = typed.withColumn("event_id", F.coalesce("source_id", F.md5(_joined(what))))
    refused = F.size("rules") > 0
    # partitioned by the visitor alone, so that sessions and robots need no further shuffle
    first = Window.partitionBy("visitor_id", "day", "event_id", refused).orderBy("_file", "_row")
    repeated = ~refused & (F.row_number().over(first) > 1)
    rule = F.when(F.col("source_id").isNotNull(), "same_id").otherwise("same_event")
    return (
        keyed.repartition("visitor_id")
        .withColumn("_repeated", repeated)
        .withColumn("outcome", F.when(refused, "reject").when(F.col("_repeated"), "duplicate").otherwise("kept"))
        .withColumn("rules", F.when(F.col("_repeated"), F.array(rule)).otherwise(F.col("rules")))
        .drop("_client_time")
    )


def flag_bots(kept: DataFrame, settings: Clean, mapped: Collection[str]) -> DataFrame:
    """Add is_bot and bot_rule, decided per visitor and day; `mapped` are the columns that the source has."""
    visitor_day = Window.partitionBy("visitor_id", "day")
    micros = F.unix_micros("event_at")
    pause = F.col("_pause")
    within = F.when((pause > 0) & (pause <= settings.session_gap_minutes * 60_000_000), pause)
    even = F.stddev_pop(within).over(visitor_day) <= settings.bot_even_spread * F.avg(within).over(visitor_day)
    of_day = {
        "_events": F.count("*").over(visitor_day),
        "_pauses": F.count_if(pause > 0).over(visitor_day),
        "_short": F.count_if((pause > 0) & (pause <= settings.bot_pause_seconds * 1e6)).over(visitor_day),
        "_even": even & (F.count(within).over(visitor_day) >= settings.bot_even_pauses),
        "_crawler": F.max("is_crawler").over(visitor_day),
    }
    looked = _flag_one_hit_fleets(_flag_crawlers(kept, "user_agent" in mapped), settings, "visitor_id" in mapped)
    counted = looked.withColumn("_pause", micros - F.lag(micros).over(visitor_day.orderBy("event_at"))).withColumns(of_day)
    rule = (
        F.when(F.col("_crawler"), "user_agent")
        .when(F.col("_pauses") >= settings.bot_events_per_day, "rate")
        .when(
            (F.col("_pauses") >= settings.bot_pause_events) & (F.col("_short") * 2 >= F.col("_pauses")),
            "no_human_pause",
        )
        .when(F.col("_even"), "even_pauses")
        .when(F.col("_in_fleet") & (F.col("_events") == 1) & _anonymous(), "one_hit_fleet")
    )
    return counted.drop("_fingerprint", "_agent", "_stretch").withColumn("bot_rule", rule)


def flag_round_the_clock_activity(placed: DataFrame, settings: Clean) -> DataFrame:
    """Set bot_rule and is_bot of events in sessions by the rule that looks beyond the day; an earlier rule is kept."""
    visitor_day = Window.partitionBy("visitor_id", "day")
    hours = F.bit_count(F.bit_or(F.expr("shiftleft(1, hour(event_at))")).over(visitor_day))
    unbroken = F.max(F.unix_micros("event_at") - F.unix_micros("active_since")).over(visitor_day)
    is_active_long = (hours >= settings.bot_active_hours) | (unbroken >= settings.bot_active_hours * 3_600_000_000)
    name = "around_the_clock"
    rule = F.coalesce(F.nullif("bot_rule", F.lit(name)), F.when(is_active_long, name))
    return placed.withColumn("bot_rule", rule).withColumn("is_bot", F.col("bot_rule").isNotNull())


def _flag_crawlers(kept: DataFrame, has_user_agents: bool) -> DataFrame:
    """Adds is_crawler: true, or null."""
    if not has_user_agents:
        return kept.withColumn("is_crawler", F.lit(None).cast("boolean"))
    agents = kept.select("user_agent").where("user_agent IS NOT NULL").distinct()
    crawlers = agents.mapInArrow(_crawlers, "user_agent STRING, is_crawler BOOLEAN").where("is_crawler")
    return kept.join(F.broadcast(crawlers), "user_agent", "left")


def _flag_one_hit_fleets(kept: DataFrame, settings: Clean, has_visitors: bool) -> DataFrame:
    """Add _in_fleet: true where the event belongs to a fleet, else null.

    A fleet is many ids with equal attributes and one event each on a day. Ids with the user agent of a fleet hardly do
    anything else; people who open one page with a common browser do.
    """
    if not has_visitors:  # every visitor is a customer
        return kept.withColumn("_in_fleet", F.lit(None).cast("boolean"))
    stretch = F.floor(F.unix_seconds("event_at") / (settings.bot_fleet_minutes * 60))
    fingerprints = kept.withColumn("_stretch", stretch).withColumns(
        {
            "_fingerprint": F.xxhash64(_joined(("_stretch", *_FINGERPRINT))),
            "_agent": F.xxhash64(_joined(("day", "user_agent", "country"))),
        }
    )
    ids = fingerprints.groupBy("visitor_id", "day").agg(
        F.min("_fingerprint").alias("_fingerprint"),
        F.min("_agent").alias("_agent"),
        ((F.count("*") == 1) & F.every(_anonymous())).alias("_one_hit"),
    )
    sizes = ids.groupBy("_agent", F.when(F.col("_one_hit"), F.col("_fingerprint")).alias("_fingerprint")).agg(
        F.count("*").alias("_ids")
    )
    many = F.col("_fingerprint").isNotNull() & (F.col("_ids") >= settings.bot_fleet_ids)
    same_agent = Window.partitionBy("_agent")
    share = F.sum(F.when(many, F.col("_ids"))).over(same_agent) / F.sum("_ids").over(same_agent)
    fleets = sizes.select("_fingerprint", many.alias("_in_fleet"), share.alias("_share"))
    fleets = fleets.where(F.col("_in_fleet") & (F.col("_share") >= settings.bot_fleet_share)).drop("_share")
    return fingerprints.join(F.broadcast(fleets), "_fingerprint", "left")


def _anonymous() -> Column:
    """The event itself names no customer."""
    return F.coalesce("customer_id", "email_key").isNull()


def _joined(columns: Collection[str]) -> Column:
    """The columns' values as one text, in which a missing one shows."""
    return F.concat_ws("\x1f", *(F.coalesce(F.col(c).cast("string"), F.lit("\x00")) for c in columns))


def open_sessions(placed: DataFrame, eves: Collection, settings: Clean) -> DataFrame:
    """Return the events of the days `eves` that are late enough for their session to go on the next day."""
    midnight = F.date_add("day", 1).cast("timestamp")
    late = F.col("event_at") >= midnight - F.lit(timedelta(minutes=settings.session_gap_minutes))
    return placed.where(F.col("day").isin(*eves) & late)


def assign_sessions(kept: DataFrame, open_sessions: DataFrame, settings: Clean) -> DataFrame:
    """Add session_id, session_started_at and active_since; `open_sessions` has events of days before that may go on.

    A session ends after the silence gap; unbroken activity is cut every `session_max_hours` from its start.
    """
    gap = timedelta(minutes=settings.session_gap_minutes)
    known = open_sessions.select("visitor_id", "event_at", "active_since", F.col("session_started_at").alias("_started"))
    fresh = {"active_since": F.lit(None).cast("timestamp"), "_started": F.lit(None).cast("timestamp")}
    both = kept.withColumns({**fresh, "_tail": F.lit(False)}).unionByName(
        known.withColumn("_tail", F.lit(True)), allowMissingColumns=True
    )
    in_order = Window.partitionBy("visitor_id").orderBy("event_at", F.desc("_tail"))
    before = F.lag("event_at").over(in_order)
    starts = before.isNull() | (F.col("event_at") > before + F.lit(gap))
    since = F.coalesce("active_since", F.when(starts, F.col("event_at")))
    hours = F.floor((F.unix_micros("event_at") - F.unix_micros("active_since")) / (settings.session_max_hours * 3_600_000_000))
    session = Window.partitionBy("visitor_id", "active_since", "_cut")
    return (
        both.withColumn("active_since", since)
        .withColumn("active_since", F.last("active_since", ignorenulls=True).over(in_order))
        .withColumn("_cut", hours)
        .withColumn("session_started_at", F.min(F.coalesce("_started", "event_at")).over(session))
        .withColumn("session_id", F.md5(F.concat_ws("|", "visitor_id", F.unix_micros("session_started_at"))))
        .where("NOT _tail")
    )


def _crawlers(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """User agents with what the crawler-user-agents list says of them, whatever their case."""
    import re

    from crawleruseragents import CRAWLER_USER_AGENTS_DATA

    pattern = re.compile("|".join(entry["pattern"] for entry in CRAWLER_USER_AGENTS_DATA), re.IGNORECASE)
    for batch in batches:
        found = pa.array([bool(pattern.search(agent)) for agent in batch.column(0).to_pylist()], pa.bool_())
        yield pa.RecordBatch.from_arrays([batch.column(0), found], names=["user_agent", "is_crawler"])
