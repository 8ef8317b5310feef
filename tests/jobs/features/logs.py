"""Rows from dictionaries, and random logs of customers: at the ages where windows begin and end, and at midnight."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any

import pyarrow as pa

from jobs.storage.table import Table

AGES = (-2, -1, 0, 1, 2, 6, 7, 8, 13, 14, 29, 30, 31, 59, 60, 89, 90, 91, 179, 180, 181, 250, 364, 365, 366, 400)
KINDS = ("view", "view", "view", "search", "add_to_cart", "remove_from_cart", "begin_checkout", "purchase", "login", "other")


def to_arrow(table: Table, rows: list[dict], columns: tuple[str, ...] | None = None) -> pa.Table:
    """Return columns of the rows in the contract of the table, missing values null; dates and times may be texts, lists JSON."""
    schema = pa.schema([table.arrow_schema.field(name) for name in columns or table.columns])
    typed = [{field.name: _to_value(row.get(field.name), field.type) for field in schema} for row in rows]
    return pa.Table.from_pylist(typed, pa.schema([field.with_nullable(True) for field in schema]))


def _to_value(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_date(kind):
        return date.fromisoformat(value) if isinstance(value, str) else value
    if pa.types.is_timestamp(kind):
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return at.replace(tzinfo=UTC)
    if pa.types.is_decimal(kind):
        return Decimal(value)
    return json.loads(value, parse_int=Decimal, object_hook=_to_entry) if pa.types.is_list(kind) else value


def _to_entry(entry: dict) -> dict:
    return entry | {"amount": Decimal(entry["amount"])}


def log(seed: int, day: date) -> dict[str, list[dict]]:
    """Return the rows of one customer, of days up to and after `day`."""
    random = Random(seed)  # noqa: S311
    name = f"c{seed}"
    records = [_record(random, name, day) for _ in range(random.choice((0, 1, 1, 2)))]
    return {
        "customers": list({r["day"]: r for r in records}.values()),
        "events": [event for n in range(random.choice((0, 1, 3, 6))) for event in _visit(random, name, f"{name}-{n}", day)],
        "orders": [line for n in range(random.choice((0, 0, 1, 2, 6))) for line in _versions(random, name, f"{name}-{n}", day)],
        "returns": [row for n in range(random.choice((0, 0, 1, 3))) for row in _return(random, name, f"{name}-r{n}", day)],
    }


def _random_time(random: Random, day: date) -> datetime:
    minute = random.choice((0, 5, 359, 360, 719, 720, 1079, 1080, 1430, 1439, random.randrange(1440)))
    return datetime.combine(day - timedelta(days=random.choice(AGES)), datetime.min.time()) + timedelta(minutes=minute)


def _record(random: Random, name: str, day: date) -> dict:
    day_known = random.choice((date(1970, 1, 1), _random_time(random, day).date()))
    registered = random.choice((None, _random_time(random, day)))
    return {"customer_id": name, "day": day_known, "registered_at": registered, "country": random.choice((None, "GB", "FR"))}


def _visit(random: Random, name: str, session: str, day: date) -> list[dict]:
    """A session, maybe over midnight, whose first events may be another customer's or known to be ours only later."""
    at = _random_time(random, day)
    known_on = at.date() + timedelta(days=random.choice((0, 0, 0, 1, 3, 40)))
    began = at - timedelta(minutes=random.choice((0, 0, 0, 7, 30)))
    device, channel = random.choice((None, "phone", "tablet", "desktop", "tv")), random.choice((None, "mail", "ads", "web"))
    is_bot, events = random.random() < 0.1, []
    for n in range(random.choice((1, 1, 2, 4, 8))):
        at += timedelta(minutes=random.choice((0, 0, 1, 9, 10, 11, 20)), seconds=random.choice((0, 0, 30))) if n else timedelta()
        kind = random.choice(KINDS)
        events.append({
            "event_id": f"{session}-{n}", "customer_id": name, "visitor_id": session, "session_id": session, "day": at.date(),
            "event_at": at, "session_started_at": began, "active_since": began, "event_type": kind, "is_bot": is_bot,
            "product_id": random.choice((None, "mug", "pen")), "device": device, "channel": channel, "signed_in": False,
            "search_term": random.choice((None, "red", "blue")) if kind == "search" else None,
            "identified_on": max(at.date(), known_on),
        })  # fmt: skip
    return events


def _versions(random: Random, name: str, order: str, day: date) -> list[dict]:
    """The versions of an order; the first may be another customer's, and what holds now may be nothing."""
    lines = _order(random, name, order, day)
    ordered_on = lines[0]["day"]
    changed = sorted(ordered_on + timedelta(days=random.choice((1, 2, 30, 90))) for _ in range(random.choice((0, 0, 1, 3))))
    bounds = [ordered_on, *dict.fromkeys(changed), date(9999, 12, 31)]
    versions = []
    for n, (known_from, known_until) in enumerate(pairwise(bounds)):
        again = [line | {"ordered_at": lines[0]["ordered_at"], "day": ordered_on} for line in _order(random, name, order, day)]
        kept = lines if n == 0 else again
        if random.random() < 0.9 or len(bounds) == 2:
            versions += [line | {"known_from": known_from, "known_until": known_until} for line in kept]
    return versions


def _order(random: Random, name: str, order: str, day: date) -> list[dict]:
    """An order, of which some lines, or all, may have been cancelled since."""
    at, lines = _random_time(random, day), []
    cancelled = random.choice(((), (), (False, True), (True,)))
    for n in range(random.choice((1, 1, 2, 4))):
        kind = random.choice(("product", "product", "product", "postage", "tax", "fee", "discount"))
        quantity, cents = random.choice((0, 1, 2, 7)), random.randrange(0, 5000, 5)
        gross = Decimal(0 if kind == "discount" else quantity * cents) / 100
        lines.append({
            "order_id": order, "line_no": n, "day": at.date(), "ordered_at": at, "customer_id": name, "line_kind": kind,
            "product_id": random.choice(("mug", "pen", "cup")), "quantity": Decimal(quantity), "gross_amount": gross,
            "category": random.choice((None, "kitchen", "desk", "kitchen")) if kind == "product" else None,
            "discount_amount": Decimal(3) if kind == "discount" else random.choice((Decimal(0), Decimal(0), gross / 4)),
            **(_cancellation(random, at) if cancelled and random.choice(cancelled) else {"status": "placed"}),
        })  # fmt: skip
    return lines


def _cancellation(random: Random, ordered_at: datetime) -> dict:
    return {"status": "cancelled", "returned_at": ordered_at + timedelta(days=random.choice((0, 1, 5, 60)))}


def _return(random: Random, name: str, order: str, day: date) -> list[dict]:
    at, kind = _random_time(random, day), random.choice(("return", "cancellation"))
    return [
        {"return_order_id": order, "return_line_no": n // 2, "day": at.date(), "customer_id": name, "kind": kind,
         "amount": Decimal(random.randrange(0, 3000, 5)) / 100}
        for n in range(random.choice((1, 1, 3)))
    ]  # fmt: skip
