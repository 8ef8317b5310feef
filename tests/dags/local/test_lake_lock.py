"""The lock of a lake as `make refresh` holds it: the steps read the same file, in jobs/storage/lock.py."""

import json
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dags.local import lake_lock
from dags.local.errors import UserError
from jobs.config import locations
from jobs.config import settings as jobs_settings
from jobs.errors import LakeBusy
from jobs.storage import lock
from tests.dags.stand_in import ROOT

NOW = datetime(2026, 11, 20, 2, tzinfo=UTC)


def hold_as_step(root: str):
    return lock.hold_lake(root, "shoal clean", "2026-11-19", NOW)


@contextmanager
def without_token(monkeypatch):
    """Act as a process that the holder has not started."""
    with monkeypatch.context() as patch:
        patch.delenv(lock.TOKEN_VARIABLE)
        yield


def test_both_write_the_same_fields(tmp_path):
    root, contents = str(tmp_path), []
    for holder in (hold_as_step(root), lake_lock.hold_lake(root, "2026-11-19")):
        with holder:
            contents.append(json.loads((tmp_path / ".lock").read_text()))
    step, run = contents
    assert step.keys() == run.keys()
    assert {name: type(value) for name, value in step.items()} == {name: type(value) for name, value in run.items()}
    assert (step["pid"], step["host"], step["days"]) == (run["pid"], run["host"], run["days"])
    assert [datetime.fromisoformat(holder["started_at"]).tzinfo for holder in contents] == [UTC, UTC]


def test_a_step_of_the_run_is_let_through_and_another_is_refused(tmp_path, monkeypatch):
    with lake_lock.hold_lake(str(tmp_path), "2026-11-20"):
        with hold_as_step(str(tmp_path)):
            pass
        refused = pytest.raises(LakeBusy, match="is in use by make refresh of 2026-11-20 ")
        with without_token(monkeypatch), refused, hold_as_step(str(tmp_path)):
            pass
    assert lock.TOKEN_VARIABLE not in os.environ


def test_both_refuse_with_the_same_line(tmp_path):
    root, lines = str(tmp_path), []
    with hold_as_step(root):
        for refused in (
            lambda: hold_as_step(root).__enter__(),
            lambda: lake_lock.hold_lake(root, "2026-11-20").__enter__(),
            lambda: lake_lock.check_lake(root),
        ):
            with pytest.raises((LakeBusy, UserError)) as caught:
                refused()
            lines.append(str(caught.value))
    assert len(set(lines)) == 1
    assert " is in use by shoal clean of 2026-11-19 " in lines[0]
    lake_lock.check_lake(root)


@pytest.mark.parametrize("root", ["/data/lake", "file:///data/my%20lake", "s3://shop/lake", "s3://shop/lake/", "abfss://a@b/c"])
def test_both_lock_the_same_file(root, monkeypatch):
    monkeypatch.setenv("SHOAL_HOME", "/project")
    assert lake_lock.lock_path(root) == lock.lock_path(root, Path("/project"))


@pytest.mark.parametrize("refreshed", [{}, {"lake": "var/mine/lake"}, {"lake": "s3://shop/lake"}])
@pytest.mark.parametrize("variables", [{}, {"SHOAL_LAKE": "var/mine"}, {"SHOAL_LAKE": "s3://shop"}, {"SHOAL_ENV": "prod"}])
def test_both_find_the_same_lake(tmp_path, monkeypatch, refreshed, variables):
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    (tmp_path / "var").mkdir()
    monkeypatch.setattr(locations, "RECORD", tmp_path / "var" / "refreshed.json")
    monkeypatch.setattr(jobs_settings, "HOME", tmp_path)
    if refreshed:
        roots = {"SHOAL_LAKE": refreshed["lake"], "SHOAL_MODELS": "m", "SHOAL_REPORTS": "r"}
        locations.record_refresh(roots | {"SHOAL_SOURCE": "conf/sources/mine.toml"})
    monkeypatch.delenv("SHOAL_LAKE")
    for name, value in ({"SHOAL_HOME": str(tmp_path)} | variables).items():
        monkeypatch.setenv(name, value)
    source = {"SHOAL_SOURCE": "mine"} if "SHOAL_ENV" in variables else {}
    steps_lake = jobs_settings.load_settings(locations.locate_source(variables | source, None)).lake
    assert lake_lock.lake_root() == steps_lake


def test_a_lake_that_cannot_be_written_and_settings_without_a_lake_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "lake").write_text("not a folder")
    message = r"^lake: .*/lake/\.lock cannot be written or locked \(.+\); choose another root with SHOAL_LAKE$"
    with pytest.raises(UserError, match=message), lake_lock.hold_lake(f"{tmp_path}/lake", "2026-11-20"):
        pass
    monkeypatch.delenv("SHOAL_LAKE")
    monkeypatch.setenv("SHOAL_ENV", "nowhere")
    with pytest.raises(UserError, match=r"^settings: .*/conf/nowhere\.toml name no lake \(.+\); set SHOAL_LAKE$"):
        lake_lock.lake_root()
