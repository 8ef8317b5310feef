"""A command finds the lake, models and reports where the last refresh put them."""

import json

import pytest

from jobs.config import locations
from jobs.config.locations import locate_source, record_refresh
from jobs.errors import UserError


@pytest.fixture(autouse=True)
def record(tmp_path, monkeypatch):
    """The record in a folder of the test's own; nothing was refreshed yet."""
    monkeypatch.setattr(locations, "RECORD", tmp_path / "var" / "refreshed.json")
    return locations.RECORD


def refresh(source: str, lake: str) -> None:
    record_refresh({"SHOAL_SOURCE": source, "SHOAL_LAKE": lake, "SHOAL_MODELS": "m", "SHOAL_REPORTS": "r"})


def test_without_a_refresh_the_settings_decide():
    assert locate_source({"PATH": "x"}, None) == {"PATH": "x"}


def test_the_source_refreshed_last_is_the_default():
    refresh("sample", "var/sample/lake")
    refresh("conf/sources/mine.toml", "/data/lake")
    environment = locate_source({}, None)
    assert environment["SHOAL_LAKE"] == "/data/lake"
    assert environment["SHOAL_SOURCE"] == "conf/sources/mine.toml"


def test_a_named_source_has_the_roots_of_its_last_refresh_or_those_make_would_take():
    refresh("sample", "/elsewhere")
    refresh("mine", "/data/lake")
    assert locate_source({}, "sample")["SHOAL_LAKE"] == "/elsewhere"
    assert locate_source({}, "rees46_october_2019")["SHOAL_MODELS"] == "var/rees46_october_2019/models"


def test_variables_win_and_a_named_source_wins_over_its_variable():
    refresh("sample", "/elsewhere")
    environment = locate_source({"SHOAL_LAKE": "/mine", "SHOAL_SOURCE": "other"}, "sample")
    assert (environment["SHOAL_LAKE"], environment["SHOAL_MODELS"]) == ("/mine", "m")
    assert environment["SHOAL_SOURCE"] == "sample"
    assert locate_source({"SHOAL_SOURCE": "other"}, None)["SHOAL_SOURCE"] == "other"


def test_another_settings_file_has_its_own_roots():
    refresh("sample", "/elsewhere")
    assert locate_source({"SHOAL_ENV": "prod"}, None) == {"SHOAL_ENV": "prod"}


def test_a_damaged_record_is_named(record):
    record.parent.mkdir()
    record.write_text(json.dumps({"last": "a"})[:-3])
    with pytest.raises(UserError, match=r"refreshed.json is damaged; remove it"):
        locate_source({}, None)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"SHOAL_SOURCE": "nothing"}, "error: source: "),
        ({"SHOAL_INPUT": "/nowhere"}, "error: land: input folder /nowhere does not exist"),
        ({"SHOAL_CLEAN__LATE_DAYS": "soon"}, "error: settings: clean.late_days"),
    ],
)
def test_what_would_stop_the_first_step_is_one_line_before_anything_starts(changed, line, monkeypatch, capsys, record):
    for name, value in ({"SHOAL_SOURCE": "sample", "SHOAL_INPUT": "/nowhere"} | changed).items():
        monkeypatch.setenv(name, value)
    assert locations.main(["--files"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(line)
    assert error.count("\n") == 1
    assert not record.exists()
