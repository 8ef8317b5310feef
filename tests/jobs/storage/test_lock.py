"""The lock of a lake: who is refused, who is let through, and that a killed holder leaves no lock."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from jobs.__main__ import main
from jobs.errors import LakeBusy, UserError
from jobs.storage.lock import TOKEN_VARIABLE, hold_lake, lock_path

STARTED_AT = datetime(2026, 11, 20, 2, tzinfo=UTC)
WRITING_COMMANDS = [
    ("land",), ("clean",), ("check", "clean"), ("features",), ("encode",), ("segment",), ("score",), ("publish",), ("refresh",),
]  # fmt: skip
HOLDER = """
import sys, time
from datetime import UTC, datetime
from jobs.storage.lock import hold_lake
with hold_lake(sys.argv[1], "make refresh", "2026-11-20", datetime(2026, 11, 20, 2, tzinfo=UTC)):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def root(tmp_path, monkeypatch) -> str:
    """A lake that no other test locks."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    monkeypatch.setenv("SHOAL_LAKE", str(tmp_path / "lake"))
    return str(tmp_path / "lake")


@contextmanager
def holding_process(root: str):
    """A process that holds the lock of the lake."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, root], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def hold(root: str):
    return hold_lake(root, "shoal clean", "2026-11-19", STARTED_AT)


@pytest.mark.parametrize("command", WRITING_COMMANDS, ids=" ".join)
def test_a_command_that_writes_is_refused_with_the_holder_while_another_process_holds_the_lock(root, capsys, command):
    with holding_process(root) as process:
        assert main([*command, "--day", "2026-11-19"]) == 75
    line = capsys.readouterr().out
    assert line == (
        f"error: lake: {root} is in use by make refresh of 2026-11-20 "
        f"(process {process.pid} on {os.uname().nodename}, since 2026-11-20T02:00:00+00:00); wait for it or stop it\n"
    )


def test_a_command_that_only_reads_takes_no_lock(root, capsys):
    with holding_process(root):
        for command in ("tables", "segments"):
            assert main([command]) == 2  # the lake has no tables
    assert "in use by" not in capsys.readouterr().out


def test_a_killed_holder_leaves_no_lock(root):
    with holding_process(root) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with hold(root):
            assert json.loads(lock_path(root).read_text())["pid"] == os.getpid()


def test_a_child_of_the_holder_is_let_through_and_a_wrong_token_is_not(root, monkeypatch):
    with holding_process(root):
        token = json.loads(lock_path(root).read_text())["token"]
        monkeypatch.setenv(TOKEN_VARIABLE, token)
        with hold(root):
            assert json.loads(lock_path(root).read_text())["token"] == token
        for wrong in ("", token[:-1], "None"):
            monkeypatch.setenv(TOKEN_VARIABLE, wrong)
            with pytest.raises(LakeBusy), hold(root):
                pass


def test_a_token_is_worth_nothing_once_its_holder_has_ended(root, monkeypatch):
    with holding_process(root) as process:
        monkeypatch.setenv(TOKEN_VARIABLE, json.loads(lock_path(root).read_text())["token"])
        process.kill()
        process.wait()
        with hold(root):
            monkeypatch.delenv(TOKEN_VARIABLE)
            with pytest.raises(LakeBusy), hold(root):
                pass


def test_a_holder_that_has_not_written_its_name_yet_is_refused_without_a_name(root, monkeypatch):
    monkeypatch.setattr("jobs.storage.lock._READ_SECONDS", 0.1)
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    with holding_process(root):
        lock_path(root).write_text("")
        with pytest.raises(LakeBusy, match=f"^lake: {root} is in use by another command; wait for it or stop it$"), hold(root):
            pass


def test_two_lakes_are_written_at_the_same_time(root):
    with hold(root), hold(f"{root}_of_another_shop"):
        pass


def test_a_lake_in_an_object_store_is_locked_on_this_machine(root, monkeypatch, tmp_path):
    monkeypatch.setattr("jobs.storage.lock.lock_path", lambda uri: lock_path(uri, tmp_path / "home"))
    with hold("s3://shop/lake"):
        with pytest.raises(LakeBusy, match="s3://shop/lake/ is in use by shoal clean of 2026-11-19"), hold("s3://shop/lake/"):
            pass
        with hold("s3://shop/other"):
            pass
    assert [path.parent for path in tmp_path.rglob("*.lock")] == [tmp_path / "home" / "var" / "locks"] * 2


def test_a_lake_that_cannot_be_written_is_one_line(root, tmp_path):
    (tmp_path / "lake").write_text("not a folder")
    message = r"^lake: .*/lake/\.lock cannot be written or locked \(.+\); choose another root with SHOAL_LAKE$"
    with pytest.raises(UserError, match=message), hold(root):
        pass
