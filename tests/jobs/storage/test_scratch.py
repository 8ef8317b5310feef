"""Scratch folders of killed processes are removed by the next step; those of living processes and of other users stay."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import steps
from jobs.config.settings import load_settings
from jobs.storage import scratch

OWNER = """
import sys, time
from jobs.storage.scratch import open_scratch
with open_scratch() as folder:
    open(folder + "/rows", "w").write("rows")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def start_owner(tmp_path, monkeypatch):
    """Start a process that owns a scratch folder; returns it with the folder."""
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    processes = []

    def start() -> tuple[subprocess.Popen, Path]:
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        process = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, env=environment)
        processes.append(process)
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def test_a_step_removes_what_a_killed_process_left_and_nothing_of_a_living_one(start_owner, tmp_path):
    (killed, abandoned), (_, owned) = start_owner(), start_owner()
    kill(killed)
    (tmp_path / "shoal_bench_1").mkdir()  # of another program
    assert (abandoned / "rows").exists()
    with steps.open_lake("features", load_settings({"SHOAL_LAKE": str(tmp_path / "lake")})):
        assert not abandoned.exists()
    assert (owned / "rows").exists()
    assert (tmp_path / "shoal_bench_1").exists()


def test_what_another_user_left_stays(start_owner, monkeypatch):
    killed, abandoned = start_owner()
    kill(killed)
    user = os.geteuid()
    monkeypatch.setattr(scratch.os, "geteuid", lambda: user + 1)
    scratch.clear_abandoned()
    assert (abandoned / "rows").exists()


def test_a_scratch_folder_is_readable_by_its_user_alone_and_goes_with_its_block(start_owner):
    with scratch.open_scratch() as folder:
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        scratch.clear_abandoned()
        assert os.path.exists(folder)
    assert not os.path.exists(folder)
