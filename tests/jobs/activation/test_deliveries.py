"""Webhooks sent to a real server that fails at times: every change arrives, once for who drops repeats, or is a dead letter."""

import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.activation import _sending, deliveries, pipeline
from jobs.config.activation import Activation, Threshold, Webhook
from jobs.config.settings import HOME
from jobs.errors import UserError
from jobs.storage.lake import Lake
from tests.jobs.activation.receiver import SECRET, Receiver

DAY = date(2024, 3, 2)
BEFORE = DAY - timedelta(days=1)
NOON = datetime(2024, 3, 3, 12, tzinfo=UTC)
LEAVING = Threshold("leaving", "p_alive", None, above=None, below=0.5)
ALL = [
    ("c1", "segment_left", 1), ("c1", "segment_entered", 2), ("c2", "segment_entered", 1), ("c3", "segment_left", 2),
    ("c4", "threshold_reached", "leaving"),
]  # fmt: skip


@pytest.fixture
def lake(tmp_path):
    """A day on which c1 moves from 1 to 2, c2 is new in 1, c3 is gone from 2, and c4 may be leaving."""
    lake = Lake(None, str(tmp_path / "lake"))
    write_deltalake(lake.path("marts.refreshes"), pa.table({"day": [BEFORE, DAY]}))
    changes = {
        "day": [DAY] * 3, "customer_id": ["c1", "c2", "c3"], "change": ["changed", "added", "removed"],
        "from_segment_id": pa.array([1, None, 2], pa.int32()), "to_segment_id": pa.array([2, 1, None], pa.int32()),
    }  # fmt: skip
    write_deltalake(lake.path("marts.segment_changes"), pa.table(changes), partition_by=["day"])
    values = {"day": [BEFORE, DAY], "customer_id": ["c4", "c4"], "p_alive": [0.9, 0.2]}
    write_deltalake(lake.path("scores.customer_values"), pa.table(values), partition_by=["day"])
    profiles = {"day": [DAY], "segment_id": pa.array([2], pa.int32()), "segment_name": ["Loyal"]}
    write_deltalake(lake.path("marts.segment_profiles"), pa.table(profiles), partition_by=["day"])
    return lake


@pytest.fixture
def receiver(monkeypatch):
    monkeypatch.setenv("CRM_SECRET", SECRET)
    monkeypatch.setattr(_sending, "FIRST_PAUSE_SECONDS", 0.01)
    receiver = Receiver()
    yield receiver
    receiver.stop()


def notify(lake: Lake, receiver: Receiver, days=(DAY,), dead_letters: bool = False, **options) -> None:
    webhook = Webhook("crm", receiver.address, "CRM_SECRET", **({"give_up_seconds": 5, "batch_size": 2} | options))
    pipeline.run(lake, Activation((LEAVING,), (webhook,)), days, lambda: NOON, dead_letters)


def read_log(lake: Lake) -> list[dict]:
    return lake.read_arrow(deliveries.TABLE).to_pylist()


def test_each_change_arrives_with_its_names_in_signed_batches(lake, receiver, capsys):
    notify(lake, receiver)

    assert receiver.summarize() == ALL
    entered = next(event for event in receiver.events.values() if event["event"] == "segment_entered")
    assert (entered["segment_name"], entered["from_segment_id"]) == ("Loyal", 1)
    assert len(receiver.requests) == 3
    assert Counter(row["status"] for row in read_log(lake)) == {"accepted": 5}
    assert "notify crm, 2024-03-02: 5 of 5 changes accepted now, 0 before, 0 kept as dead letters" in capsys.readouterr().out


def test_a_second_run_sends_nothing(lake, receiver):
    notify(lake, receiver)
    notify(lake, receiver)

    assert len(receiver.requests) == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"events": ("segment_entered",)}, ALL[1:3]),
        ({"segments": (1,), "events": ("segment_entered", "segment_left")}, [ALL[0], ALL[2]]),
        ({"events": ("threshold_reached", "threshold_left"), "thresholds": ("leaving",)}, ALL[4:]),
    ],
)
def test_a_webhook_is_told_only_of_what_it_declares(lake, receiver, options, expected):
    notify(lake, receiver, **options)

    assert receiver.summarize() == expected


def test_customers_of_a_holdout_are_left_out_and_counted(lake, receiver, capsys):
    write_deltalake(lake.path("marts.customer_segments"), pa.table({"customer_id": ["c1", "c4"], "holdout": [True, False]}))

    notify(lake, receiver)

    assert receiver.summarize() == ALL[2:]
    assert "1 customers of holdouts left out" in capsys.readouterr().out


@pytest.mark.parametrize("failures", [[500, 503], ["hang"], ["close"], [429, 408]])
def test_a_request_that_fails_is_tried_again_with_the_same_id(lake, receiver, failures):
    receiver.script = list(failures)

    notify(lake, receiver, timeout_seconds=0.3)

    assert receiver.summarize() == ALL
    ids = [headers["webhook-id"] for _, headers in receiver.requests]
    assert len(set(ids[: len(failures) + 1])) == 1
    assert max(row["attempts"] for row in read_log(lake)) == len(failures) + 1


def test_who_is_not_there_gets_everything_once_it_is(lake, receiver):
    receiver.stop()
    with pytest.raises(UserError, match=r"webhook crm, 2024-03-02: 5 of 5 changes were not accepted\. They are kept"):
        notify(lake, receiver, give_up_seconds=0.05)
    log = read_log(lake)
    assert Counter(row["status"] for row in log) == {"dead": 5}
    assert {row["reason"] for row in log} == {
        "failed (ConnectionRefusedError)", "not tried, because an earlier request failed (ConnectionRefusedError)"
    }  # fmt: skip

    repaired = Receiver(receiver.port)
    notify(lake, repaired)
    repaired.stop()

    assert repaired.summarize() == ALL
    assert Counter(row["status"] for row in read_log(lake)) == {"accepted": 5}


def test_dead_letters_of_an_earlier_day_are_sent_on_request_and_before_the_later_day(lake, receiver):
    receiver.script = [404]
    with pytest.raises(UserError):
        notify(lake, receiver)
    later = DAY + timedelta(days=1)
    write_deltalake(lake.path("marts.refreshes"), pa.table({"day": [later]}), mode="append")

    notify(lake, receiver, [later])
    assert receiver.summarize() == []
    notify(lake, receiver, [later], dead_letters=True)

    assert receiver.summarize() == ALL


def test_a_dead_letter_that_is_no_change_any_more_is_dropped(lake, receiver):
    receiver.script = [404]
    with pytest.raises(UserError):
        notify(lake, receiver)
    write_deltalake(lake.path("marts.customer_segments"), pa.table({"customer_id": ["c1"], "holdout": [True]}))

    notify(lake, receiver)

    assert receiver.summarize() == ALL[2:]
    assert {(row["customer_id"], row["status"]) for row in read_log(lake)} == {(c, "accepted") for c in ("c2", "c3", "c4")}


@pytest.mark.parametrize(("status", "n_requests", "n_accepted"), [(401, 1, 0), (302, 1, 0), (400, 3, 3)])
def test_a_refusal_is_not_tried_again_and_ends_the_run_unless_it_is_about_the_message(
    lake, receiver, status, n_requests, n_accepted
):
    receiver.script = [status]
    with pytest.raises(UserError, match="changes were not accepted"):
        notify(lake, receiver)

    assert len(receiver.requests) == n_requests
    assert {path for path, _ in receiver.requests} == {"/hooks?key=hidden"}  # a redirect is not followed
    log = read_log(lake)
    assert sum(row["status"] == "accepted" for row in log) == n_accepted
    assert f"answered {status}" in {row["reason"] for row in log}


def test_neither_the_secret_nor_the_address_is_printed_or_stored(lake, receiver, capsys):
    receiver.script = [500, 403]
    with pytest.raises(UserError) as raised:
        notify(lake, receiver)

    texts = capsys.readouterr().out + str(raised.value) + str(read_log(lake))
    assert "answered 500" in texts
    assert SECRET not in texts
    assert "hidden" not in texts


def test_a_day_that_is_not_published_and_a_missing_secret_are_refused_before_anything_is_sent(lake, receiver, monkeypatch):
    with pytest.raises(UserError, match="notify: 2024-03-09 is not published"):
        notify(lake, receiver, [date(2024, 3, 9)])
    monkeypatch.delenv("CRM_SECRET")
    with pytest.raises(UserError, match="the variable CRM_SECRET, is not set"):
        notify(lake, receiver)
    assert receiver.requests == []


class Command:
    """`shoal notify` as a process, with a webhook to the receiver."""

    def __init__(self, lake: Lake, receiver: Receiver, folder) -> None:
        path = folder / "activation.toml"
        path.write_text(
            f'[[threshold]]\nname = "leaving"\ncolumn = "p_alive"\nbelow = 0.5\n[[webhook]]\nname = "crm"\n'
            f'address = "{receiver.address}"\nsecret_variable = "CRM_SECRET"\nbatch_size = 1\n'
        )
        variables = {"SHOAL_LAKE": lake.root, "SHOAL_ACTIVATION": str(path), "CRM_SECRET": SECRET, "SHOAL_SOURCE": "sample"}
        self.command, self.environment = [sys.executable, "-m", "jobs", "notify", "--day", str(DAY)], os.environ | variables

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(self.command, cwd=HOME, env=self.environment, stdout=subprocess.PIPE, text=True)


def test_a_run_that_is_killed_while_it_sends_is_completed_by_the_next(lake, receiver, tmp_path):
    command = Command(lake, receiver, tmp_path)
    running: list[subprocess.Popen] = []
    receiver.script = [200, 200, lambda: os.kill(running[0].pid, signal.SIGKILL)]  # accepted, and the sender never hears of it
    running.append(command.start())
    running[0].communicate(timeout=60)
    assert running[0].returncode == -signal.SIGKILL
    assert len(receiver.events) == 3

    process = command.start()
    out, _ = process.communicate(timeout=60)

    assert process.returncode == 0, out
    assert "3 of 5 changes accepted now, 2 before" in out
    assert receiver.summarize() == ALL
    assert sorted(receiver.messages.values()) == [1, 1, 1, 1, 2]  # the message in flight came again, with its id
    assert Counter(row["status"] for row in read_log(lake)) == {"accepted": 5}


def test_without_a_webhook_the_step_is_not_due(lake, receiver, tmp_path):
    command = Command(lake, receiver, tmp_path)
    (tmp_path / "activation.toml").write_text("")
    process = command.start()
    out, _ = process.communicate(timeout=60)

    assert (process.returncode, out) == (99, f"not due: no webhook is declared in {tmp_path / 'activation.toml'}\n")
