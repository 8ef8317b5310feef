import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from deltalake import write_deltalake
from mlflow import MlflowClient

from jobs import autoencoder
from jobs.autoencoder import data, export
from jobs.config.policy import SCALING
from jobs.config.settings import HOME, Settings
from jobs.errors import NotDue, UserError
from jobs.storage import models


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


def fitted_numbers(settings: Settings, version: str) -> tuple:
    """All that was fitted: weights, preprocessing, categories and forest in the graph; what was left out, and the profile."""
    told = models.meta(settings.models, version)
    facts = [told[name] for name in ("attributes", "inputs", "left_out", "scaling", "profile")]
    return models.read(settings.models, version, "encoder.onnx"), json.dumps(facts)


def test_the_trained_model_is_champion_from_its_day_on(trained, shop):
    settings, version = trained
    champion = {"version": version, "since": shop.day.isoformat(), "representation": "learned"}
    assert models.champion(settings.models, shop.day) == champion
    assert models.champion(settings.models, shop.day - timedelta(days=1)) is None


def test_meta_says_what_a_person_wants_to_know(trained, shop):
    settings, version = trained
    meta = models.meta(settings.models, version)
    assert meta["version"] == version
    assert version.startswith(f"{shop.day}-")
    assert meta["features"] == [f"feature_{number}" for number in range(shop.features)]
    assert sum(meta["customers"].values()) == 300
    assert meta["delta_version"] == 1
    assert list(meta["scaling"]) == meta["features"]
    assert set(meta["scaling"].values()) == {"log1p", "standard"}
    assert meta["sizes"] == {"inputs": len(meta["inputs"]), "latent": 3, "hidden": [64, 32], "dropout": 0.0, "layer_norm": False}
    assert [epoch["epoch"] for epoch in meta["epochs"]] == list(range(1, len(meta["epochs"]) + 1))


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
    assert meta["best_epoch"] == int(np.argmin(validation)) + 1 == len(validation) - 5


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


def test_a_test_customer_who_changes_wildly_changes_no_fitted_number(settings, shop, tmp_path):
    settings = replace(settings, policy=str(tmp_path / "policy.toml"))
    methods = [f'feature_{j} = {{ scaling = "{method}" }}' for j, method in enumerate(SCALING)]
    Path(settings.policy).write_text("\n".join(["[features.customers]", *methods]))
    matrix = shop.values()
    shop.write(settings.lake, matrix)
    version = autoencoder.run(settings, shop.day, retrain=True)
    tested = data.split(data.hashes(pa.array(shop.ids(len(matrix)))))["test"]
    matrix[tested[0]], matrix[tested[1]] = 1e9, np.nan
    countries = shop.countries(len(matrix))
    countries[tested[0]] = "Atlantis"
    shop.write(settings.lake, matrix, country=countries)
    other = autoencoder.run(settings, shop.day, retrain=True)
    assert other != version
    assert fitted_numbers(settings, other) == fitted_numbers(settings, version)
    changed, same = (models.meta(settings.models, v)["test_error"] for v in (other, version))
    assert changed != same


def test_a_training_customer_who_changes_changes_the_fitted_numbers(settings, shop):
    matrix = shop.values()
    shop.write(settings.lake, matrix)
    version = autoencoder.run(settings, shop.day, retrain=True)
    matrix[data.split(data.hashes(pa.array(shop.ids(len(matrix)))))["train"][0]] = 2.0
    shop.write(settings.lake, matrix)
    other = autoencoder.run(settings, shop.day, retrain=True)
    assert fitted_numbers(settings, other) != fitted_numbers(settings, version)


def test_a_changed_policy_makes_training_due_and_is_kept_with_its_model(trained, tmp_path, shop):
    settings = replace(elsewhere(trained[0], tmp_path, epochs=2), policy=str(tmp_path / "policy.toml"))
    file = Path(settings.policy)
    file.write_text("[selection]\n")
    first = autoencoder.run(settings, shop.day, retrain=False)
    with pytest.raises(NotDue):
        autoencoder.run(settings, shop.day, retrain=False)
    file.write_text('[features.customers]\ndefault = "mean"\nfeature_2 = "multiple"\nfeature_3 = "drop"\n')
    second = autoencoder.run(settings, shop.day, retrain=False)
    assert models.champion(settings.models, shop.day)["version"] == second != first
    file.unlink()
    kept = [models.meta(settings.models, version)["policy"] for version in (first, second)]
    assert [one["columns"]["feature_2"]["missing"] for one in kept] == ["median", "multiple"]
    assert kept[0]["sha256"] != kept[1]["sha256"]
    lacking = int(np.isnan(shop.values()[:, 3]).sum())
    assert models.meta(settings.models, second)["dropped"] == lacking > 0


def test_a_column_the_table_does_not_have_leaves_no_model(settings, shop, tmp_path):
    shop.write(settings.lake, shop.values())
    settings = replace(settings, policy=str(tmp_path / "policy.toml"))
    Path(settings.policy).write_text('[features.customers]\nfeature_99 = "mean"\n')
    with pytest.raises(UserError, match=r"policy.toml: features.customers.feature_99: no such column"):
        autoencoder.run(settings, shop.day, retrain=False)
    assert not Path(settings.models).exists()


def test_the_profile_bins_the_known_values_of_the_training_customers(trained, shop):
    settings, version = trained
    meta = models.meta(settings.models, version)
    customers = data.read(settings.lake, shop.day, 1)
    learned_from = data.split(customers.hashes)["train"]
    values = {name: customers.matrix[learned_from, j] for j, name in enumerate(customers.names)}
    values["reconstruction_error"] = errors(settings, version, customers, learned_from)
    assert list(meta["profile"]) == list(values)
    for name, told in meta["profile"].items():
        known = values[name][~np.isnan(values[name])]
        below = [np.mean(known <= edge) for edge in told["edges"]]
        assert np.cumsum(told["shares"])[:-1] == pytest.approx(below, abs=0.01), name
        assert sum(told["shares"]) == pytest.approx(1)
        assert told["missing_share"] == pytest.approx(np.isnan(values[name]).mean())
        assert len(told["edges"]) == 9
        tolerance = export.TOLERANCE if name == "reconstruction_error" else None  # the graph's errors stand in for torch's
        assert (told["low"], told["high"]) == pytest.approx((known.min(), known.max()), rel=tolerance)


def test_training_is_not_due_while_the_champion_is_young(trained, shop):
    settings, version = trained
    with pytest.raises(NotDue, match=f"champion {version} since {shop.day} is 6 days old, due in 1 days"):
        autoencoder.run(settings, shop.day + timedelta(days=6), retrain=False)


@pytest.mark.parametrize(
    ("table", "days_later", "figures", "why"),
    [
        ("features.customers", 2, {"psi_feature_0": 0.9, "psi_feature_1": 0.1}, "features on average 0.50"),
        ("features.customers", 2, {"psi_feature_0": 0.4, "psi_feature_1": 0.0}, None),
        ("features.customers", 1, {"psi_feature_0": 9.0}, None),  # of another day
        ("encoded.customers", 1, {"psi_reconstruction_error": 0.3}, "reconstruction errors 0.30"),
        ("encoded.customers", 2, {"psi_reconstruction_error": 0.3}, None),  # of the day itself, of which there is a rerun
        ("encoded.customers", -1, {"psi_reconstruction_error": 0.3}, None),  # of the champion before
    ],
)
def test_drift_makes_training_due_before_its_time(trained, tmp_path, capsys, shop, table, days_later, figures, why):
    settings = elsewhere(trained[0], tmp_path / "models", epochs=2)
    autoencoder.run(settings, shop.day, retrain=False)
    days = [shop.day + timedelta(days=n) for n in (0, days_later, 2)]
    settings = replace(settings, lake=str(tmp_path / "lake"))
    shop.write(settings.lake, shop.values(), day=pa.array([days[2]] * 300))
    kept = pa.array([[(name, Decimal(str(psi))) for name, psi in figures.items()]], pa.map_(pa.string(), pa.decimal128(38, 6)))
    write_deltalake(f"{settings.lake}/quality/profiles", pa.table({"table": [table], "day": [days[1]], "figures": kept}))
    if why is None:
        with pytest.raises(NotDue):
            autoencoder.run(settings, days[2], retrain=False)
    else:
        autoencoder.run(settings, days[2], retrain=False)
        assert f"due: population stability index of {why}, above 0.25" in capsys.readouterr().out


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


def test_constant_empty_and_duplicate_features_are_left_out_and_do_no_harm(settings, shop):
    matrix = shop.values()
    matrix[:, 4], matrix[:, 5] = 3.0, np.nan
    matrix[:, 7] = 5 * matrix[:, 6]
    shop.write(settings.lake, matrix)
    meta = models.meta(settings.models, autoencoder.run(settings, shop.day, retrain=False))
    assert [(one["name"], one["reason"], one.get("of")) for one in meta["left_out"] if "country" not in one["name"]] == [
        ("feature_4", "constant", None),
        ("feature_5", "constant", None),
        ("feature_7", "duplicate", "feature_6"),
    ]
    assert not {"feature_4", "feature_5", "feature_7"} & set(meta["inputs"])
    assert meta["profile"]["feature_5"] == {"edges": [], "shares": [0.0], "missing_share": 1.0}
    assert np.isfinite(meta["test_error"])


def test_the_vector_has_unit_variance_on_average_and_its_first_dimension_varies_most(trained, shop):
    settings, version = trained
    customers = data.read(settings.lake, shop.day, 1)
    learned_from = data.split(customers.hashes)["train"]
    vector = answers(settings, version, customers, learned_from)[0]
    variances = vector.var(axis=0)
    assert variances.mean() == pytest.approx(1, rel=1e-3)
    assert list(variances) == sorted(variances, reverse=True)
    np.testing.assert_allclose(vector.mean(axis=0), 0, atol=1e-4)


KILLED = """
import os, signal, sys
from datetime import date
from jobs import autoencoder
from jobs.autoencoder import export, train
from jobs.autoencoder.checkpoints import Checkpoints
from jobs.settings import Settings, Train
moment, how, lake, models, day, epochs = sys.argv[1:]
kill = lambda *_, **__: os.kill(os.getpid(), signal.Signals[how])
def before_and(function, at=1, calls=[]):
    def killed(*arguments):
        function(*arguments)
        calls.append(1)
        if len(calls) == at:
            kill()
    return killed
if moment == "training":
    Checkpoints.save = before_and(Checkpoints.save, at=100)
elif moment == "saving":
    export.write = before_and(export.write)
else:
    train.models.promote = kill
roots = {"lake": lake, "models": models, "reports": "", "source": "", "input": ""}
settings = Settings(**roots, train=Train(latent=3, hidden=(64, 32), epochs=int(epochs), checkpoint_seconds=0, tracking=""))
autoencoder.run(settings, date.fromisoformat(day), retrain=True)
"""


@pytest.mark.parametrize(
    ("moment", "how"), [("training", "SIGKILL"), ("training", "SIGTERM"), ("saving", "SIGKILL"), ("promoting", "SIGKILL")]
)
def test_a_run_killed_at_any_moment_leaves_the_champion_and_a_rerun_ends_as_if_it_had_not_been(
    settings, shop, tmp_path, capsys, moment, how
):
    settings = replace(settings, train=replace(settings.train, epochs=5))
    folder = Path(settings.models) / models.FAMILY
    shop.write(settings.lake, shop.values())
    autoencoder.run(settings, shop.day, retrain=False)
    champion = (folder / "champion.json").read_bytes()
    shop.write(settings.lake, shop.values(seed=6))
    undisturbed = elsewhere(settings, tmp_path / "undisturbed")
    expected = autoencoder.run(undisturbed, shop.day, retrain=True)
    arguments = [moment, how, settings.lake, settings.models, shop.day.isoformat(), str(settings.train.epochs)]

    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=HOME, capture_output=True, text=True)

    assert killed.returncode == (-signal.SIGKILL if how == "SIGKILL" else 128 + signal.SIGTERM), killed.stderr
    assert (folder / "champion.json").read_bytes() == champion
    capsys.readouterr()
    assert autoencoder.run(settings, shop.day, retrain=True) == expected
    assert ("goes on from epoch 3, batch " in capsys.readouterr().out) == (moment == "training")
    assert json.loads((folder / "champion.json").read_text())["version"] == expected
    ended, whole = (
        safetensors.torch.load(models.read(s.models, expected, "weights.safetensors")) for s in (settings, undisturbed)
    )
    for name, weight in whole.items():
        torch.testing.assert_close(ended[name], weight, atol=1e-6, rtol=0)
    assert not list(folder.glob(".*")), "what the killed run left is cleared"


def test_two_processes_learn_what_one_does(trained, shop, tmp_path):
    settings = elsewhere(trained[0], tmp_path / "one", epochs=5, noise=0.2)
    version = autoencoder.run(settings, shop.day, retrain=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    roots = {"SHOAL_LAKE": settings.lake, "SHOAL_MODELS": str(tmp_path / "two"), "SHOAL_TRAIN__LATENT": "3"}
    told = {"SHOAL_TRAIN__HIDDEN": "64,32", "SHOAL_TRAIN__EPOCHS": "5", "SHOAL_TRAIN__NOISE": "0.2"}
    arguments = ["-m", "jobs", "train", "--day", shop.day.isoformat()]

    done = subprocess.run([*command, *arguments], cwd=HOME, capture_output=True, text=True, env={**os.environ, **roots, **told})

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("is champion") == 1
    assert "warning" not in done.stdout
    followed = MlflowClient(f"sqlite:///{tmp_path}/two/mlflow.db")
    (run,) = followed.search_runs(["1"])
    assert len(followed.get_metric_history(run.info.run_id, "epochs")) == 5, "the first process alone writes"
    one, two = (models.meta(str(tmp_path / root), version)["epochs"] for root in ("one", "two"))
    for ours, theirs in zip(one, two, strict=True):
        assert (ours["loss"], ours["validation"]) == pytest.approx((theirs["loss"], theirs["validation"]), rel=1e-4)


def test_customers_too_many_for_memory_are_trained_on_from_disk_with_the_same_result(trained, shop, tmp_path, capsys):
    settings, version = trained
    on_disk = elsewhere(settings, tmp_path, memory_share=1e-9)
    assert autoencoder.run(on_disk, shop.day, retrain=True) == version
    assert "read into files" in capsys.readouterr().out
    assert fitted_numbers(on_disk, version) == fitted_numbers(settings, version)


def test_a_damaged_checkpoint_ends_in_one_line(settings, shop):
    shop.write(settings.lake, shop.values())
    version = autoencoder.run(settings, shop.day, retrain=False)
    for path in (Path(settings.models) / models.FAMILY).glob(f"{version}/*"):
        path.unlink()
    models.write_checkpoint(settings.models, version, b"what a full disk left of it")
    with pytest.raises(UserError, match=rf"the checkpoint .*\.checkpoint-{version}\.safetensors is damaged; remove it"):
        autoencoder.run(settings, shop.day, retrain=True)


def answers(settings: Settings, version: str, customers: data.Customers, rows: np.ndarray) -> list[np.ndarray]:
    """What the exported encoder says of these customers: vectors and reconstruction errors."""
    session = onnxruntime.InferenceSession(models.read(settings.models, version, "encoder.onnx"))
    countries = customers.attributes["country"].fill_null("").to_numpy(zero_copy_only=False)[rows, None]
    return session.run(["vector", "reconstruction_error"], {"features": customers.matrix[rows], "attributes": countries})


def errors(settings: Settings, version: str, customers: data.Customers, rows: np.ndarray) -> np.ndarray:
    return answers(settings, version, customers, rows)[1]
