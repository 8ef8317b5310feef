"""Webhooks of a day: who entered or left a segment, and who crossed a threshold, since the published day before."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from itertools import islice

import pyarrow.dataset as ds

from jobs.activation._changes import choose_period, read_crossings, read_holdouts, read_segment_changes
from jobs.activation._messages import list_events, write_messages
from jobs.activation._sending import Answer, send_message
from jobs.activation.deliveries import ACCEPTED, DEAD, Log, list_days_of_dead_letters
from jobs.config.activation import Activation, Webhook
from jobs.errors import UserError
from jobs.progress import log
from jobs.storage.lake import Lake


def run(
    lake: Lake, activation: Activation, days: Sequence[date], clock: Callable[[], datetime], dead_letters: bool = False
) -> None:
    """Send what each webhook has not accepted of `days` yet; with `dead_letters`, first of earlier days that have some.

    `clock` gives the time of each request. Raises UserError before anything is sent where a secret is missing or a day is not
    published, and after everything was tried where something was not accepted.
    """
    secrets = {webhook.name: webhook.read_secret() for webhook in activation.webhooks}
    earlier = list_days_of_dead_letters(lake, secrets, days[-1]) if dead_letters else []
    failed = []
    for day in sorted({*earlier, *days}):
        failed += _notify_day(lake, activation, day, secrets, clock)
    if failed:
        raise UserError(
            f"notify: {'; '.join(failed)}. They are kept in activation.deliveries in {lake.root};"
            " once the receiver works, run again: shoal notify --dead-letters --day DAY"
        )


def _notify_day(
    lake: Lake, activation: Activation, day: date, secrets: dict[str, str], clock: Callable[[], datetime]
) -> list[str]:
    """Send the changes of a day, and return what was not accepted, in words."""
    period = choose_period(lake.root, None, day, "notify")
    changes = read_segment_changes(lake.root, period)
    crossings = read_crossings(lake.root, activation.thresholds, period)
    names = _read_names(lake, day)
    held_out = read_holdouts(lake.root) & {*changes["customer_id"].to_pylist(), *crossings["customer_id"].to_pylist()}
    deliveries = Log(lake, day)
    failed, ids = [], {}
    for webhook in activation.webhooks:
        events = list_events(changes, crossings, names, webhook, day, held_out)
        ids[webhook.name] = [event["id"] for event in events]
        accepted = deliveries.list_accepted(webhook.name)
        unsent = [event for event in events if event["id"] not in accepted]
        n_dead = sum(_send_events(deliveries, webhook, unsent, day, secrets[webhook.name], clock))
        counts = f"{len(unsent) - n_dead:,} of {len(events):,} changes accepted now, {len(events) - len(unsent):,} before"
        log(
            f"notify {webhook.name}, {day}: {counts}, {n_dead:,} kept as dead letters;"
            f" {len(held_out):,} customers of holdouts left out"
        )
        if n_dead:
            failed.append(f"webhook {webhook.name}, {day}: {n_dead:,} of {len(unsent):,} changes were not accepted")
    deliveries.settle(ids)
    return failed


def _send_events(
    deliveries: Log, webhook: Webhook, events: list[dict], day: date, secret: str, clock: Callable[[], datetime]
) -> Iterator[int]:
    """Send events message by message, and yield how many of each were not accepted; after a message that ends it, all others."""
    messages = write_messages(events, webhook, day)
    n_tried = 0
    for message in messages:
        answer = send_message(message, webhook, secret, clock)
        deliveries.add(_to_rows(message.events, webhook, day, answer, clock()))
        n_tried += len(message.events)
        yield len(message.events) if answer.reason else 0
        if answer.reason and answer.ends_webhook:
            break
    if rest := list(islice(events, n_tried, None)):
        not_tried = Answer(0, f"not tried, because an earlier request {answer.reason}", True)
        deliveries.add(_to_rows(rest, webhook, day, not_tried, clock()))
        yield len(rest)


def _to_rows(events: Sequence[dict], webhook: Webhook, day: date, answer: Answer, answered_at: datetime) -> list[dict]:
    """Return rows of activation.deliveries."""
    facts = {
        "webhook": webhook.name, "day": day, "status": DEAD if answer.reason else ACCEPTED, "attempts": answer.attempts,
        "reason": answer.reason, "answered_at": answered_at,
    }  # fmt: skip
    return [
        facts
        | {"event_id": event["id"]}
        | {name: event.get(name) for name in ("customer_id", "event", "segment_id", "threshold")}
        for event in events
    ]


def _read_names(lake: Lake, day: date) -> dict[int, str]:
    rows = lake.read_small_table("marts.segment_profiles", ["segment_id", "segment_name"], ds.field("day") == day)
    return {row["segment_id"]: row["segment_name"] for row in rows}
