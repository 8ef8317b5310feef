"""Waiting for processes. This module changes nothing when a process imports it, unlike stand_in.py."""

import time

import psutil


def is_running(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_for(condition, seconds: float = 600) -> None:
    """Wait until the condition holds. The limit only ends a test that hangs, on a machine however busy."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.1)
