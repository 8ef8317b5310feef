"""clean.events: one row per event.

Inputs: bronze.events, and the last minutes of the day before for sessions that cross midnight. Argued about:
- an event is the same event if its id is; without an id, if visitor, type, product, page, words and second are;
- the customer is the one known at that time (clean.identities), back to the visitor's first event;
- a robot is flagged, never dropped.
"""

from collections.abc import Iterator
from datetime import timedelta

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.clean import _rows
from jobs.lake import Table
from jobs.settings import Clean
from jobs.source import COLUMNS

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
    bot_rule STRING COMMENT 'user_agent, rate or no_human_pause',
    channel STRING COMMENT 'where the visit came from',
    session_started_at TIMESTAMP NOT NULL COMMENT 'first event of the session',
    active_since TIMESTAMP NOT NULL COMMENT 'start of the activity without a silence, which may span cut sessions',
    identified_on DATE COMMENT 'day on which the customer of this event became known',
    signed_in BOOLEAN NOT NULL COMMENT 'the event itself named its customer, by id or e-mail'"""
TABLE = Table(
    "clean.events", __doc__.split("\n\n")[0], SCHEMA, "day",
    {"type_known": f"event_type IN {TYPES}", "bot_has_rule": "is_bot = (bot_rule IS NOT NULL)"},
)  # fmt: skip
REJECTS = _rows.rejects_table("events", COLUMNS["events"])


def judged(raw: DataFrame, currency: str) -> DataFrame:
    """Every bronze event, typed, with `outcome` (kept, reject, duplicate), `rules`."""
    event_type = F.lower(_rows.text("event_type"))
    price = _rows.number("price")
    typed = raw.select(
        "_extra", "_source", "_file", "_row", "day",
        _rows.text("event_id").alias("source_id"),
        _rows.moment("event_at").alias("event_at"),
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


def _without_duplicates(typed: DataFrame) -> DataFrame:
    """Outcome and rules: of equal events the first in file order is kept."""
    what = ("visitor_id", "event_type", "product_id", "page", "search_term", "event_at")
    same = F.md5(F.concat_ws("\x1f", *(F.coalesce(F.col(c).cast("string"), F.lit("\x00")) for c in what)))
    keyed = typed.withColumn("event_id", F.coalesce("source_id", same))
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
    )


def with_bots(kept: DataFrame, settings: Clean, has_user_agents: bool) -> DataFrame:
    """Adds is_bot and bot_rule, decided per visitor and day."""
    visitor_day = Window.partitionBy("visitor_id", "day")
    pause = F.unix_micros("event_at") - F.unix_micros(F.lag("event_at").over(visitor_day.orderBy("event_at")))
    pauses = F.count_if(F.col("_pause") > 0).over(visitor_day)
    short = F.count_if((F.col("_pause") > 0) & (F.col("_pause") <= settings.bot_pause_seconds * 1e6)).over(visitor_day)
    if has_user_agents:
        agents = kept.select("user_agent").where("user_agent IS NOT NULL").distinct()
        crawlers = agents.mapInArrow(_crawlers, "user_agent STRING, is_crawler BOOLEAN").where("is_crawler")
        kept = kept.join(F.broadcast(crawlers), "user_agent", "left")
    else:
        kept = kept.withColumn("is_crawler", F.lit(None).cast("boolean"))
    by_agent = F.coalesce(F.max("is_crawler").over(visitor_day), F.lit(False))
    counted = kept.withColumn("_pause", pause).withColumns({"_pauses": pauses, "_short": short, "_crawler": by_agent})
    rule = (
        F.when(F.col("_crawler"), "user_agent")
        .when(F.col("_pauses") >= settings.bot_events_per_day, "rate")
        .when(
            (F.col("_pauses") >= settings.bot_pause_events) & (F.col("_short") * 2 >= F.col("_pauses")),
            "no_human_pause",
        )
    )
    return counted.withColumn("bot_rule", rule).withColumn("is_bot", rule.isNotNull())


def with_sessions(kept: DataFrame, tail: DataFrame, settings: Clean) -> DataFrame:
    """Adds session_id, session_started_at and active_since; `tail` holds events of the day before that may go on.

    A session ends after the silence gap; unbroken activity is cut every `session_max_hours` from its start.
    """
    gap = timedelta(minutes=settings.session_gap_minutes)
    known = tail.select("visitor_id", "event_at", "active_since", F.col("session_started_at").alias("_started"))
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
