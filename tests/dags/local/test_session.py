"""The session file of `up`: which processes `down` ends, and that it finds every Airflow that `up` started."""

import json
import os
import signal
import subprocess
import sys

import pytest

from dags.local import session
from tests.dags.local_command import run_local
from tests.dags.waiting import is_running, wait_for


@pytest.fixture
def file(project):
    return project.var / "airflow" / "session.json"


@pytest.fixture
def foreign():
    """A process that Shoal did not start, which leads a session."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def start_leader(file, script: str = "exec sleep 600") -> subprocess.Popen:
    return session.start_session(file, 8080, ["sh", "-c", script], subprocess.DEVNULL, dict(os.environ))


def test_down_ends_the_processes_of_the_session_file(project, file):
    with start_leader(file) as leader:
        assert run_local(project, "down") == (0, ["down"], "")
        assert leader.wait(60) == -signal.SIGTERM
    assert not file.exists()


@pytest.mark.parametrize(
    "changed",
    [{"started": 1}, {"boot": "a boot before"}, {"started": None}, {"boot": ""}],
    ids=["another start", "another boot", "no start", "no boot"],
)
def test_down_does_not_end_a_foreign_process_with_the_id_of_an_old_session_file(project, file, foreign, changed):
    with start_leader(file) as leader:
        leader.kill()
    content = json.loads(file.read_text()) | {"leader": foreign.pid, "started": session._start_time(foreign.pid)}
    file.write_text(json.dumps(content | changed))
    assert run_local(project, "down") == (0, ["nothing is up"], "")
    assert is_running(foreign.pid)
    assert not file.exists()


def test_down_does_not_end_the_session_of_a_foreign_leader_that_has_ended(project, file):
    with subprocess.Popen(["sh", "-c", "sleep 600 & echo $!"], start_new_session=True, stdout=subprocess.PIPE) as foreign:
        member = int(foreign.stdout.readline())
    try:
        with start_leader(file) as leader:
            leader.kill()
        file.write_text(json.dumps(json.loads(file.read_text()) | {"leader": foreign.pid}))
        assert run_local(project, "down") == (0, ["nothing is up"], "")
        assert is_running(member)
    finally:
        os.kill(member, signal.SIGKILL)


def test_down_ends_the_processes_of_a_killed_leader(project, file):
    members = file.with_name("members")
    with start_leader(file, f"sleep 600 & echo $! > {members}; sleep 600") as leader:
        wait_for(lambda: members.exists() and members.read_text().strip())
        leader.kill()
    member = int(members.read_text())
    assert is_running(member)
    assert run_local(project, "down") == (0, ["down"], "")
    assert not is_running(member)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"session": 1, "port": 8080}', '{"leader": "x", "started": 1, "boot": "", "port": 1}', "\xff"],
)
def test_a_damaged_session_file_means_that_nothing_is_up(project, file, content):
    file.write_bytes(content.encode("latin-1"))
    assert run_local(project, "down") == (0, ["nothing is up"], "")
    assert not file.exists()


# `up` is killed after it has started the leader and before the session file names it.
KILLED_UP = """
import os, subprocess, sys
from pathlib import Path
from dags.local import session
session._write = lambda file, content: os.kill(os.getpid(), 9)
file = Path(sys.argv[1])
session.start_session(file, 8080, ["touch", f"{file}.started"], subprocess.DEVNULL, dict(os.environ))
"""


def test_up_that_is_killed_before_it_writes_the_session_file_leaves_no_process(file):
    with subprocess.Popen([sys.executable, "-c", KILLED_UP, file], start_new_session=True) as process:
        assert process.wait(60) == -signal.SIGKILL
    wait_for(lambda: not [p for p in session.psutil.process_iter(["cmdline"]) if f"{file}.started" in (p.info["cmdline"] or [])])
    assert not file.exists()
    assert not file.with_name(f"{file.name}.started").exists()


def test_the_session_file_is_replaced_in_one_step(file, monkeypatch):
    """The old content stays until the new file is on the disk."""
    file.write_text("before")
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail(f"written: {file.read_text()}"))
    with pytest.raises(pytest.fail.Exception, match="written: before"):
        session._write(file, session.Session(1, 1, "", 8080))
