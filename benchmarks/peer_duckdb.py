"""The features as one would compute them in DuckDB on the Parquet files: aggregated by session and day, then by customer."""

from datetime import date
from pathlib import Path

import duckdb
from deltalake import DeltaTable

from benchmarks.peer_features import EVENT_ROWS, EVENTS, FEATURES, RETURN_ROWS, SALE_ROWS, WINDOWS, within_days, zero_if_null

SPANS = {**{str(w): (w, 0) for w in WINDOWS}, "30_60": (60, 30), "90_180": (180, 90)}  # days back from, and until


def compute_features(lake: str, day: date, out: Path) -> None:
    """Write FEATURES of every customer as of the day, as Parquet."""
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
    for table in ("events", "orders", "returns", "customers"):
        delta = DeltaTable(f"{lake}/clean/{table}")
        partitions = ", hive_partitioning = true, hive_types = {'day': DATE}" if delta.metadata().partition_columns else ""
        files = ", ".join(f"'{file}'" for file in delta.file_uris())
        database.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet([{files}]{partitions})")  # noqa: S608
    database.execute(f"COPY ({_features_sql(day)}) TO '{out}' (FORMAT parquet)")


def _features_sql(day: date) -> str:
    columns = ", ".join(f"{text} AS {name}" for name, text in FEATURES.items())
    net = ", ".join(
        f"{' - '.join(zero_if_null(f'{part}_{span}') for part in ('gross', 'discount', 'returned'))} AS net_{span}"
        for span in SPANS
    )
    return f"""
WITH {_events_sql(day)}, {_orders_sql(day)}, {_returns_and_customers_sql(day)},
sums AS (
    SELECT *, {net},
        DATE '{day}' - greatest(event_last, order_last) AS recency_days, DATE '{day}' - order_last AS order_recency_days,
        DATE '{day}' - least(registered, event_first, order_first, return_first) AS tenure_days,
        order_last - order_first AS order_span
    FROM day_sums FULL JOIN session_sums USING (customer_id) FULL JOIN order_sums USING (customer_id)
        FULL JOIN product_counts USING (customer_id) FULL JOIN category_sums USING (customer_id)
        FULL JOIN return_sums USING (customer_id) FULL JOIN registered USING (customer_id))
SELECT customer_id, {columns} FROM sums"""  # noqa: S608


def _events_sql(day: date) -> str:
    """Return the common table expressions session_sums and day_sums."""
    conditions = {name: text.format(weekend="isodow(day) >= 6") for name, text in EVENTS.items()}
    counts = ", ".join(f"count(*) FILTER (WHERE {text}) AS {name}" for name, text in conditions.items())
    by_session = _by_span(
        day,
        sessions="count(*)",
        cart_sessions="count_if(carts > 0)",
        checkout_sessions="count_if(carts > 0 AND checkouts > 0)",
        purchase_sessions="count_if(purchases > 0)",
        abandoned_carts="count_if(carts > 0 AND purchases = 0)",
        seconds="sum(seconds)",
        bounces="count_if(n = 1)",
    )
    by_day = _by_span(day, active_days="count(DISTINCT day)", **{name: f"sum({name})" for name in conditions})
    return f"""
parts AS MATERIALIZED (
    SELECT customer_id, session_id, day, {counts}, min(event_at) AS first_at, max(event_at) AS last_at,
        min(session_started_at) AS started_at,
        count(*) FILTER (WHERE event_type = 'purchase') AS purchases
    FROM events WHERE {EVENT_ROWS.format(day=day)} GROUP BY ALL),
sessions AS (
    SELECT customer_id, CAST(min(started_at) AS DATE) AS day, sum(events) AS n, sum(cart_adds) AS carts,
        sum(checkouts) AS checkouts, sum(purchases) AS purchases,
        CAST(floor(epoch(max(last_at))) - floor(epoch(min(first_at))) AS BIGINT) AS seconds
    FROM parts GROUP BY customer_id, session_id),
session_sums AS (SELECT customer_id, {by_session} FROM sessions GROUP BY customer_id),
day_sums AS (
    SELECT customer_id, {by_day}, min(day) AS event_first, max(day) AS event_last FROM parts GROUP BY customer_id)"""  # noqa: S608


def _orders_sql(day: date) -> str:
    """Return the common table expressions order_sums, product_counts and category_sums."""
    by_order = _by_span(
        day,
        orders="count(DISTINCT order_id)",
        weekend_orders="count(DISTINCT CASE WHEN isodow(day) >= 6 THEN order_id END)",
        lines="count(*)",
        items="sum(quantity)",
        gross="sum(gross_amount)",
        discount="sum(discount_amount)",
    )
    last_year = within_days("day", day, 365)
    return f"""
sales AS (SELECT *, gross_amount - discount_amount AS paid FROM orders WHERE {SALE_ROWS.format(day=day)}),
order_sums AS (
    SELECT customer_id, {by_order}, min(day) AS order_first, max(day) AS order_last, count(DISTINCT day) AS order_days,
        count(DISTINCT order_id) AS orders_life FROM sales GROUP BY customer_id),
product_counts AS (
    SELECT customer_id, count(DISTINCT product_id) AS products_bought, count(DISTINCT category) AS categories_bought
    FROM sales WHERE {last_year} GROUP BY customer_id),
category_sums AS (
    SELECT customer_id, max(paid) FILTER (WHERE category IS NOT NULL) AS top_category, sum(paid) AS paid
    FROM (SELECT customer_id, category, sum(paid) AS paid FROM sales WHERE {last_year} GROUP BY ALL)
    GROUP BY customer_id)"""  # noqa: S608


def _returns_and_customers_sql(day: date) -> str:
    """Return the common table expressions return_sums and registered."""
    by_return = _by_span(day, returns="count(DISTINCT (return_order_id, return_line_no))", returned="sum(amount)")
    return f"""
return_sums AS (
    SELECT customer_id, {by_return}, min(day) AS return_first
    FROM returns WHERE {RETURN_ROWS.format(day=day)} GROUP BY customer_id),
registered AS (
    SELECT customer_id, min(CAST(registered_at AS DATE)) AS registered FROM customers WHERE day <= DATE '{day}'
    GROUP BY customer_id HAVING min(CAST(registered_at AS DATE)) <= DATE '{day}')"""  # noqa: S608


def _by_span(day: date, **aggregates: str) -> str:
    """Return each aggregate over each span as a column <name>_<span>."""
    return ", ".join(
        f"{aggregate} FILTER (WHERE {within_days('day', day, *days)}) AS {name}_{span}"
        for name, aggregate in aggregates.items()
        for span, days in SPANS.items()
    )
