"""Every command and file that the README names exists."""

import argparse
import re

import pytest

from jobs.cli.parser import build_parser
from jobs.config.settings import HOME

TEXT = (HOME / "README.md").read_text()
FOLDERS = "conf|dags|docker|docs|expectations|jobs|requirements|tests"


def named(pattern: str) -> list[str]:
    found = sorted(set(re.findall(pattern, TEXT, re.M)))
    assert found, f"the README names nothing like {pattern}"
    return found


def commands() -> set[str]:
    return {
        name for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction) for name in action.choices
    }


@pytest.mark.parametrize("target", named(r"(?:^|`)make ([a-z]+)\b"))
def test_a_make_target_exists(target):
    assert re.search(rf"^{target}:", (HOME / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("command", named(r"bin/shoal ([a-z]+)"))
def test_a_command_exists(command):
    assert command in commands()


@pytest.mark.parametrize("path", named(rf"[`(]((?:{FOLDERS})/[\w./-]*|docker-compose\.yml)[`)]"))
def test_a_file_exists(path):
    assert (HOME / path).exists() or path == "conf/sources/mine.toml"  # the reader's own
