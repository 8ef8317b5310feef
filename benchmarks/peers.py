"""The same features, computed as one would without Shoal, from the same clean tables: in plain Spark and in DuckDB.

The plain way numbers sessions by window functions over the raw events and counts distinct sessions and days in each
window. DuckDB adds up by session and day first. Both end in the same last step, `FEATURES`, and write one Parquet file.
"""

import sys
from datetime import date, timedelta
from pathlib import Path

WINDOWS = (7, 30, 90, 365)
# Conditions on one event, by what they count; {weekend} is the engine's own.
EVENTS = {
    "events": "TRUE",
    "views": "event_type = 'view'",
    "searches": "event_type = 'search'",
    "cart_adds": "event_type = 'add_to_cart'",
    "checkouts": "event_type = 'begin_checkout'",
    "night": "hour(event_at) < 6",
    "morning": "hour(event_at) BETWEEN 6 AND 11",
    "evening": "hour(event_at) >= 18",
    "mobile": "device IN ('mobile', 'phone', 'smartphone')",
    "tablet": "device = 'tablet'",
    "weekend": "{weekend}",
}
OURS = "NOT is_bot AND customer_id IS NOT NULL AND day <= DATE '{day}'"
SALES = "customer_id IS NOT NULL AND quantity > 0 AND day <= DATE '{day}'"
BACK = "customer_id IS NOT NULL AND day <= DATE '{day}'"


def _zero(name: str) -> str:
    return f"coalesce({name}, 0)"


def _ratio(part: str, whole: str) -> str:
    return f"CAST(coalesce({part}, 0) AS DOUBLE) / nullif(CAST(coalesce({whole}, 0) AS DOUBLE), 0)"


def _trend(now: str, before: str) -> str:
    now, before = (f"CAST(coalesce({name}, 0) AS DOUBLE)" for name in (now, before))
    return f"({now} - {before}) / nullif(abs({now}) + abs({before}), 0)"


def _in_windows(names: str, windows: tuple[int, ...]) -> dict[str, str]:
    return {f"{name}_{w}d": _zero(f"{name}_{w}") for name in names.split() for w in windows}


# Columns of features.customers, out of sums named <what>_<window>.
FEATURES = {
    "recency_days": "recency_days",
    "order_recency_days": "order_recency_days",
    "tenure_days": "tenure_days",
    **_in_windows("orders net events sessions", WINDOWS),
    **_in_windows("active_days views searches cart_adds checkouts abandoned_carts", (30, 365)),
    **_in_windows("returns", (90, 365)),
    "gross_365d": _zero("gross_365"),
    "orders_life": _zero("orders_life"),
    "products_bought_365d": _zero("products_bought"),
    "categories_bought_365d": _zero("categories_bought"),
    "average_order_365d": _ratio("gross_365 - discount_365", "orders_365"),
    "items_per_order_365d": _ratio("items_365", "orders_365"),
    "lines_per_order_365d": _ratio("lines_365", "orders_365"),
    "top_category_share_365d": "CAST(top_category AS DOUBLE) / nullif(CAST(paid AS DOUBLE), 0)",
    "discount_share_365d": _ratio("discount_365", "gross_365"),
    "return_share_365d": _ratio("returned_365", "gross_365"),
    "order_gap_days": "CAST(order_span AS DOUBLE) / nullif(order_days - 1, 0)",
    "weekend_order_share_365d": _ratio("weekend_orders_365", "orders_365"),
    "session_seconds_365d": _ratio("seconds_365", "sessions_365"),
    "events_per_session_365d": _ratio("events_365", "sessions_365"),
    "bounce_share_365d": _ratio("bounces_365", "sessions_365"),
    "cart_rate_365d": _ratio("cart_sessions_365", "sessions_365"),
    "checkout_rate_365d": _ratio("checkout_sessions_365", "cart_sessions_365"),
    "purchase_rate_365d": _ratio("purchase_sessions_365", "sessions_365"),
    "search_share_365d": _ratio("searches_365", "events_365"),
    **{f"{part}_share_365d": _ratio(f"{part}_365", "events_365") for part in ("night", "morning", "evening", "weekend")},
    **{f"{part}_share_365d": _ratio(f"{part}_365", "events_365") for part in ("mobile", "tablet")},
    "net_trend_90d": _trend("net_90", "net_90_180"),
    "events_trend_30d": _trend("events_30", "events_30_60"),
}


def spark(lake: str, day: date, out: Path) -> None:
    """The plain way: raw events with window functions, each window an aggregate with count-distinct, all joined."""
    from pyspark.sql import DataFrame, Window
    from pyspark.sql import functions as F

    from jobs.engine.session import open_session

    session = open_session("plain features")

    def read(table: str, where: str) -> DataFrame:
        return session.read.format("delta").load(f"{lake}/clean/{table}").where(where.format(day=day))

    def since(days: int, until: int = 0) -> str:
        return f"day > DATE '{day - timedelta(days=days)}' AND day <= DATE '{day - timedelta(days=until)}'"

    of_session = Window.partitionBy("customer_id", "session_id")

    def day_of(event_type: str):
        return F.min(F.when(F.col("event_type") == event_type, F.col("day"))).over(of_session)

    seconds = F.unix_seconds(F.max("event_at").over(of_session)) - F.unix_seconds(F.min("event_at").over(of_session))
    events = read("events", OURS).withColumns(
        {
            "session_day": F.to_date("session_started_at"),
            "n": F.count("*").over(of_session),
            "seconds": seconds,
            "nth": F.row_number().over(of_session.orderBy("event_at", "event_id")),
            "cart_day": day_of("add_to_cart"),
            "checkout_day": day_of("begin_checkout"),
            "purchase_day": day_of("purchase"),
        }
    )

    def sessions(condition: str):
        return F.count_distinct(F.when(F.expr(condition), F.col("session_id")))

    conditions = {name: text.format(weekend="weekday(day) >= 5") for name, text in EVENTS.items()}
    parts = []
    for w in WINDOWS:
        start = f"DATE '{day - timedelta(days=w)}'"
        counts = [F.count_if(F.expr(text)).alias(f"{name}_{w}") for name, text in conditions.items()]
        began = f"session_day > {start}"
        parts.append(
            events.where(since(w)).groupBy("customer_id").agg(
                *counts,
                F.count_distinct("day").alias(f"active_days_{w}"),
                sessions(began).alias(f"sessions_{w}"),
                sessions(f"{began} AND cart_day IS NOT NULL").alias(f"cart_sessions_{w}"),
                sessions(f"{began} AND cart_day IS NOT NULL AND checkout_day IS NOT NULL").alias(f"checkout_sessions_{w}"),
                sessions(f"{began} AND purchase_day IS NOT NULL").alias(f"purchase_sessions_{w}"),
                sessions(f"{began} AND cart_day IS NOT NULL AND purchase_day IS NULL").alias(f"abandoned_carts_{w}"),
                F.count_if(F.expr(f"{began} AND nth = 1 AND n = 1")).alias(f"bounces_{w}"),
                F.sum(F.expr(f"CASE WHEN {began} AND nth = 1 THEN seconds END")).alias(f"seconds_{w}"),
            )
        )  # fmt: skip
    parts.append(events.where(since(60, 30)).groupBy("customer_id").agg(F.count("*").alias("events_30_60")))
    orders = read("orders", SALES).withColumn("paid", F.col("gross_amount") - F.col("discount_amount"))
    returns = read("returns", BACK)
    for name, within in (*((str(w), since(w)) for w in WINDOWS), ("90_180", since(180, 90))):
        parts.append(
            orders.where(within).groupBy("customer_id").agg(
                F.count_distinct("order_id").alias(f"orders_{name}"),
                F.count_distinct(F.expr("CASE WHEN weekday(day) >= 5 THEN order_id END")).alias(f"weekend_orders_{name}"),
                F.count("*").alias(f"lines_{name}"),
                F.sum("quantity").alias(f"items_{name}"),
                F.sum("gross_amount").alias(f"gross_{name}"),
                F.sum("discount_amount").alias(f"discount_{name}"),
            )
        )  # fmt: skip
        parts.append(
            returns.where(within).groupBy("customer_id").agg(
                F.count_distinct("return_order_id", "return_line_no").alias(f"returns_{name}"),
                F.sum("amount").alias(f"returned_{name}"),
            )
        )  # fmt: skip
    year = orders.where(since(365))
    by_category = year.groupBy("customer_id", "category").agg(F.sum("paid").alias("paid"))
    variety = [F.count_distinct("product_id").alias("products_bought"), F.count_distinct("category").alias("categories_bought")]
    largest = F.max(F.when(F.col("category").isNotNull(), F.col("paid"))).alias("top_category")
    parts.append(year.groupBy("customer_id").agg(*variety))
    parts.append(by_category.groupBy("customer_id").agg(largest, F.sum("paid").alias("paid")))
    life = [F.min("day").alias("order_first"), F.max("day").alias("order_last"), F.count_distinct("day").alias("order_days")]
    parts.append(orders.groupBy("customer_id").agg(*life, F.count_distinct("order_id").alias("orders_life")))
    parts.append(events.groupBy("customer_id").agg(F.min("day").alias("event_first"), F.max("day").alias("event_last")))
    parts.append(returns.groupBy("customer_id").agg(F.min("day").alias("return_first")))
    known = F.to_date("registered_at")
    registered = read("customers", "day <= DATE '{day}'").groupBy("customer_id").agg(F.min(known).alias("registered"))
    parts.append(registered.where(f"registered <= DATE '{day}'"))
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.join(part, "customer_id", "full")
    last_seen = F.greatest("event_last", "order_last")
    first_known = F.least("registered", "event_first", "order_first", "return_first")
    whole = whole.withColumns(
        {
            "recency_days": F.datediff(F.lit(day), last_seen),
            "order_recency_days": F.datediff(F.lit(day), F.col("order_last")),
            "tenure_days": F.datediff(F.lit(day), first_known),
            "order_span": F.datediff(F.col("order_last"), F.col("order_first")),
            **{
                f"net_{name}": F.expr(f"{_zero(f'gross_{name}')} - {_zero(f'discount_{name}')} - {_zero(f'returned_{name}')}")
                for name in (*map(str, WINDOWS), "90_180")
            },
        }
    )
    whole.selectExpr("customer_id", *(f"{text} AS {name}" for name, text in FEATURES.items())).write.parquet(str(out))
    session.stop()


def duckdb(lake: str, day: date, out: Path) -> None:
    """DuckDB on the Parquet files of the same tables: added up by session and day, then by customer and window."""
    import duckdb
    from deltalake import DeltaTable

    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
    for table in ("events", "orders", "returns", "customers"):
        delta = DeltaTable(f"{lake}/clean/{table}")
        by_day = ", hive_partitioning = true, hive_types = {'day': DATE}" if delta.metadata().partition_columns else ""
        files = ", ".join(f"'{file}'" for file in delta.file_uris())
        database.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet([{files}]{by_day})")  # noqa: S608
    database.execute(f"COPY ({_duckdb_sql(day)}) TO '{out}' (FORMAT parquet)")


def _duckdb_sql(day: date) -> str:
    def within(column: str, days: int, until: int = 0) -> str:
        return f"{column} > DATE '{day - timedelta(days=days)}' AND {column} <= DATE '{day - timedelta(days=until)}'"

    spans = {**{str(w): (w, 0) for w in WINDOWS}, "30_60": (60, 30), "90_180": (180, 90)}

    def windowed(aggregate: str, name: str, column: str = "day") -> str:
        return ", ".join(f"{aggregate} FILTER (WHERE {within(column, *days)}) AS {name}_{span}" for span, days in spans.items())

    counted = {name: text.format(weekend="isodow(day) >= 6") for name, text in EVENTS.items()}
    counts = ", ".join(f"count(*) FILTER (WHERE {text}) AS {name}" for name, text in counted.items())
    sums = ", ".join(windowed(f"sum({name})", name) for name in counted)
    started = ", ".join(
        [
            windowed("count(*)", "sessions"),
            windowed("count_if(carts > 0)", "cart_sessions"),
            windowed("count_if(carts > 0 AND checkouts > 0)", "checkout_sessions"),
            windowed("count_if(purchases > 0)", "purchase_sessions"),
            windowed("count_if(carts > 0 AND purchases = 0)", "abandoned_carts"),
            windowed("sum(seconds)", "seconds"),
            windowed("count_if(n = 1)", "bounces"),
        ]
    )
    ordered = ", ".join(
        [
            windowed("count(DISTINCT order_id)", "orders"),
            windowed("count(DISTINCT CASE WHEN isodow(day) >= 6 THEN order_id END)", "weekend_orders"),
            windowed("count(*)", "lines"),
            windowed("sum(quantity)", "items"),
            windowed("sum(gross_amount)", "gross"),
            windowed("sum(discount_amount)", "discount"),
        ]
    )
    returned = (
        f"{windowed('count(DISTINCT (return_order_id, return_line_no))', 'returns')}, {windowed('sum(amount)', 'returned')}"
    )
    net = ", ".join(f"{_zero(f'gross_{s}')} - {_zero(f'discount_{s}')} - {_zero(f'returned_{s}')} AS net_{s}" for s in spans)
    columns = ", ".join(f"{text} AS {name}" for name, text in FEATURES.items())
    return f"""
WITH parts AS MATERIALIZED (
    SELECT customer_id, session_id, day, {counts}, min(event_at) AS first_at, max(event_at) AS last_at,
        min(session_started_at) AS started_at,
        count(*) FILTER (WHERE event_type = 'purchase') AS purchases
    FROM events WHERE {OURS.format(day=day)} GROUP BY ALL),
by_session AS (
    SELECT customer_id, CAST(min(started_at) AS DATE) AS day, sum(events) AS n, sum(cart_adds) AS carts,
        sum(checkouts) AS checkouts, sum(purchases) AS purchases,
        CAST(floor(epoch(max(last_at))) - floor(epoch(min(first_at))) AS BIGINT) AS seconds
    FROM parts GROUP BY customer_id, session_id),
of_sessions AS (SELECT customer_id, {started} FROM by_session GROUP BY customer_id),
of_days AS (
    SELECT customer_id, {windowed("count(DISTINCT day)", "active_days")}, {sums},
        min(day) AS event_first, max(day) AS event_last FROM parts GROUP BY customer_id),
sales AS (SELECT *, gross_amount - discount_amount AS paid FROM orders WHERE {SALES.format(day=day)}),
of_orders AS (
    SELECT customer_id, {ordered}, min(day) AS order_first, max(day) AS order_last, count(DISTINCT day) AS order_days,
        count(DISTINCT order_id) AS orders_life FROM sales GROUP BY customer_id),
of_products AS (
    SELECT customer_id, count(DISTINCT product_id) AS products_bought, count(DISTINCT category) AS categories_bought
    FROM sales WHERE {within("day", 365)} GROUP BY customer_id),
of_categories AS (
    SELECT customer_id, max(paid) FILTER (WHERE category IS NOT NULL) AS top_category, sum(paid) AS paid
    FROM (SELECT customer_id, category, sum(paid) AS paid FROM sales WHERE {within("day", 365)} GROUP BY ALL)
    GROUP BY customer_id),
of_returns AS (
    SELECT customer_id, {returned}, min(day) AS return_first FROM returns WHERE {BACK.format(day=day)} GROUP BY customer_id),
registered AS (
    SELECT customer_id, min(CAST(registered_at AS DATE)) AS registered FROM customers WHERE day <= DATE '{day}'
    GROUP BY customer_id HAVING min(CAST(registered_at AS DATE)) <= DATE '{day}'),
whole AS (
    SELECT *, {net},
        DATE '{day}' - greatest(event_last, order_last) AS recency_days, DATE '{day}' - order_last AS order_recency_days,
        DATE '{day}' - least(registered, event_first, order_first, return_first) AS tenure_days,
        order_last - order_first AS order_span
    FROM of_days FULL JOIN of_sessions USING (customer_id) FULL JOIN of_orders USING (customer_id)
        FULL JOIN of_products USING (customer_id) FULL JOIN of_categories USING (customer_id)
        FULL JOIN of_returns USING (customer_id) FULL JOIN registered USING (customer_id))
SELECT customer_id, {columns} FROM whole"""  # noqa: S608


def main(argv: list[str]) -> int:
    """One engine: `python -m benchmarks.peers spark|duckdb LAKE DAY OUT`."""
    engine, lake, day, out = argv
    {"spark": spark, "duckdb": duckdb}[engine](lake, date.fromisoformat(day), Path(out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
