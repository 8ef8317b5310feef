"""features.item_days: one row per customer, day, kind of act and item: searched, viewed, put into a cart, ordered.

Inputs: clean.events, clean.orders. An item is the key of a search's words, or a product. Robots are left out. `identified_on`
and `known_until` are as in features.customer_days; an order counts although it was cancelled, because it shows what was wanted.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import date
from functools import partial

import polars as pl
import pyarrow as pa

from jobs import business_day
from jobs.clean import events as clean_events
from jobs.clean import orders as clean_orders
from jobs.config.settings import NO_TEXT_MODEL, Settings
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import Call, Write
from jobs.features import vectors
from jobs.features._daily_steps import EVENTS, ORDERS, write_steps
from jobs.features._query import BUCKET_SIZE, run_steps
from jobs.features._text_keys import find_secret, hash_texts, normalize_texts
from jobs.features.customer_days import find_customers, is_moved, split_days
from jobs.quality import reconciliation
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, Scan
from jobs.storage.table import Table

SEARCH, VIEW, CART, ORDER = KINDS = ("search", "view", "add_to_cart", "order")
SCHEMA = """
    customer_id STRING NOT NULL COMMENT 'customer',
    day DATE NOT NULL COMMENT 'day, in the business time zone',
    identified_on DATE NOT NULL COMMENT 'day from which this is known of the day',
    known_until DATE NOT NULL COMMENT 'day from which it no longer holds; 9999-12-31 for what stays',
    kind STRING NOT NULL COMMENT 'search, view, add_to_cart or order',
    item STRING NOT NULL COMMENT 'key of the words of a search, as in features.texts; else the product',
    n BIGINT NOT NULL COMMENT 'events, or order lines'"""
TABLE = Table(
    "features.item_days", __doc__.split("\n\n")[0], SCHEMA, "day",
    {"kind_known": f"kind IN {KINDS}", "known_later": "identified_on >= day AND known_until > identified_on"},
)  # fmt: skip
_VERSION = 1  # raise it when the same clean rows become other items: every day is then due again
_KEYS = ["day", "customer_id", "identified_on", "known_until", "kind", "item"]
_STEPS = ("shared_events", "known_events", "sold_lines")
_ITEMS = """SELECT customer_id, day, identified_on, known_until, event_type AS kind,
    CASE event_type WHEN 'search' THEN search_term ELSE product_id END AS item, count(*) AS n
FROM known_events WHERE event_type IN ('search', 'view', 'add_to_cart') AND item IS NOT NULL GROUP BY ALL
UNION ALL
SELECT customer_id, day, identified_on, version_until, 'order', product_id, count(*)
FROM sold_lines WHERE line_kind = 'product' AND product_id IS NOT NULL AND version_until > identified_on GROUP BY ALL"""


def count_items(
    tables: dict[str, pa.Table | Scan], max_characters: int, secret: str, time_zone: str = business_day.UTC
) -> dict[str, pa.Table]:
    """Return features.item_days as `item_days`, sorted by day and customer. `secret` is the key under which words are hashed.

    Key: customer. Inputs: `events`, `moved` and `orders` of the days, as aggregate_customer_days takes them. About 0.5 µs of CPU
    an event.
    """
    steps = write_steps(time_zone)
    results = run_steps(tables, {name: steps[name] for name in _STEPS}, {"items": _ITEMS}, views=("known_events", "sold_lines"))
    items = to_frame(results["items"])
    is_search = pl.col("kind") == SEARCH
    words = normalize_texts(items.filter(is_search)["item"], max_characters)
    searches = items.filter(is_search).with_columns(item=hash_texts(words, secret))
    counted = pl.concat([searches.drop_nulls("item"), items.filter(~is_search)]).group_by(_KEYS).agg(pl.col("n").sum())
    return {"item_days": counted.sort(_KEYS).select(TABLE.columns).to_arrow().cast(TABLE.arrow_schema)}


def run(lake: Lake, settings: Settings, days: list[date]) -> None:
    """Bring the items up to date for `days` and for every earlier day whose clean rows have changed.

    They are counted where there is a text model, or where the shop has brought vectors in.

    Raises UserError where words were searched for and no key is set.
    """
    is_read = settings.text.model != NO_TEXT_MODEL or lake.count_rows(vectors.TABLE.name) > 0
    revisions = [reconciliation.read_revisions(lake, table) for table in ("clean.events", "clean.orders")]
    known_days = {day for of_table in revisions for day in of_table if day <= days[-1]} if is_read else set()
    inputs = {
        day: reconciliation.fingerprint_inputs(_VERSION, settings.text.max_characters, *(r.get(day, "") for r in revisions))
        for day in known_days
    }
    due = reconciliation.due_days(lake, TABLE.name, inputs, days)
    opened = lake.open_for_write(TABLE)
    if not due:
        return
    rows_per_day = lake.count_rows_by_day("clean.events") + lake.count_rows_by_day("clean.orders")
    kernel = partial(
        count_items, max_characters=settings.text.max_characters, secret=find_secret(),
        time_zone=settings.business_time_zone,
    )  # fmt: skip
    with open_runner(lake, settings, sum(rows_per_day[day] for day in due)) as runner:
        calls = [call for portion in split_days(due, rows_per_day) for call in _list_calls(kernel, portion, rows_per_day)]
        opened.commit(runner.run_calls(calls, {"item_days": Write(TABLE)}).files["item_days"], due)
    n_rows = lake.count_rows_by_day(TABLE.name)
    accounts = [reconciliation.Account(day, n_rows[day], n_rows[day], inputs[day]) for day in due]
    reconciliation.write_accounts(lake, {TABLE.name: accounts})


def _list_calls(kernel: partial, days: Collection[date], rows_per_day: Counter) -> Iterator[Call]:
    rows = {
        "events": Rows(clean_events.TABLE, find_customers, EVENTS, days, scan=True),
        "moved": Rows(clean_events.TABLE, "former_customer_id", EVENTS, days, where=is_moved()),
        "orders": Rows(clean_orders.TABLE, "customer_id", ORDERS, days, scan=True),
    }
    n_buckets = count_buckets(sum(rows_per_day[day] for day in days) // BUCKET_SIZE)
    return (Call(kernel, rows, bucket, n_buckets) for bucket in range(n_buckets))
