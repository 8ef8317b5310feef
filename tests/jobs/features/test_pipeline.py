"""The pipeline of features: for which days it writes features.customers."""

from datetime import date

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.config.settings import load_settings
from jobs.features.pipeline import backtest_days
from jobs.storage import models
from jobs.storage.lake import Lake

DAY, FOREVER = date(2026, 4, 1), date.max


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
    settings = no_outcomes(tmp_path)
    if champion_since:
        promote(tmp_path, champion_since)
    lake = Lake(None, str(tmp_path / "lake"))
    write_days(lake, "features.customers", *((date.fromisoformat(day), FOREVER) for day in days_there))
    write_days(lake, "features.customer_days", (date(2026, 3, 1), FOREVER))
    assert [str(day) for day in backtest_days(lake, settings, DAY, retrain)] == expected
    # On the earlier day no customer was known: of its rows one became known later, and one no longer holds.
    write_days(lake, "features.customer_days", (date(2026, 3, 3), FOREVER), (date(2026, 3, 1), date(2026, 3, 2)))
    assert backtest_days(lake, settings, DAY, retrain) == []


@pytest.mark.parametrize(
    ("values_since", "expected"), [(None, ["2026-01-01"]), ("2026-03-25", ["2026-01-01"]), ("2026-03-31", [])]
)
def test_the_backtest_of_values_has_its_customers_too(tmp_path, values_since, expected):
    settings = no_outcomes(tmp_path)
    promote(tmp_path, "2026-03-31")
    if values_since:
        promote(tmp_path, values_since, models.CUSTOMER_VALUES)
    lake = Lake(None, str(tmp_path / "lake"))
    write_days(lake, "features.customer_days", (date(2026, 1, 1), FOREVER), day=date(2026, 1, 1))
    assert [str(day) for day in backtest_days(lake, settings, DAY, False)] == expected


def test_a_fit_of_outcomes_has_the_customers_of_the_earlier_days_that_are_known(tmp_path):
    promote(tmp_path, "2026-03-31")
    promote(tmp_path, "2026-03-31", models.CUSTOMER_VALUES)
    settings, lake = load_settings({"SHOAL_MODELS": str(tmp_path)}), Lake(None, str(tmp_path / "lake"))
    write_days(lake, "features.customer_days", (date(2026, 1, 15), FOREVER), day=date(2026, 1, 15))
    # 30 days each for the next order; of the windows of 90 days the first begins before anybody was known
    assert [str(day) for day in backtest_days(lake, settings, DAY, False)] == ["2026-01-31", "2026-03-02"]
    promote(tmp_path, "2026-03-10", models.CUSTOMER_OUTCOMES)
    assert backtest_days(lake, settings, DAY, False) == []


def no_outcomes(root):
    """Settings without outcomes, so that only the other trainings need customers."""
    (root / "outcomes.toml").write_text("")
    return load_settings({"SHOAL_MODELS": str(root), "SHOAL_OUTCOMES": str(root / "outcomes.toml")})


def promote(root, since, family=models.FAMILY):
    models.save(str(root), "v1", lambda folder: (folder / "meta.json").write_text("{}"), family)
    models.promote(str(root), "v1", date.fromisoformat(since), family=family)


def write_days(lake, table, *periods, day=date(2026, 3, 1)):
    """Write rows of a day that are known from the first of two days until the second."""
    columns = {"identified_on": [since for since, _ in periods], "known_until": [until for _, until in periods]}
    days = columns["identified_on"] if table == "features.customers" else [day for _ in periods]
    rows = pa.table({name: pa.array(values, pa.date32()) for name, values in {"day": days, **columns}.items()})
    write_deltalake(lake.path(table), rows, mode="overwrite", partition_by=["day"])
