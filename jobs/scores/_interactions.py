"""What customers did with products, as of the end of a day: purchases, carts and views, weighted by kind and age.

As of a day means: an order line counts as the version that was known then says, unless all of it had been cancelled or given
back by then; an event counts for the customer that it was known to belong to then. Robots do not count, and an account that is
part of another one counts as that one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from jobs import account_merges, business_day
from jobs.business_day import FOREVER
from jobs.config.settings import Settings
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows
from jobs.storage.table import Table

EVENT_DAYS = 180  # views and carts older than this do not count
HALF_LIFE_DAYS = 60  # after which an interaction counts half
PURCHASE = "purchase"
WEIGHTS = {"view": 1.0, "add_to_cart": 3.0, PURCHASE: 5.0}  # of a kind, once a customer, product and day
MOST_PRODUCTS = 100  # of a customer, those with the largest weights

# The columns that are read.
ORDERS = Table(
    "clean.orders",
    "Order lines and their earlier versions.",
    """customer_id STRING, product_id STRING, line_kind STRING, category STRING, quantity DECIMAL(18,4), status STRING,
       returned_at TIMESTAMP, day DATE, known_from DATE, known_until DATE""",
    partition="day",
)
EVENTS = Table(
    "clean.events",
    "Events.",
    """customer_id STRING, former_customer_id STRING, shared_since DATE, identified_on DATE, is_bot BOOLEAN, event_type STRING,
       product_id STRING, category STRING, day DATE""",
    partition="day",
)
_ACCOUNTS = Table("clean.customers", "Accounts.", "customer_id STRING, day DATE, merged_into STRING")


@dataclass(frozen=True)
class Shop:
    """What holds for all interactions of a shop. Without orders, the purchases are the events of that kind."""

    has_orders: bool
    time_zone: str = business_day.UTC
    owners: Mapping[str, str] = field(default_factory=dict)  # of the accounts that are part of another one


def read_shop(lake: Lake, settings: Settings, day: date) -> Shop:
    """Return what is known of the shop on a day."""
    merges = account_merges.find_owners(pl.DataFrame(pl.from_arrow(lake.read_arrow(_ACCOUNTS))))
    return Shop(
        any(d <= day for d in lake.days(ORDERS.name)), settings.business_time_zone, account_merges.find_owners_on(merges, day)
    )


@dataclass(frozen=True)
class OwnerOnDay:
    """The key of orders and events: the customer of a row as of a day."""

    day: date
    owners: Mapping[str, str]

    def __call__(self, rows: pa.Table) -> pa.Array:
        """Return the customer of each row; null where none was known."""
        frame = pl.DataFrame(pl.from_arrow(rows))
        return frame.select(find_owner(frame.columns, self.day, self.owners)).to_series().to_arrow()


def interactions_of(lake: Lake, shop: Shop, day: date, event_days: int = EVENT_DAYS) -> dict[str, Rows]:
    """Return which rows hold the orders up to a day, and the events of its last `event_days`."""
    key = OwnerOnDay(day, shop.owners)
    order_days = [d for d in lake.days(ORDERS.name) if d <= day] if shop.has_orders else []
    days_of_events = [day - timedelta(days=n) for n in range(event_days)]
    is_product = ds.field("line_kind") == "product"
    is_visit = ds.field("product_id").is_valid() & ~ds.field("is_bot") & ds.field("event_type").isin(list(WEIGHTS))
    return {
        "orders": Rows(ORDERS, key, tuple(ORDERS.columns), order_days, where=is_product),
        "events": Rows(EVENTS, key, tuple(EVENTS.columns), days_of_events, where=is_visit),
    }


def find_owner(columns: list[str], day: date, owners: Mapping[str, str]) -> pl.Expr:
    """Return the customer to whom a row of clean.orders or clean.events belonged, as it was known on the day.

    Events of a device that many people share belong to whom they were given to until that was known.
    """
    owner = pl.col("customer_id")
    if "former_customer_id" in columns:
        is_shared = (pl.col("shared_since") <= pl.lit(day)).fill_null(True) | pl.col("shared_since").is_null()
        named = pl.when(is_shared).then("customer_id").otherwise(pl.coalesce("former_customer_id", "customer_id"))
        owner = pl.when(pl.col("identified_on").fill_null(pl.col("day")) <= pl.lit(day)).then(named)
    return (owner.replace(owners) if owners else owner).alias("customer_id")


def list_signals(tables: Mapping[str, pa.Table], day: date, shop: Shop) -> pl.DataFrame:
    """Return what was known on `day` of the `orders` and `events`, one row per customer, product, day and kind of WEIGHTS.

    Columns: customer_id, product_id, category, day, kind.
    """
    orders, events = (pl.DataFrame(pl.from_arrow(tables[name])) for name in ("orders", "events"))
    returned_on = business_day.to_day(pl.col("returned_at"), shop.time_zone)
    is_undone = pl.col("status").is_in(["cancelled", "returned"]) & (returned_on <= pl.lit(day)).fill_null(False)
    until = pl.col("known_until").fill_null(FOREVER)
    is_known = (pl.coalesce("known_from", "day") <= pl.lit(day)) & (until > pl.lit(day)) & (pl.col("quantity") > 0)
    sold = orders.filter(is_known, ~is_undone).with_columns(kind=pl.lit(PURCHASE))
    is_counted = pl.lit(True) if not shop.has_orders else pl.col("event_type") != PURCHASE
    seen = events.filter(is_counted, pl.col("day") > pl.lit(day - timedelta(days=EVENT_DAYS))).rename({"event_type": "kind"})
    columns = ["product_id", "category", "day", "kind"]
    rows = [part.select(find_owner(part.columns, day, shop.owners), *columns) for part in (sold, seen)]
    signals = pl.concat(rows).filter(pl.col("day") <= pl.lit(day)).drop_nulls(["customer_id", "product_id"])
    return signals.group_by("customer_id", "product_id", "day", "kind").agg(pl.col("category").max())


def weigh_signals(signals: pl.DataFrame, day: date) -> pl.DataFrame:
    """Return one row per customer and product of list_signals() rows, sorted: weight, bought_days, last_day.

    The weight is the sum of WEIGHTS, each halved every HALF_LIFE_DAYS.
    """
    age = (pl.lit(day) - pl.col("day")).dt.total_days()
    weight = pl.col("kind").replace_strict(WEIGHTS, return_dtype=pl.Float64) * 0.5 ** (age / HALF_LIFE_DAYS)
    weighed = signals.with_columns(weight=weight).sort("customer_id", "product_id", "day", "kind")  # sums depend on the order
    return weighed.group_by("customer_id", "product_id", maintain_order=True).agg(
        pl.col("weight").sum(), bought_days=(pl.col("kind") == PURCHASE).sum(), last_day=pl.col("day").max()
    )
