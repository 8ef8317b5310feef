"""The features as one would compute them in plain Spark, without daily aggregates.

Window functions over the raw events number the sessions. Each window is an aggregation with count-distinct, and all are joined.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from benchmarks.peer_features import EVENT_ROWS, EVENTS, FEATURES, RETURN_ROWS, SALE_ROWS, WINDOWS, within_days, zero_if_null
from jobs.engine.session import open_session


def compute_features(lake: str, day: date, out: Path) -> None:
    """Write FEATURES of every customer as of the day, as Parquet."""
    session = open_session("plain features")
    read = partial(_read, session, lake, day)
    events = _number_sessions(read("events", EVENT_ROWS))
    orders = read("orders", SALE_ROWS).withColumn("paid", F.col("gross_amount") - F.col("discount_amount"))
    returns = read("returns", RETURN_ROWS)
    parts = [
        *_sum_events(events, day),
        *_sum_money(orders, returns, day),
        *_count_variety(orders.where(within_days("day", day, 365))),
        *_first_and_last_days(events, orders, returns),
        _registration_days(read("customers", "day <= DATE '{day}'"), day),
    ]
    sums = parts[0]
    for part in parts[1:]:
        sums = sums.join(part, "customer_id", "full")
    columns = (f"{text} AS {name}" for name, text in FEATURES.items())
    _with_days_and_net(sums, day).selectExpr("customer_id", *columns).write.parquet(str(out))
    session.stop()


def _read(session: SparkSession, lake: str, day: date, table: str, where: str) -> DataFrame:
    return session.read.format("delta").load(f"{lake}/clean/{table}").where(where.format(day=day))


def _number_sessions(events: DataFrame) -> DataFrame:
    """Add to each event its session's day, length, seconds and funnel days, and its own number in the session."""
    session_window = Window.partitionBy("customer_id", "session_id")

    def first_day_of(event_type: str) -> Column:
        return F.min(F.when(F.col("event_type") == event_type, F.col("day"))).over(session_window)

    last, first = (F.unix_seconds(bound("event_at").over(session_window)) for bound in (F.max, F.min))
    return events.withColumns(
        {
            "session_day": F.to_date("session_started_at"),
            "n": F.count("*").over(session_window),
            "seconds": last - first,
            "nth": F.row_number().over(session_window.orderBy("event_at", "event_id")),
            "cart_day": first_day_of("add_to_cart"),
            "checkout_day": first_day_of("begin_checkout"),
            "purchase_day": first_day_of("purchase"),
        }
    )


def _sum_events(events: DataFrame, day: date) -> Iterator[DataFrame]:
    """Yield the sums of events and sessions by customer, a frame per window."""

    def count_sessions(condition: str) -> Column:
        return F.count_distinct(F.when(F.expr(condition), F.col("session_id")))

    conditions = {name: text.format(weekend="weekday(day) >= 5") for name, text in EVENTS.items()}
    for w in WINDOWS:
        counts = [F.count_if(F.expr(text)).alias(f"{name}_{w}") for name, text in conditions.items()]
        began = f"session_day > DATE '{day - timedelta(days=w)}'"
        yield (
            events.where(within_days("day", day, w)).groupBy("customer_id").agg(
                *counts,
                F.count_distinct("day").alias(f"active_days_{w}"),
                count_sessions(began).alias(f"sessions_{w}"),
                count_sessions(f"{began} AND cart_day IS NOT NULL").alias(f"cart_sessions_{w}"),
                count_sessions(f"{began} AND cart_day IS NOT NULL AND checkout_day IS NOT NULL").alias(f"checkout_sessions_{w}"),
                count_sessions(f"{began} AND purchase_day IS NOT NULL").alias(f"purchase_sessions_{w}"),
                count_sessions(f"{began} AND cart_day IS NOT NULL AND purchase_day IS NULL").alias(f"abandoned_carts_{w}"),
                F.count_if(F.expr(f"{began} AND nth = 1 AND n = 1")).alias(f"bounces_{w}"),
                F.sum(F.expr(f"CASE WHEN {began} AND nth = 1 THEN seconds END")).alias(f"seconds_{w}"),
            )
        )  # fmt: skip
    yield events.where(within_days("day", day, 60, 30)).groupBy("customer_id").agg(F.count("*").alias("events_30_60"))


def _sum_money(orders: DataFrame, returns: DataFrame, day: date) -> Iterator[DataFrame]:
    """Yield the sums of orders and of returns by customer, a frame each per window."""
    windows = {str(w): within_days("day", day, w) for w in WINDOWS} | {"90_180": within_days("day", day, 180, 90)}
    for name, condition in windows.items():
        yield (
            orders.where(condition).groupBy("customer_id").agg(
                F.count_distinct("order_id").alias(f"orders_{name}"),
                F.count_distinct(F.expr("CASE WHEN weekday(day) >= 5 THEN order_id END")).alias(f"weekend_orders_{name}"),
                F.count("*").alias(f"lines_{name}"),
                F.sum("quantity").alias(f"items_{name}"),
                F.sum("gross_amount").alias(f"gross_{name}"),
                F.sum("discount_amount").alias(f"discount_{name}"),
            )
        )  # fmt: skip
        yield (
            returns.where(condition).groupBy("customer_id").agg(
                F.count_distinct("return_order_id", "return_line_no").alias(f"returns_{name}"),
                F.sum("amount").alias(f"returned_{name}"),
            )
        )  # fmt: skip


def _count_variety(orders: DataFrame) -> Iterator[DataFrame]:
    """Yield the numbers of products and categories by customer, and the money of the largest category."""
    yield orders.groupBy("customer_id").agg(
        F.count_distinct("product_id").alias("products_bought"), F.count_distinct("category").alias("categories_bought")
    )
    by_category = orders.groupBy("customer_id", "category").agg(F.sum("paid").alias("paid"))
    largest = F.max(F.when(F.col("category").isNotNull(), F.col("paid"))).alias("top_category")
    yield by_category.groupBy("customer_id").agg(largest, F.sum("paid").alias("paid"))


def _first_and_last_days(events: DataFrame, orders: DataFrame, returns: DataFrame) -> Iterator[DataFrame]:
    """Yield the first and last days of orders, events and returns by customer."""
    first, last, n_days = F.min("day"), F.max("day"), F.count_distinct("day")
    yield orders.groupBy("customer_id").agg(
        first.alias("order_first"), last.alias("order_last"), n_days.alias("order_days"),
        F.count_distinct("order_id").alias("orders_life"),
    )  # fmt: skip
    yield events.groupBy("customer_id").agg(first.alias("event_first"), last.alias("event_last"))
    yield returns.groupBy("customer_id").agg(first.alias("return_first"))


def _registration_days(customers: DataFrame, day: date) -> DataFrame:
    registered = customers.groupBy("customer_id").agg(F.min(F.to_date("registered_at")).alias("registered"))
    return registered.where(f"registered <= DATE '{day}'")


def _with_days_and_net(sums: DataFrame, day: date) -> DataFrame:
    last_seen = F.greatest("event_last", "order_last")
    first_known = F.least("registered", "event_first", "order_first", "return_first")
    net = {
        f"net_{name}": F.expr(" - ".join(zero_if_null(f"{part}_{name}") for part in ("gross", "discount", "returned")))
        for name in (*map(str, WINDOWS), "90_180")
    }
    return sums.withColumns(
        {
            "recency_days": F.datediff(F.lit(day), last_seen),
            "order_recency_days": F.datediff(F.lit(day), F.col("order_last")),
            "tenure_days": F.datediff(F.lit(day), first_known),
            "order_span": F.datediff(F.col("order_last"), F.col("order_first")),
            **net,
        }
    )
