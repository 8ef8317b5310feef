"""features.event_sequences of a small shop, as the features step leaves it: customers who view and then buy, or only view."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
from deltalake import write_deltalake

from jobs.event_sequences import TABLE
from jobs.storage.delta import table_path

DAY = date(2026, 1, 31)
FOREVER = date(9999, 12, 31)
CONTRACT = TABLE.arrow_schema


def to_row(customer: str, day: date, kinds: list[str], identified_on: date | None = None) -> dict:
    """Return the row of a customer's day with these events, a minute apart."""
    first = datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
    events = [
        {"event_at": first + timedelta(minutes=n), "event_type": kind, "product_id": f"p{(len(customer) + n) % 5}",
         "category": None, "channel": "mail", "amount": 2.0 * (n % 7)}
        for n, kind in enumerate(kinds)
    ]  # fmt: skip
    return {
        "customer_id": customer, "day": day, "identified_on": identified_on or day, "known_until": FOREVER,
        "n_events": len(events), "last_event_at": events[-1]["event_at"], "events": events,
        "fingerprint": hash_text(f"{customer} {day} {kinds}"),
    }  # fmt: skip


def hash_text(text: str) -> int:
    """Return a number that is the same in each process."""
    return sum(ord(letter) * 31**n for n, letter in enumerate(text)) % 2**40


def to_rows(customers: list[str], day: date = DAY) -> list[dict]:
    """Return rows of three days for each customer: every second one buys after each view, the others only view."""
    return [
        to_row(customer, day - timedelta(days=age), ["view", "purchase" if n % 2 else "view"] * (3 + n % 4))
        for n, customer in enumerate(customers)
        for age in (9, 4, 1)
    ]


def write_rows(lake: str, rows: list[dict], day: date | None = None) -> None:
    """Make these the rows of the table, or of a day."""
    table = pa.Table.from_pylist(rows, CONTRACT)
    where = {"predicate": f"day = '{day}'"} if day else {}
    write_deltalake(table_path(lake, TABLE.name), table, partition_by=["day"], mode="overwrite", **where)
