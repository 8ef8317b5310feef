"""features.customer_days: one row per customer, day with activity and day on which that activity became theirs.

Inputs: clean.events without robots, clean.orders by order date, clean.returns by refund date. Everything here adds up,
so a day's refresh computes the days that changed and reads the rest. `identified_on` is later than the day where a
visitor's earlier events found their customer only later: as of a day before that, the customer does not have them.
"""

from datetime import date, timedelta

import pyarrow.dataset as ds
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs import reconciliation
from jobs.lake import Lake, Table
from jobs.settings import Settings

_MONEY = "DECIMAL(18,4)"
SCHEMA = """
    customer_id STRING NOT NULL COMMENT 'customer',
    day DATE NOT NULL COMMENT 'day, UTC',
    identified_on DATE NOT NULL COMMENT 'day from which this activity was known to be theirs',
    events BIGINT NOT NULL COMMENT 'events, robots left out',
    views BIGINT NOT NULL COMMENT 'views',
    searches BIGINT NOT NULL COMMENT 'searches',
    cart_adds BIGINT NOT NULL COMMENT 'products put in the cart',
    checkouts BIGINT NOT NULL COMMENT 'checkouts begun',
    purchases BIGINT NOT NULL COMMENT 'purchase events',
    night_events BIGINT NOT NULL COMMENT 'events from 0 to 6 o clock UTC',
    morning_events BIGINT NOT NULL COMMENT 'events from 6 to 12 o clock UTC',
    evening_events BIGINT NOT NULL COMMENT 'events from 18 to 24 o clock UTC',
    weekend_events BIGINT NOT NULL COMMENT 'events on Saturday or Sunday',
    mobile_events BIGINT NOT NULL COMMENT 'events on a phone',
    tablet_events BIGINT NOT NULL COMMENT 'events on a tablet',
    sessions BIGINT NOT NULL COMMENT 'sessions begun on the day',
    bounces BIGINT NOT NULL COMMENT 'sessions of one event; -1 where one of the day before went on',
    cart_sessions BIGINT NOT NULL COMMENT 'sessions that filled a cart, on the day they did so first',
    checkout_sessions BIGINT NOT NULL COMMENT 'sessions with a cart and a checkout, on the day they had both',
    purchase_sessions BIGINT NOT NULL COMMENT 'sessions that purchased, on the day they did so first',
    abandoned_carts BIGINT NOT NULL COMMENT 'sessions with a cart and no purchase; -1 where one of the day before purchased',
    active_seconds BIGINT NOT NULL COMMENT 'seconds between first and last event of sessions, as far as the day added them',
    active_days BIGINT NOT NULL COMMENT '1 where there was an event, on the first row of the day',
    orders BIGINT NOT NULL COMMENT 'orders',
    order_days BIGINT NOT NULL COMMENT '1 where there was an order',
    weekend_orders BIGINT NOT NULL COMMENT 'orders on Saturday or Sunday',
    lines BIGINT NOT NULL COMMENT 'order lines of products',
    items DECIMAL(18,4) NOT NULL COMMENT 'pieces of products ordered',
    gross DECIMAL(18,4) NOT NULL COMMENT 'gross money, home currency',
    discount DECIMAL(18,4) NOT NULL COMMENT 'discounts, home currency',
    returned DECIMAL(18,4) NOT NULL COMMENT 'money given back on the day, home currency',
    returns BIGINT NOT NULL COMMENT 'return lines on the day',
    net DECIMAL(18,4) NOT NULL COMMENT 'gross less discount less returned',
    bought ARRAY<STRUCT<product_id: STRING, category: STRING, amount: DECIMAL(18,4)>> COMMENT 'money by product ordered'"""
TABLE = Table(
    "features.customer_days", __doc__.split("\n\n")[0], SCHEMA, "day",
    {"adds_up": "net = gross - discount - returned", "known_later": "identified_on >= day"},
)  # fmt: skip
_KEYS = ["customer_id", "day", "identified_on"]
_VERSION = 3
_PHONES = ("mobile", "phone", "smartphone", "tablet")


def customer_days(events: DataFrame, orders: DataFrame, returns: DataFrame) -> DataFrame:
    """The partials of every customer and day in these clean tables."""
    parts = [_of_events(events), _of_orders(orders), _of_returns(returns)]
    names = TABLE.columns
    numbers = [n for n in names if n not in (*_KEYS, "net", "bought")]
    together = parts[0].unionByName(parts[1], True).unionByName(parts[2], True)
    sums = [F.coalesce(F.sum(n), F.lit(0)).cast(_type(n)).alias(n) for n in numbers]
    bought = F.first("bought", ignorenulls=True).alias("bought")
    return (
        together.groupBy(*_KEYS)
        .agg(*sums, bought)
        .withColumn("net", (F.col("gross") - F.col("discount") - F.col("returned")).cast(_MONEY))
        .select(*names)
    )


def _of_events(events: DataFrame) -> DataFrame:
    """What a day adds. Of a session over midnight the second day adds only what it changed, so that no sum counts it twice."""
    ours = events.where("NOT is_bot AND customer_id IS NOT NULL")
    hour = F.hour("event_at")

    def n(condition: Column) -> Column:
        return F.count_if(condition)

    def of(event_type: str) -> Column:
        return F.col("event_type") == event_type

    parts = (
        ours.repartition("customer_id", "session_id")
        .groupBy(*_KEYS, "session_id")
        .agg(
            F.count("*").alias("events"),
            n(of("view")).alias("views"),
            n(of("search")).alias("searches"),
            n(of("add_to_cart")).alias("cart_adds"),
            n(of("begin_checkout")).alias("checkouts"),
            n(of("purchase")).alias("purchases"),
            n(hour < 6).alias("night_events"),
            n((hour >= 6) & (hour < 12)).alias("morning_events"),
            n(hour >= 18).alias("evening_events"),
            n(F.col("device").isin(*_PHONES[:3])).alias("mobile_events"),
            n(F.col("device") == _PHONES[3]).alias("tablet_events"),
            F.unix_seconds(F.min("event_at")).alias("_first"),
            F.unix_seconds(F.max("event_at")).alias("_last"),
        )
    )
    counted = [c for c in parts.columns if c not in (*_KEYS, "session_id", "_first", "_last")]
    by_now = Window.partitionBy("customer_id", "session_id").orderBy("day", "identified_on")
    session = {name: F.sum(name).over(by_now) for name in ("events", "cart_adds", "checkouts", "purchases")}
    carted, bought = session["cart_adds"] > 0, session["purchases"] > 0
    so_far = {
        "sessions": F.lit(1),
        "bounces": (session["events"] == 1).cast("int"),
        "cart_sessions": carted.cast("int"),
        "checkout_sessions": (carted & (session["checkouts"] > 0)).cast("int"),
        "purchase_sessions": bought.cast("int"),
        "abandoned_carts": (carted & ~bought).cast("int"),
        "active_seconds": F.max("_last").over(by_now) - F.min("_first").over(by_now),
    }
    named = parts.withColumns({f"_{name}": state for name, state in so_far.items()})
    added = {name: F.col(f"_{name}") - F.coalesce(F.lag(f"_{name}").over(by_now), F.lit(0)) for name in so_far}
    per_day = named.withColumns(added).groupBy(*_KEYS).agg(*(F.sum(c).alias(c) for c in (*counted, *so_far)))
    weekend = F.when(F.weekday("day") >= 5, F.col("events")).otherwise(0)
    first_known = F.row_number().over(Window.partitionBy("customer_id", "day").orderBy("identified_on")) == 1
    return per_day.withColumns({"active_days": first_known.cast("int"), "weekend_events": weekend})


def _of_orders(orders: DataFrame) -> DataFrame:
    ours = orders.where("customer_id IS NOT NULL AND quantity > 0")
    paid = F.col("gross_amount") - F.col("discount_amount")
    is_product = F.col("line_kind") == "product"
    products = (
        ours.where(is_product)
        .groupBy("customer_id", "day", "product_id", "category")
        .agg(F.sum(paid).cast(_MONEY).alias("amount"))
    )
    bought = products.groupBy("customer_id", "day").agg(
        F.array_sort(F.collect_list(F.struct("product_id", "category", "amount"))).alias("bought")
    )
    per_day = ours.groupBy("customer_id", "day").agg(
        F.count_distinct(F.when(F.col("line_kind") != "discount", F.col("order_id"))).alias("orders"),
        F.count_if(is_product).alias("lines"),
        F.sum(F.when(is_product, F.col("quantity"))).alias("items"),
        F.sum("gross_amount").alias("gross"),
        F.sum("discount_amount").alias("discount"),
    )
    weekend = F.when(F.weekday("day") >= 5, F.col("orders")).otherwise(0)
    return per_day.join(bought, ["customer_id", "day"], "left").withColumns(
        {"identified_on": F.col("day"), "order_days": (F.col("orders") > 0).cast("int"), "weekend_orders": weekend}
    )


def _of_returns(returns: DataFrame) -> DataFrame:
    ours = returns.where("customer_id IS NOT NULL")
    lines = F.count_distinct("return_order_id", "return_line_no")
    return ours.groupBy("customer_id", "day", F.col("day").alias("identified_on")).agg(
        F.sum("amount").alias("returned"), lines.alias("returns")
    )


def _type(name: str) -> str:
    return _MONEY if name in ("items", "gross", "discount", "returned") else "BIGINT"


def run(lake: Lake, settings: Settings, days: list[date]) -> None:
    """Bring the partials up to date for `days` and for every earlier day whose clean rows have changed."""
    reach = range(-(-settings.clean.session_max_hours // 24) + 1)  # a session may have begun so many days before
    of_events, of_orders = (reconciliation.revisions(lake, table) for table in ("clean.events", "clean.orders"))
    known = {day for day in {*of_events, *of_orders} if day <= days[-1]}
    inputs = {
        day: reconciliation.fingerprint(_VERSION, of_orders.get(day, ""), *(of_events.get(_before(day, n), "") for n in reach))
        for day in known
    }
    due = reconciliation.due(lake, TABLE.name, inputs, days)
    if not due:
        return
    events = _of_days(lake, "events", sorted({_before(day, n) for day in due for n in reach}))
    partials = customer_days(events, _of_days(lake, "orders", due), _of_days(lake, "returns", due))
    lake.replace_days(TABLE, partials.where(F.col("day").isin(*due)), due)
    rows = lake.count(TABLE.name, ["day"], ds.field("day").isin(due))
    accounts = [reconciliation.Day(d, rows[d,], rows[d,], inputs[d]) for d in due]
    reconciliation.record(lake, {TABLE.name: accounts})


def _before(day: date, days: int) -> date:
    return day - timedelta(days=days)


def _of_days(lake: Lake, table: str, days: list[date]) -> DataFrame:
    return lake.read(f"clean.{table}", days[0], days[-1]).where(F.col("day").isin(*days))
