"""What a webhook sends: a change as an event with an id of its own, and many events as one signed message.

Ids and signatures are those of the Standard Webhooks specification (standardwebhooks.com), for which receivers find libraries.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from typing import NamedTuple

import pyarrow as pa

from jobs.activation._changes import REACHED
from jobs.config.activation import SEGMENT_ENTERED, SEGMENT_LEFT, THRESHOLD_LEFT, THRESHOLD_REACHED, Webhook

_SECRET_PREFIX = "whsec_"  # noqa: S105  of a secret that is written in base64


class Message(NamedTuple):
    """A body, the id that the receiver knows it by, and the events in it."""

    id: str
    body: bytes
    events: Sequence[dict]


def list_events(
    changes: pa.Table, crossings: pa.Table, names: Mapping[int, str], webhook: Webhook, day: date, left_out: Collection[str]
) -> list[dict]:
    """Return the events of a webhook, by customer; a segment is left before the next one is entered.

    `changes` and `crossings` are those of _changes, `names` are the names of the segments. Customers who are `left_out` have
    no events. An id is made of the names of the webhook, the day, the customer and the change.
    """
    events = [*_list_segment_events(changes, names), *_list_threshold_events(crossings)]
    chosen = [
        event
        for event in events
        if event["event"] in webhook.events
        and event["customer_id"] not in left_out
        and (webhook.segments is None or event.get("segment_id", webhook.segments[0]) in webhook.segments)
        and (webhook.thresholds is None or event.get("threshold", webhook.thresholds[0]) in webhook.thresholds)
    ]
    for event in chosen:
        subject = event.get("threshold", event.get("segment_id"))
        event["id"] = _hash(webhook.name, day, event["customer_id"], event["event"], subject)
    return sorted(chosen, key=lambda event: event["customer_id"])  # stable: keeps the order of a customer's events


def _list_segment_events(changes: pa.Table, names: Mapping[int, str]) -> Iterator[dict]:
    for row in changes.to_pylist():
        before, now, customer = row["from_segment_id"], row["to_segment_id"], {"customer_id": row["customer_id"]}
        if before is not None:
            segment = {"segment_id": before, "segment_name": names.get(before), "to_segment_id": now}
            yield customer | {"event": SEGMENT_LEFT} | segment
        if now is not None:
            segment = {"segment_id": now, "segment_name": names.get(now), "from_segment_id": before}
            yield customer | {"event": SEGMENT_ENTERED} | segment


def _list_threshold_events(crossings: pa.Table) -> Iterator[dict]:
    for row in crossings.to_pylist():
        event = THRESHOLD_REACHED if row["change"] == REACHED else THRESHOLD_LEFT
        yield {
            "customer_id": row["customer_id"], "event": event, "threshold": row["threshold"], "value": row["value"],
        }  # fmt: skip


def write_messages(events: Sequence[dict], webhook: Webhook, day: date) -> Iterator[Message]:
    """Yield the messages of these events; the same events give the same messages."""
    for start in range(0, len(events), webhook.batch_size):
        batch = events[start : start + webhook.batch_size]
        message_id = f"msg_{_hash(*(event['id'] for event in batch))}"
        content = {"id": message_id, "webhook": webhook.name, "day": str(day), "events": batch}
        yield Message(message_id, json.dumps(content, separators=(",", ":")).encode(), batch)


def sign_message(message: Message, secret: str, timestamp: int) -> dict[str, str]:
    """Return the headers of a message sent at `timestamp`, in seconds since 1970: an HMAC-SHA256 of id, time and body.

    >>> message = Message("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', [])
    >>> sign_message(message, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1614265330)["webhook-signature"]
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    is_encoded = secret.startswith(_SECRET_PREFIX)
    key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX)) if is_encoded else secret.encode()
    signed = f"{message.id}.{timestamp}.".encode() + message.body
    signature = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return {"webhook-id": message.id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}


def _hash(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]
