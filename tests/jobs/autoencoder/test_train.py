import json
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest

from jobs import autoencoder, models
from jobs.autoencoder import data
from jobs.errors import NotDue, UserError
from jobs.settings import HOME, Settings


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shop):
    """Settings of a place where one training is done, and its version."""
    place = tmp_path_factory.mktemp("trained")
    settings = shop.settings(place, epochs=100)
    shop.write(settings.lake, shop.values())
    return settings, autoencoder.run(settings, shop.day, retrain=False)


def elsewhere(settings: Settings, folder: Path, **changes) -> Settings:
    """The same lake, models kept in `folder`, and other training settings."""
    return replace(settings, models=str(folder), train=replace(settings.train, **changes))


def fitted_numbers(settings: Settings, version: str) -> bytes:
    return models.read(settings.models, version, "weights.safetensors")


def test_the_trained_model_is_champion_from_its_day_on(trained, shop):
    settings, version = trained
    assert models.champion(settings.models, shop.day) == {"version": version, "since": shop.day.isoformat()}
    assert models.champion(settings.models, shop.day - timedelta(days=1)) is None


def test_meta_says_what_a_person_wants_to_know(trained, shop):
    settings, version = trained
    meta = models.meta(settings.models, version)
    assert meta["version"] == version
    assert version.startswith(f"{shop.day}-")
    assert meta["features"] == [f"feature_{number}" for number in range(shop.features)]
    assert sum(meta["customers"].values()) == 300
    assert meta["delta_version"] == 1
    assert meta["sizes"] == {"features": shop.features, "latent": 3, "hidden": [64, 32]}
    assert [epoch["epoch"] for epoch in meta["epochs"]] == list(range(len(meta["epochs"])))


def test_customers_it_never_saw_are_restored_better_than_by_the_mean_and_by_pca(trained):
    settings, version = trained
    meta = models.meta(settings.models, version)
    assert meta["test_error"] < 0.5  # the mean restores scaled features with an error of 1
    assert meta["test_error"] < meta["test_error_pca"]
    assert meta["better_than_pca"] is True


def test_the_best_epoch_is_kept_not_the_last(trained, tmp_path, shop):
    settings = elsewhere(trained[0], tmp_path, learning_rate=0.05, epochs=40, patience=5)
    version = autoencoder.run(settings, shop.day, retrain=True)
    meta = models.meta(settings.models, version)
    validation = [epoch["validation"] for epoch in meta["epochs"]]
    assert meta["best_epoch"] == int(np.argmin(validation)) == len(validation) - 1 - 5
    customers = data.read(settings.lake, shop.day, 1)
    held_out = customers.matrix[data.split(customers.ids)["validation"]]
    assert errors(settings, version, held_out).mean() == pytest.approx(min(validation), rel=1e-4)


def test_the_same_inputs_give_the_same_weights_and_the_same_version(trained, tmp_path, shop):
    settings, version = trained
    again = elsewhere(settings, tmp_path)
    assert autoencoder.run(again, shop.day, retrain=False) == version
    assert fitted_numbers(again, version) == fitted_numbers(settings, version)


def test_another_seed_or_setting_gives_another_version_and_other_weights(trained, tmp_path, shop):
    settings, version = trained
    other = elsewhere(settings, tmp_path, seed=18)
    assert (other_version := autoencoder.run(other, shop.day, retrain=False)) != version
    assert fitted_numbers(other, other_version) != fitted_numbers(settings, version)


def test_a_version_that_is_there_is_promoted_without_training(trained, capsys, shop):
    settings, version = trained
    before = models.meta(settings.models, version)
    capsys.readouterr()
    assert autoencoder.run(settings, shop.day, retrain=True) == version
    assert "epoch" not in capsys.readouterr().out
    assert models.meta(settings.models, version) == before


def test_a_test_customer_who_changes_wildly_changes_no_fitted_number(settings, shop):
    matrix = shop.values()
    shop.write(settings.lake, matrix)
    version = autoencoder.run(settings, shop.day, retrain=True)
    tested = data.split(pa.array(shop.ids(len(matrix))))["test"]
    matrix[tested[0]], matrix[tested[1]] = 1e9, np.nan
    shop.write(settings.lake, matrix)
    other = autoencoder.run(settings, shop.day, retrain=True)
    assert other != version
    assert fitted_numbers(settings, other) == fitted_numbers(settings, version)
    changed, same = (models.meta(settings.models, v)["test_error"] for v in (other, version))
    assert changed != same


def test_a_training_customer_who_changes_changes_the_fitted_numbers(settings, shop):
    matrix = shop.values()
    shop.write(settings.lake, matrix)
    version = autoencoder.run(settings, shop.day, retrain=True)
    matrix[data.split(pa.array(shop.ids(len(matrix))))["train"][0]] = 2.0
    shop.write(settings.lake, matrix)
    other = autoencoder.run(settings, shop.day, retrain=True)
    assert fitted_numbers(settings, other) != fitted_numbers(settings, version)


def test_training_is_not_due_while_the_champion_is_young(trained, shop):
    settings, version = trained
    with pytest.raises(NotDue, match=f"champion {version} since {shop.day} is 6 days old, due in 1 days"):
        autoencoder.run(settings, shop.day + timedelta(days=6), retrain=False)


def test_an_old_champion_makes_training_due_and_keeps_the_days_before(trained, tmp_path, shop):
    settings = elsewhere(trained[0], tmp_path, epochs=2)
    first = autoencoder.run(settings, shop.day, retrain=False)
    week_later = shop.day + timedelta(days=7)
    shop.write(settings.lake, shop.values(320), mode="append", day=pa.array([week_later] * 320))
    second = autoencoder.run(settings, week_later, retrain=False)
    assert models.champion(settings.models, week_later)["version"] == second != first
    assert models.champion(settings.models, week_later - timedelta(days=1))["version"] == first


def test_retrain_overrules_a_young_champion(settings, shop):
    settings = replace(settings, train=replace(settings.train, epochs=2))
    shop.write(settings.lake, shop.values())
    autoencoder.run(settings, shop.day, retrain=False)
    shop.write(settings.lake, shop.values(seed=6))
    with pytest.raises(NotDue):
        autoencoder.run(settings, shop.day, retrain=False)
    version = autoencoder.run(settings, shop.day, retrain=True)
    assert models.champion(settings.models, shop.day)["version"] == version


@pytest.mark.parametrize(("n", "message"), [(49, "49 active customers of 49, train.min_customers is 50"), (0, "no rows")])
def test_too_few_customers_leave_no_model(settings, shop, n, message):
    shop.write(settings.lake, shop.values(60)[:n])
    with pytest.raises(UserError, match=message):
        autoencoder.run(settings, shop.day, retrain=False)
    assert not Path(settings.models).exists()


def test_a_share_without_customers_is_refused(settings, shop):
    settings = replace(settings, train=replace(settings.train, min_customers=1))
    shop.write(settings.lake, shop.values(2))
    with pytest.raises(UserError, match=r"none of 2 customers falls into the \w+ share"):
        autoencoder.run(settings, shop.day, retrain=False)


def test_a_loss_that_is_no_number_stops_with_one_line_and_no_model(settings, shop):
    settings = replace(settings, train=replace(settings.train, learning_rate=1e30))
    shop.write(settings.lake, shop.values())
    with pytest.raises(UserError, match=r"the loss is no number after epoch 1; lower train\.learning_rate") as raised:
        autoencoder.run(settings, shop.day, retrain=False)
    assert "\n" not in str(raised.value)
    assert not Path(settings.models).exists()


def test_constant_and_empty_features_do_no_harm(settings, shop):
    matrix = shop.values()
    matrix[:, 4], matrix[:, 5] = 3.0, np.nan
    shop.write(settings.lake, matrix)
    meta = models.meta(settings.models, autoencoder.run(settings, shop.day, retrain=False))
    assert meta["constant_features"] == ["feature_4", "feature_5"]
    assert np.isfinite(meta["test_error"])


def test_the_vector_has_unit_variance_on_average_and_its_first_dimension_varies_most(trained, shop):
    settings, version = trained
    customers = data.read(settings.lake, shop.day, 1)
    learned_from = customers.matrix[data.split(customers.ids)["train"]]
    vector = answers(settings, version, learned_from)[0]
    variances = vector.var(axis=0)
    assert variances.mean() == pytest.approx(1, rel=1e-3)
    assert list(variances) == sorted(variances, reverse=True)
    np.testing.assert_allclose(vector.mean(axis=0), 0, atol=1e-4)


KILLED = """
import os, signal, sys
from pathlib import Path
from jobs import autoencoder
from jobs.autoencoder import export, train
from jobs.settings import Settings, Train
from datetime import date
moment, lake, models, day, epochs = sys.argv[1:]
if moment == "saving":
    write = export.write
    def killed(folder, *rest):
        write(folder, *rest)
        os.kill(os.getpid(), signal.SIGKILL)
    export.write = killed
else:
    train.models.promote = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    if moment == "training":
        train.EPOCHS_PER_LINE = 1
        say = train._say
        train._say = lambda text: os.kill(os.getpid(), signal.SIGKILL) if text.startswith("epoch 3 ") else say(text)
roots = {"lake": lake, "models": models, "reports": "", "source": "", "input": ""}
settings = Settings(**roots, train=Train(latent=3, epochs=int(epochs)))
autoencoder.run(settings, date.fromisoformat(day), retrain=True)
"""


@pytest.mark.parametrize("moment", ["training", "saving", "promoting"])
def test_a_run_killed_at_any_moment_leaves_the_champion_and_a_rerun_finishes(settings, shop, moment):
    settings = replace(settings, train=replace(settings.train, epochs=5))
    folder = Path(settings.models) / models.FAMILY
    shop.write(settings.lake, shop.values())
    autoencoder.run(settings, shop.day, retrain=False)
    champion = (folder / "champion.json").read_bytes()
    shop.write(settings.lake, shop.values(seed=6))
    arguments = [moment, settings.lake, settings.models, shop.day.isoformat(), str(settings.train.epochs)]

    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=HOME, capture_output=True, text=True)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (folder / "champion.json").read_bytes() == champion
    version = autoencoder.run(settings, shop.day, retrain=True)
    assert json.loads((folder / "champion.json").read_text())["version"] == version
    assert errors(settings, version, shop.values()).shape == (300,)
    assert not list(folder.glob(".*")), "what the killed run left is cleared"


def answers(settings: Settings, version: str, matrix: np.ndarray) -> list[np.ndarray]:
    """What the exported encoder says: vectors and reconstruction errors."""
    session = onnxruntime.InferenceSession(models.read(settings.models, version, "encoder.onnx"))
    return session.run(["vector", "reconstruction_error"], {"features": matrix})


def errors(settings: Settings, version: str, matrix: np.ndarray) -> np.ndarray:
    return answers(settings, version, matrix)[1]
