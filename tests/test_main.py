"""What the command line refuses: exit code 2 and one line that says why."""

from datetime import date
from types import SimpleNamespace

import pytest

from jobs import steps
from jobs.__main__ import main
from jobs.config.settings import load_settings
from jobs.errors import UserError
from jobs.storage import models


def refused(capsys, *argv: str) -> str:
    """The last line printed by a command that must end with 2, whoever of parser and step refused it."""
    try:
        code = main(list(argv))
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return (captured.out + captured.err).strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("argv", "says"),
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
def test_what_cannot_be_run_is_refused_in_a_line(capsys, argv, says):
    line = refused(capsys, *argv)
    assert "error: " in line
    assert says in line


def test_a_missing_train_environment_is_named(monkeypatch):
    monkeypatch.setenv("SHOAL_TRAIN_PYTHON", "/nowhere/python")
    with pytest.raises(UserError, match="/nowhere/python does not exist; run: make setup"):
        steps.train_in_own_environment(load_settings({}), date(2026, 3, 1), retrain=False)


@pytest.mark.parametrize(
    ("champion_since", "retrain", "known", "made"),
    [
        (None, False, [], ["2026-03-02"]),
        ("2026-03-31", False, [], []),  # young: no training is due
        ("2026-03-31", True, [], ["2026-03-02"]),
        ("2026-03-25", False, [], ["2026-03-02"]),
        (None, False, ["2026-03-02"], []),
    ],
)
def test_the_customers_of_the_backtest_are_made_where_a_training_is_due_and_lacks_them(
    tmp_path, champion_since, retrain, known, made
):
    local = load_settings({"SHOAL_MODELS": str(tmp_path)})
    if champion_since:
        models.save(str(tmp_path), "v1", lambda folder: (folder / "meta.json").write_text("{}"))
        models.promote(str(tmp_path), "v1", date.fromisoformat(champion_since))
    tables = {"features.customers": [*map(date.fromisoformat, known)], "features.customer_days": [date(2026, 3, 1)]}

    def found(lake):
        return [str(day) for day in steps.backtest_days(lake, local, steps.Options([date(2026, 4, 1)], retrain))]

    assert found(SimpleNamespace(days=tables.__getitem__)) == made
    tables["features.customer_days"] = [date(2026, 3, 3)]  # there was nobody then
    assert found(SimpleNamespace(days=tables.__getitem__)) == []
