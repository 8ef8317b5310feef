"""clean.sessions: one row per session, on the day it began.

Input: clean.events of those days and of as many after as the longest session reaches into. Robots' sessions are flagged.
"""

from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.settings import Clean
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    session_id STRING NOT NULL COMMENT 'session',
    day DATE NOT NULL COMMENT 'day it began, UTC',
    customer_id STRING COMMENT 'last customer known in it',
    visitor_id STRING NOT NULL COMMENT 'device or browser',
    started_at TIMESTAMP NOT NULL COMMENT 'first event',
    ended_at TIMESTAMP NOT NULL COMMENT 'last event',
    n_events BIGINT NOT NULL COMMENT 'events',
    n_views BIGINT NOT NULL COMMENT 'views',
    n_searches BIGINT NOT NULL COMMENT 'searches',
    n_cart_adds BIGINT NOT NULL COMMENT 'products put in the cart',
    n_checkouts BIGINT NOT NULL COMMENT 'checkouts begun',
    n_purchases BIGINT NOT NULL COMMENT 'purchase events',
    device STRING COMMENT 'kind of device at the start',
    country STRING COMMENT 'country at the start',
    channel STRING COMMENT 'where the visit came from',
    is_bot BOOLEAN NOT NULL COMMENT 'holds events of a robot',
    was_cut BOOLEAN NOT NULL COMMENT 'goes on from a session that reached its longest'"""
TABLE = Table("clean.sessions", __doc__.split("\n\n")[0], SCHEMA, "day", {"ends_after_start": "ended_at >= started_at"})


def sessions(events: DataFrame) -> DataFrame:
    """One row per session of these events."""

    def first(column: str):
        return F.min_by(column, F.when(F.col(column).isNotNull(), F.col("event_at")))

    def n(event_type: str):
        return F.count_if(F.col("event_type") == event_type)

    return events.groupBy("session_id", F.to_date("session_started_at").alias("day")).agg(
        F.max_by("customer_id", F.when(F.col("customer_id").isNotNull(), F.col("event_at"))).alias("customer_id"),
        F.min("visitor_id").alias("visitor_id"),
        F.min("event_at").alias("started_at"),
        F.max("event_at").alias("ended_at"),
        F.count("*").alias("n_events"),
        n("view").alias("n_views"),
        n("search").alias("n_searches"),
        n("add_to_cart").alias("n_cart_adds"),
        n("begin_checkout").alias("n_checkouts"),
        n("purchase").alias("n_purchases"),
        first("device").alias("device"),
        first("country").alias("country"),
        first("channel").alias("channel"),
        F.max("is_bot").alias("is_bot"),
        F.max(F.col("active_since") < F.col("session_started_at")).alias("was_cut"),
    )


def run(lake: Lake, cleaned: list[date], settings: Clean) -> None:
    """Write the sessions that may have an event on one of the cleaned days."""
    reach = [timedelta(days=n) for n in range(-(-settings.session_max_hours // 24) + 1)]
    began = sorted({day - before for day in cleaned for before in reach})
    days = sorted({day + after for day in began for after in reach})
    events = lake.read("clean.events", days[0], days[-1]).where(F.col("day").isin(*days))
    lake.replace_days(TABLE, sessions(events).where(F.col("day").isin(*began)), began)
