"""features.event_sequences: one row per customer, day, and days from and until which this is known of it: events in order.

Inputs: clean.events without robots, and the product lines of clean.orders as purchases. `identified_on` and `known_until` mean
what they do in features.customer_days, so that the rows known by a day hold what was known on that day. Rules that may be
debated:
- The lines of an order are left out from the day on which a purchase event of the same customer and day names a product.
- A purchase stays one when the order is cancelled or returned: the customer made it.
- Of more than MAX_EVENTS events that are known together of a day the last ones are kept.
"""

from collections.abc import Collection
from datetime import date

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.business_day import FOREVER
from jobs.clean import events as clean_events
from jobs.clean import orders as clean_orders
from jobs.config.settings import MAX_SEQUENCE_EVENTS, NO_SEQUENCE, Settings
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import Call, Write
from jobs.features.customer_days import find_customers, is_moved, split_days
from jobs.quality import reconciliation
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows
from jobs.storage.table import Table

SCHEMA = """
    customer_id STRING NOT NULL COMMENT 'customer',
    day DATE NOT NULL COMMENT 'day, in the business time zone',
    identified_on DATE NOT NULL COMMENT 'day from which this is known of the day',
    known_until DATE NOT NULL COMMENT 'day from which it no longer holds; 9999-12-31 for what stays',
    n_events INT NOT NULL COMMENT 'number of events',
    last_event_at TIMESTAMP NOT NULL COMMENT 'time of the last one, UTC',
    fingerprint BIGINT NOT NULL COMMENT 'sum of hashes of the events: it differs where they do',
    events ARRAY<STRUCT<event_at: TIMESTAMP, event_type: STRING, product_id: STRING, category: STRING, channel: STRING,
        amount: DOUBLE>> COMMENT 'events in order; amount: the price shown, or what the line of an order cost'"""
TABLE = Table("features.event_sequences", __doc__.split("\n\n")[0], SCHEMA, "day", {"known_later": "known_until > identified_on"})
_VERSION = 1  # raise it when the same clean rows become other sequences: every day is then due again
_KEYS = ["customer_id", "day", "identified_on", "known_until"]
_ORDER = ["day", "customer_id", "identified_on", "known_until"]
_EVENT = ["event_at", "event_type", "product_id", "category", "channel", "amount"]
EVENTS = (
    "customer_id", "former_customer_id", "shared_since", "identified_on", "is_bot", "day", "event_id", "event_at", "event_type",
    "product_id", "category", "channel", "price",
)  # fmt: skip
ORDERS = (
    "customer_id", "day", "known_from", "known_until", "ordered_at", "shop", "order_id", "line_no", "line_kind", "product_id",
    "category", "quantity", "gross_amount",
)  # fmt: skip
_SEED = 17  # of the fingerprint


def collect_sequences(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """Return features.event_sequences of some days as `sequences`.

    Key: customer. Inputs: `events` of these days, `moved`, those of them that were given to another customer before, and
    `orders`, with the columns EVENTS and ORDERS. Sorted by day and customer. About 1 µs of CPU an event.
    """
    events = _know_events(to_frame(tables["events"]), to_frame(tables["moved"]))
    acts = pl.concat([events, _know_lines(to_frame(tables["orders"]), events)])
    acts = acts.filter(pl.col("known_until") > pl.col("identified_on")).sort(*_ORDER, "event_at", "order")
    from_last = pl.len().over(_KEYS) - pl.int_range(pl.len()).over(_KEYS)
    kept = acts.filter(from_last <= MAX_SEQUENCE_EVENTS)
    texts = [pl.col(name).cast(pl.String).fill_null("\x00") for name in _EVENT]
    # integers wrap around, so that the order of the sum does not matter
    fingerprint = pl.concat_str(texts, separator="\x1f").hash(_SEED).reinterpret(signed=True)
    rows = (
        kept.with_columns(fingerprint=fingerprint)
        .group_by(_KEYS, maintain_order=True)
        .agg(
            n_events=pl.len().cast(pl.Int32),
            last_event_at=pl.col("event_at").last(),
            fingerprint=pl.col("fingerprint").sum(),
            events=pl.struct(_EVENT),
        )
    )
    return {"sequences": rows.select(TABLE.columns).to_arrow().cast(TABLE.arrow_schema)}


def _know_events(events: pl.DataFrame, moved: pl.DataFrame) -> pl.DataFrame:
    """Return the events of people with a customer, and from when until when they were known to be theirs.

    An event that changes its customer is known as that of the former one until then, as in features.customer_days.
    """
    people, moved = events.filter(~pl.col("is_bot")), moved.filter(~pl.col("is_bot"))
    shared = people.filter(pl.col("shared_since").is_not_null())
    customer, former = pl.col("customer_id"), pl.col("former_customer_id")
    is_before = pl.col("identified_on") < pl.col("shared_since")
    changed = shared.filter(customer.is_not_null())
    parts = [
        people.filter(pl.col("shared_since").is_null() & customer.is_not_null()).with_columns(known_until=pl.lit(FOREVER)),
        shared.filter(is_before & (customer.is_null() != former.is_null())).with_columns(
            customer_id=pl.coalesce(customer, former), known_until="shared_since"
        ),
        moved.filter(is_before & customer.is_not_null()).with_columns(customer_id=former, known_until="shared_since"),
        changed.with_columns(identified_on=pl.max_horizontal("identified_on", "shared_since"), known_until=pl.lit(FOREVER)),
    ]
    return pl.concat(parts).select(
        *_KEYS, *_EVENT[:-1], amount=pl.col("price").cast(pl.Float64), order=pl.concat_str(pl.lit("e"), "event_id")
    )


def _know_lines(orders: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Return the product lines of customers as purchases, until a purchase event of their customer and day names a product."""
    is_named = (pl.col("event_type") == "purchase") & pl.col("product_id").is_not_null()
    seen = events.filter(is_named).group_by("customer_id", "day").agg(seen_on=pl.col("identified_on").min())
    lines = orders.filter(pl.col("customer_id").is_not_null() & (pl.col("line_kind") == "product") & (pl.col("quantity") > 0))
    return lines.join(seen, ["customer_id", "day"], "left").select(
        "customer_id",
        "day",
        identified_on=pl.max_horizontal("day", "known_from"),
        known_until=pl.min_horizontal(pl.col("known_until").fill_null(pl.lit(FOREVER)), "seen_on"),
        event_at="ordered_at",
        event_type=pl.lit("purchase"),
        product_id="product_id",
        category="category",
        channel=pl.lit(None, pl.String),
        amount=pl.col("gross_amount").cast(pl.Float64),
        order=pl.concat_str(
            pl.lit("o"), pl.col("shop").fill_null(""), "order_id", pl.col("line_no") + 1_000_000, separator="\x1f"
        ),
    )


def run(lake: Lake, settings: Settings, days: list[date]) -> None:
    """Bring the sequences up to date for `days` and for every earlier day whose clean rows have changed."""
    lake.create(TABLE)
    if settings.sequence.encoder == NO_SEQUENCE:
        return
    of_events, of_orders = (reconciliation.read_revisions(lake, table) for table in ("clean.events", "clean.orders"))
    inputs = {
        day: reconciliation.fingerprint_inputs(_VERSION, of_orders.get(day, ""), of_events.get(day, ""))
        for day in {*of_events, *of_orders}
        if day <= days[-1]
    }
    due = reconciliation.due_days(lake, TABLE.name, inputs, days)
    if not due:
        return
    rows_per_day = lake.count_rows_by_day("clean.events") + lake.count_rows_by_day("clean.orders")
    calls = []
    for portion in split_days(due, rows_per_day):
        n_buckets = count_buckets(sum(rows_per_day[day] for day in portion))
        calls += [Call(collect_sequences, _list_rows(portion), bucket, n_buckets) for bucket in range(n_buckets)]
    opened = lake.open_for_write(TABLE)
    with open_runner(lake, settings, sum(rows_per_day[day] for day in due)) as runner:
        opened.commit(runner.run_calls(calls, {"sequences": Write(TABLE)}).files["sequences"], due)
    n_rows = lake.count_rows_by_day(TABLE.name)
    accounts = [reconciliation.Account(d, n_rows[d], n_rows[d], inputs[d]) for d in due]
    reconciliation.write_accounts(lake, {TABLE.name: accounts})


def _list_rows(due: Collection[date]) -> dict[str, Rows]:
    return {
        "events": Rows(clean_events.TABLE, find_customers, EVENTS, due, where=_has_customer()),
        "moved": Rows(clean_events.TABLE, "former_customer_id", EVENTS, due, where=is_moved()),
        "orders": Rows(clean_orders.TABLE, "customer_id", ORDERS, due, where=ds.field("customer_id").is_valid()),
    }


def _has_customer() -> ds.Expression:
    return ds.field("customer_id").is_valid() | ds.field("former_customer_id").is_valid()
