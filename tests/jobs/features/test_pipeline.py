"""The pipeline of features: for which days it writes features.customers."""

from datetime import date
from types import SimpleNamespace

import pytest

from jobs.config.settings import load_settings
from jobs.features.pipeline import backtest_days
from jobs.storage import models

DAY = date(2026, 4, 1)


@pytest.mark.parametrize(
    ("champion_since", "retrain", "days_there", "expected"),
    [
        (None, False, [], ["2026-03-02"]),
        ("2026-03-31", False, [], []),  # young: no training is due
        ("2026-03-31", True, [], ["2026-03-02"]),
        ("2026-03-25", False, [], ["2026-03-02"]),
        (None, False, ["2026-03-02"], []),
    ],
)
def test_the_backtest_has_its_customers_where_a_training_is_due_and_they_are_not_there(
    tmp_path, champion_since, retrain, days_there, expected
):
    settings = load_settings({"SHOAL_MODELS": str(tmp_path)})
    if champion_since:
        models.save(str(tmp_path), "v1", lambda folder: (folder / "meta.json").write_text("{}"))
        models.promote(str(tmp_path), "v1", date.fromisoformat(champion_since))
    days = {"features.customers": [*map(date.fromisoformat, days_there)], "features.customer_days": [date(2026, 3, 1)]}
    lake = SimpleNamespace(days=days.__getitem__)
    assert [str(day) for day in backtest_days(lake, settings, DAY, retrain)] == expected
    days["features.customer_days"] = [date(2026, 3, 3)]  # on the earlier day no customer was known
    assert backtest_days(lake, settings, DAY, retrain) == []
