import json
from dataclasses import replace
from datetime import date, timedelta

import pytest

from jobs.config.settings import Settings, load_settings
from jobs.scores import ablation
from jobs.storage import models
from jobs.storage.lake import Lake

DAY = date(2024, 6, 1)
FAMILY = models.CUSTOMER_OUTCOMES
GAIN = {
    "input_group": "text", "method": "logistic_regression", "n_customers": 400, "n_with_group": 300,
    "roc_auc": 0.71, "gain": 0.04, "gain_low": 0.01, "gain_high": 0.07,
}  # fmt: skip


@pytest.fixture
def shop(tmp_path) -> tuple[Lake, Settings]:
    return Lake(None, str(tmp_path / "lake")), replace(load_settings({}), models=str(tmp_path / "models"))


def save_models(settings: Settings, version: str, day: date, gains: list[dict] | None) -> None:
    facts = {} if gains is None else {"ablation": gains}
    meta = {"version": version, "day": day.isoformat(), "outcomes": {"churn": facts}}
    models.save_champion(
        settings.models,
        version,
        lambda folder: (folder / "meta.json").write_text(json.dumps(meta)),
        day,
        models.CUSTOMER_OUTCOMES,
    )


def test_a_fit_says_once_what_each_group_adds(shop):
    lake, settings = shop
    save_models(settings, "v1", DAY, [GAIN, GAIN | {"input_group": "all"}])
    ablation.run(lake, settings, DAY, retrain=False)
    version = lake.version(ablation.TABLE.name)
    ablation.run(lake, settings, DAY + timedelta(days=1), retrain=False)
    assert lake.version(ablation.TABLE.name) == version  # nothing is written on a day without a fit
    rows = lake.read_arrow(ablation.TABLE).to_pylist()
    assert [row["input_group"] for row in rows] == ["text", "all"]
    assert rows[0] == {"model_version": "v1", "day": DAY, "outcome": "churn"} | GAIN


def test_the_rows_of_earlier_fits_stay(shop):
    lake, settings = shop
    for number, version in enumerate(("v1", "v2")):
        day = DAY + timedelta(days=28 * number)
        save_models(settings, version, day, [GAIN])
        ablation.run(lake, settings, day, retrain=True)
    assert sorted(lake.read_arrow(ablation.TABLE)["model_version"].to_pylist()) == ["v1", "v2"]


def test_a_shop_without_groups_or_models_has_an_empty_table(shop):
    lake, settings = shop
    ablation.run(lake, settings, DAY, retrain=False)
    assert lake.exists(ablation.TABLE.name)
    save_models(settings, "v0", DAY, None)  # of an earlier version of Shoal
    ablation.run(lake, settings, DAY, retrain=False)
    assert lake.read_arrow(ablation.TABLE).num_rows == 0
