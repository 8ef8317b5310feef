"""What the command line refuses: exit code 2 and one line that says why."""

import os
import subprocess
import sys
from datetime import date

import pytest

from jobs import steps
from jobs.__main__ import main
from jobs.config.settings import load_settings
from jobs.errors import UserError


def refused(capsys, *argv: str) -> str:
    """Return the last line printed by a command that must end with 2, refused by the parser or by the step."""
    try:
        code = main(list(argv))
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return (captured.out + captured.err).strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("clean", "--day", "2999-01-01"), "day 2999-01-01 is in the future"),
        (("clean", "--day", "31.3.2026"), "'31.3.2026' is not a day"),
        (("clean",), "--day"),
        (("clean", "--from", "2026-03-02", "--to", "2026-03-01"), "2026-03-0"),
        (("tidy", "--day", "2026-03-01"), "invalid choice: 'tidy'"),
        (("check", "bronze", "--day", "2026-03-01"), "invalid choice: 'bronze'"),
        (("refresh", "--day", "2026-03-01", "--steps", "land,tidy"), "'tidy' is not a step"),
    ],
)
def test_a_command_that_cannot_run_is_refused_in_one_line(capsys, argv, message):
    line = refused(capsys, *argv)
    assert "error: " in line
    assert message in line


@pytest.mark.parametrize(("variable", "mode"), [({}, 0o600), ({"SHOAL_UMASK": "027"}, 0o640)])
def test_files_are_for_their_user_alone_unless_told_otherwise(tmp_path, variable, mode):
    script = (
        "from types import SimpleNamespace as Namespace; from pathlib import Path; from jobs import __main__ as command_line\n"
    )
    script += f"arguments = Namespace(run=lambda _: Path({str(tmp_path / 'file')!r}).touch())\n"
    script += "command_line.build_parser = lambda: Namespace(parse_args=lambda _: arguments)\ncommand_line.main([])"
    environment = {name: value for name, value in os.environ.items() if name != "SHOAL_UMASK"} | variable
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_a_wrong_umask_is_refused(capsys, monkeypatch):
    monkeypatch.setenv("SHOAL_UMASK", "private")
    assert "SHOAL_UMASK is 'private'; give three octal digits" in refused(capsys, "models", "list")


def test_a_crash_is_shown_without_the_values_that_its_message_quotes(capsys, monkeypatch):
    def crash(*arguments):
        raise ValueError("[CAST_INVALID_INPUT] The value 'Anna' cannot be cast\n - mail : anna@example.org")

    monkeypatch.setattr(steps, "run_command", crash)
    assert main(["clean", "--day", "2026-03-01"]) == 1
    captured = capsys.readouterr()
    assert captured.err.strip().endswith("ValueError: [CAST_INVALID_INPUT]")
    assert "nna" not in captured.out + captured.err


def test_a_missing_train_environment_is_named(monkeypatch):
    monkeypatch.setenv("SHOAL_TRAIN_PYTHON", "/nowhere/python")
    with pytest.raises(UserError, match="/nowhere/python does not exist; run: make setup"):
        steps.train_in_own_environment(load_settings({}), date(2026, 3, 1), retrain=False)


ENDING_PROCESS = """
import atexit, os, runpy, sys

class Kept:
    def __del__(self):
        os.write(2, b"freed")

def run_command(*arguments):
    atexit.register(print, "exit function", end="")
    raise UserError("wrong")

from jobs import steps
from jobs.errors import UserError
kept = Kept()
steps.run_command = run_command
sys.argv = ["jobs", "clean", "--day", "2026-03-01"]
runpy.run_module("jobs", run_name="__main__", alter_sys=True)
"""


def test_a_process_calls_its_exit_functions_and_frees_nothing():
    process = subprocess.run([sys.executable, "-c", ENDING_PROCESS], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (2, "error: wrong\nexit function", "")
