"""One row per day, segment and category of products: what customers ordered and looked at, by the segment they had on that day.

Input: clean.orders and clean.events of the day, clean.products, segments.history. Days before the first segmented day have no
rows. Rules that may be debated:
- Ordered pieces are demand, and so are those given back or cancelled later; `returned_units` counts them. Postage, fees and a
  return without a known line are none.
- Guests, and customers who are not known on the day, have no segment. Robots are left out.
- An event without a category has that of its product, as known on the day.
- Rows of few customers are published: they name nobody, and stock is ordered by the sum.

A row states what is known now, not what was known on its day: a return reduces the `net` of the day of the order. Publishing a
day also writes each earlier day whose orders, events or segments have changed since it was written.
"""

from collections.abc import Collection
from datetime import date, timedelta

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.business_day import FOREVER
from jobs.config.settings import Settings
from jobs.marts import _members
from jobs.quality import reconciliation
from jobs.segment_history import segments_on
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table

SCHEMA = """
    day DATE COMMENT 'Day of the orders and events, in the business time zone',
    segment_id INT COMMENT 'Segment of the customers on that day; null: guests and customers who are not known on it',
    category STRING COMMENT 'Category of the products; null: not known',
    orders BIGINT COMMENT 'Orders with a product of the category; an order of several categories counts in each',
    units DECIMAL(18,4) COMMENT 'Pieces ordered, those given back or cancelled later included',
    returned_units DECIMAL(18,4) COMMENT 'Of these pieces, how many were given back or cancelled since',
    net DECIMAL(18,4) COMMENT 'Amount after discounts and returns so far, home currency',
    customers BIGINT COMMENT 'Customers who ordered; guests without an id are not counted',
    views BIGINT COMMENT 'Views of products; null: the day has no events',
    cart_adds BIGINT COMMENT 'Products put into a cart; null: the day has no events'
"""
TABLE = Table(
    "marts.segment_demand",
    "One row per day, segment and category: what customers ordered and looked at, by their segment on that day.",
    SCHEMA,
    partition="day",
    checks={"not_negative": "orders >= 0 AND units >= 0 AND returned_units >= 0 AND customers >= 0"},
)
# The columns that are read.
ORDERS = Table(
    "clean.orders",
    "Order lines.",
    """day DATE, customer_id STRING, shop STRING, order_id STRING, line_kind STRING, category STRING, quantity DECIMAL(18,4),
       returned_quantity DECIMAL(18,4), net_amount DECIMAL(18,4), known_until DATE""",
    partition="day",
)
EVENTS = Table(
    "clean.events",
    "Events.",
    "day DATE, customer_id STRING, event_type STRING, product_id STRING, category STRING, is_bot BOOLEAN",
    partition="day",
)
PRODUCTS = Table("clean.products", "Products.", "product_id STRING, day DATE, category STRING")
_VERSION = 1  # raise it when the same input becomes other rows: every day is then due again
_MONEY = pl.Decimal(18, 4)
_CELL = ("segment_id", "category")
_ORDERED = ("orders", "units", "returned_units", "net", "customers")
_SEEN = ("views", "cart_adds")


def sum_demand(orders: pa.Table, events: pa.Table, products: pa.Table, segments: pa.Table, day: date) -> pa.Table:
    """Return marts.segment_demand of a day, sorted by segment and category, those that are not known first.

    `orders` and `events` are those of the day with the columns of ORDERS and EVENTS, `products` are the rows of PRODUCTS up to
    the day, `segments` (customer_id, segment_id) holds the segments of the customers on it. About 1 µs of CPU a row.
    """
    segment_of = to_frame(segments)
    lines = to_frame(orders).filter(
        (pl.col("known_until").is_null() | (pl.col("known_until") == pl.lit(FOREVER)))  # null: of an older lake
        & (pl.col("line_kind") == "product")
        & (pl.col("quantity") > 0)
    )
    hits = to_frame(events).filter(
        ~pl.col("is_bot") & pl.col("product_id").is_not_null() & pl.col("event_type").is_in(["view", "add_to_cart"])
    )
    listed = to_frame(products).sort("product_id", "day").unique("product_id", keep="last", maintain_order=True)
    ordered = (
        lines.join(segment_of, "customer_id", how="left")
        .group_by(_CELL)
        .agg(
            orders=pl.struct("shop", "order_id").n_unique(),
            units=pl.sum("quantity"),
            returned_units=pl.sum("returned_quantity"),
            net=pl.sum("net_amount"),
            customers=pl.col("customer_id").drop_nulls().n_unique(),
        )
    )
    seen = (
        hits.join(listed.select("product_id", listed="category"), "product_id", how="left")
        .with_columns(category=pl.coalesce("category", "listed"))
        .join(segment_of, "customer_id", how="left")
        .group_by(_CELL)
        .agg(views=(pl.col("event_type") == "view").sum(), cart_adds=(pl.col("event_type") == "add_to_cart").sum())
    )
    rows = ordered.join(seen, _CELL, how="full", coalesce=True, nulls_equal=True).sort(_CELL)
    n_unseen = pl.lit(0 if events.num_rows else None, pl.Int64)
    rows = rows.with_columns(pl.col(_ORDERED).fill_null(0), pl.col(_SEEN).fill_null(n_unseen), day=pl.lit(day))
    return rows.select(TABLE.columns).to_arrow().cast(TABLE.arrow_schema)


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Write the demand of `day`, of the days until the next known one, and of each earlier day of which something changed.

    Raises UserError where the day has no assignments.
    """
    _members.read_assigned_model(lake, day)
    known_days = lake.days("segments.assignments")
    end = min((later for later in known_days if later > day), default=day + timedelta(days=1))
    inputs = _fingerprint_days(lake, known_days, end)
    due = reconciliation.due_days(lake, TABLE.name, inputs, [late for late in inputs if late >= day])
    rows = [_read_demand(lake, due_day) for due_day in due]
    lake.replace_rows(TABLE, pa.concat_tables([TABLE.arrow_schema.empty_table(), *rows]), due)
    accounts = [
        reconciliation.Account(due_day, part.num_rows, part.num_rows, inputs[due_day])
        for due_day, part in zip(due, rows, strict=True)
    ]
    reconciliation.write_accounts(lake, {TABLE.name: accounts})


def _fingerprint_days(lake: Lake, known_days: Collection[date], end: date) -> dict[date, str]:
    """Return what the demand of each cleaned day before `end` is made of, from the first segmented day on.

    Between two known days the segments of the first hold.
    """
    revisions = [reconciliation.read_revisions(lake, table.name) for table in (ORDERS, EVENTS)]
    days = {day for of_table in revisions for day in of_table if min(known_days, default=end) <= day < end}
    return {
        day: reconciliation.fingerprint_inputs(
            _VERSION, max(earlier for earlier in known_days if earlier <= day), *(of_table.get(day, "") for of_table in revisions)
        )
        for day in days
    }


def _read_demand(lake: Lake, day: date) -> pa.Table:
    orders, events = (read_rows(lake.root, Rows(table, "customer_id", days=[day])) for table in (ORDERS, EVENTS))
    customers = pa.concat_tables([orders.select(["customer_id"]), events.select(["customer_id"])])["customer_id"]
    of_day = segments_on(day, only=customers.unique().drop_null())
    products = read_rows(lake.root, Rows(PRODUCTS, "product_id", where=ds.field("day") <= day))
    return sum_demand(orders, events, products, read_rows(lake.root, of_day), day)
