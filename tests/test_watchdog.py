"""A step that makes no progress is ended with one line; one that works is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 1.0  # without a sign of progress
# Bodies of a watched step. Each that works does so for longer than SECONDS.
WORKING = {
    "computing": "repeat_until_end(lambda: sum(range(1000)))",
    "a child that computes": 'subprocess.run([sys.executable, "-c", "import time\\nwhile time.monotonic() < %f: pass" % end])',
    "lines of the log": "repeat_until_end(lambda: (time.sleep(0.2), progress.log('line')))",
    "a cluster": "watchdog.work_elsewhere(); time.sleep(2)",
}
STALLED = {
    "a lock that nobody releases": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "a child that waits": 'subprocess.run(["sleep", "60"])',
}
BODY = """
import subprocess, sys, threading, time
from jobs import progress, watchdog

def repeat_until_end(action):
    while time.monotonic() < end:
        action()

def body():
    {action}

with watchdog.end_if_stalled("segment", "2024-03-01", {minutes}):
    end = time.monotonic() + 2
    body()
print("ended by itself")
"""
COMMANDS = {"report": ["report"], "refresh": ["refresh", "--steps", "report"]}
COMMAND = """
import sys, time
from jobs import __main__, watchdog
from jobs.engine import session
from jobs.report import pipeline

class Session:
    version = "stuck"
    stop = print

pipeline.run = lambda settings, days: time.sleep(60)
session.open_session = lambda name: Session()
limit = watchdog.end_if_stalled
watchdog.end_if_stalled = lambda step, days, minutes: limit(step, days, minutes / 3600)
sys.exit(__main__.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """By name (exit code, lines) of every process, which ran at the same time."""
    programs = {name: ["-c", BODY.format(action=action, minutes=SECONDS / 60)] for name, action in (WORKING | STALLED).items()}
    programs |= {name: ["-c", COMMAND, *command, "--day", "2024-03-01"] for name, command in COMMANDS.items()}
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "SHOAL_LAKE": str(tmp_path_factory.mktemp("lake"))}
    processes = {
        name: subprocess.Popen([sys.executable, *program], cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True)
        for name, program in programs.items()
    }
    try:
        output = {name: process.communicate(timeout=50)[0] for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
    return {name: (process.returncode, output[name].splitlines()) for name, process in processes.items()}


@pytest.mark.parametrize("name", STALLED)
def test_a_step_without_progress_ends_with_a_line_and_an_exit_code_that_airflow_tries_again(ended, name):
    code, (*stacks, line) = ended[name]
    assert code == 1
    assert line == (
        "error: segment: no progress for 0.0166667 minutes (2024-03-01). The stacks of all threads stand above. "
        "Run the step again, or raise stall_minutes where its work takes longer."
    )
    assert any(" in body" in stack for stack in stacks)


@pytest.mark.parametrize("name", WORKING)
def test_a_step_that_works_is_left_alone(ended, name):
    code, lines = ended[name]
    assert (code, lines[-1:]) == (0, ["ended by itself"])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_step_is_watched(ended, command):
    code, lines = ended[command]
    assert code == 1
    assert lines[-1].startswith("error: report: no progress for ")
