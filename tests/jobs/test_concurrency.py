"""A call in a process of its own: its result, its death, and its end where nobody waits for it any more."""

import multiprocessing
import os
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from jobs.concurrency import call_in_process


def write_and_sleep(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def wait_for_pid(path):
    while not (path.exists() and path.read_text()):
        time.sleep(0.05)
    return int(path.read_text())


def test_the_result_is_that_of_another_process():
    with call_in_process(os.getppid) as parent:
        assert parent.result() == os.getpid()


def test_a_process_that_is_killed_gives_no_result(tmp_path):
    with call_in_process(write_and_sleep, tmp_path / "pid") as never:
        os.kill(wait_for_pid(tmp_path / "pid"), 9)
        with pytest.raises(BrokenProcessPool):
            never.result()


def test_where_the_block_fails_the_process_ends(tmp_path):
    started = time.monotonic()
    with pytest.raises(ValueError, match="of the block"), call_in_process(write_and_sleep, tmp_path / "pid"):
        pid = wait_for_pid(tmp_path / "pid")
        raise ValueError("of the block")
    assert pid not in {process.pid for process in multiprocessing.active_children()}
    assert time.monotonic() - started < 30
