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

from jobs.autoencoder import export
from jobs.autoencoder.customers import Customers, hash_ids, read_customers, split_customers
from jobs.autoencoder.pipeline import run
from jobs.config.policy import SCALING
from jobs.config.settings import HOME, Settings
from jobs.errors import NotDue, UserError
from jobs.storage import models


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shop):
    """The settings of a finished training, and its version."""
    settings = shop.settings(tmp_path_factory.mktemp("trained"), epochs=100)
    shop.write(settings.lake, shop.values())
    return settings, run(settings, shop.day, retrain=False)


def with_models_in(settings: Settings, folder: Path, **changes) -> Settings:
    """Return settings for the same lake, models in `folder`, and these changes of the training settings."""
    return replace(settings, models=str(folder), train=replace(settings.train, **changes))


def read_fitted(settings: Settings, version: str) -> tuple:
    """Return all that was fitted: the graph with weights, preprocessing and forest, and the fitted part of meta.json."""
    meta = models.meta(settings.models, version)
    fitted = [meta[name] for name in ("attributes", "inputs", "left_out", "scaling", "profile")]
    return models.read(settings.models, version, "encoder.onnx"), json.dumps(fitted)


def test_the_trained_model_is_champion_from_its_day_on(trained, shop):
    settings, version = trained
    champion = {"version": version, "since": shop.day.isoformat(), "representation": "learned"}
    assert models.champion(settings.models, shop.day) == champion
    assert models.champion(settings.models, shop.day - timedelta(days=1)) is None


def test_meta_json_describes_the_model(trained, shop):
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


def test_held_out_customers_are_reconstructed_better_than_by_the_mean_and_by_pca(trained):
    settings, version = trained
    meta = models.meta(settings.models, version)
    assert meta["test_error"] < 0.5  # the error of the mean is 1 in scaled units
    assert meta["test_error"] < meta["test_error_pca"]
    assert meta["better_than_pca"] is True


def test_the_best_epoch_is_kept_and_not_the_last(trained, tmp_path, shop):
    settings = with_models_in(trained[0], tmp_path, learning_rate=0.05, epochs=40, patience=5)
    version = run(settings, shop.day, retrain=True)
    meta = models.meta(settings.models, version)
    validation = [epoch["validation"] for epoch in meta["epochs"]]
    assert meta["best_epoch"] == int(np.argmin(validation)) + 1 == len(validation) - 5


def test_the_same_inputs_give_the_same_weights_and_the_same_version(trained, tmp_path, shop):
    settings, version = trained
    repeated = with_models_in(settings, tmp_path)
    assert run(repeated, shop.day, retrain=False) == version
    assert read_fitted(repeated, version) == read_fitted(settings, version)


def test_another_seed_gives_another_version_and_other_weights(trained, tmp_path, shop):
    settings, version = trained
    changed_settings = with_models_in(settings, tmp_path, seed=18)
    assert (changed_version := run(changed_settings, shop.day, retrain=False)) != version
    assert read_fitted(changed_settings, changed_version) != read_fitted(settings, version)


def test_an_existing_version_is_promoted_without_training(trained, capsys, shop):
    settings, version = trained
    before = models.meta(settings.models, version)
    capsys.readouterr()
    assert run(settings, shop.day, retrain=True) == version
    assert "epoch" not in capsys.readouterr().out
    assert models.meta(settings.models, version) == before


def test_a_test_customer_with_extreme_values_does_not_change_the_fit(settings, shop, tmp_path):
    settings = replace(settings, policy=str(tmp_path / "policy.toml"))
    methods = [f'feature_{j} = {{ scaling = "{method}" }}' for j, method in enumerate(SCALING)]
    Path(settings.policy).write_text("\n".join(["[features.customers]", *methods]))
    features = shop.values()
    shop.write(settings.lake, features)
    version = run(settings, shop.day, retrain=True)
    test_rows = split_customers(hash_ids(pa.array(shop.ids(len(features)))))["test"]
    features[test_rows[0]], features[test_rows[1]] = 1e9, np.nan
    countries = shop.countries(len(features))
    countries[test_rows[0]] = "Atlantis"
    shop.write(settings.lake, features, country=countries)
    changed_version = run(settings, shop.day, retrain=True)
    assert changed_version != version
    assert read_fitted(settings, changed_version) == read_fitted(settings, version)
    changed_error, error = (models.meta(settings.models, v)["test_error"] for v in (changed_version, version))
    assert changed_error != error


def test_a_training_customer_with_other_values_changes_the_fit(settings, shop):
    features = shop.values()
    shop.write(settings.lake, features)
    version = run(settings, shop.day, retrain=True)
    train_rows = split_customers(hash_ids(pa.array(shop.ids(len(features)))))["train"]
    features[train_rows[0]] = 2.0
    shop.write(settings.lake, features)
    changed_version = run(settings, shop.day, retrain=True)
    assert read_fitted(settings, changed_version) != read_fitted(settings, version)


def test_a_changed_policy_makes_training_due_and_is_stored_in_meta_json(trained, tmp_path, shop):
    settings = replace(with_models_in(trained[0], tmp_path, epochs=2), policy=str(tmp_path / "policy.toml"))
    file = Path(settings.policy)
    file.write_text("[selection]\n")
    first = run(settings, shop.day, retrain=False)
    with pytest.raises(NotDue):
        run(settings, shop.day, retrain=False)
    file.write_text('[features.customers]\ndefault = "mean"\nfeature_2 = "multiple"\nfeature_3 = "drop"\n')
    second = run(settings, shop.day, retrain=False)
    assert models.champion(settings.models, shop.day)["version"] == second != first
    file.unlink()
    policies = [models.meta(settings.models, version)["policy"] for version in (first, second)]
    assert [policy["columns"]["feature_2"]["missing"] for policy in policies] == ["median", "multiple"]
    assert policies[0]["sha256"] != policies[1]["sha256"]
    n_missing = int(np.isnan(shop.values()[:, 3]).sum())
    assert models.meta(settings.models, second)["dropped"] == n_missing > 0


def test_a_policy_for_an_unknown_column_leaves_no_model(settings, shop, tmp_path):
    shop.write(settings.lake, shop.values())
    settings = replace(settings, policy=str(tmp_path / "policy.toml"))
    Path(settings.policy).write_text('[features.customers]\nfeature_99 = "mean"\n')
    with pytest.raises(UserError, match=r"policy.toml: features.customers.feature_99: no such column"):
        run(settings, shop.day, retrain=False)
    assert not Path(settings.models).exists()


def test_the_profile_bins_the_observed_values_of_the_training_customers(trained, shop):
    settings, version = trained
    meta = models.meta(settings.models, version)
    customers = read_customers(settings.lake, shop.day, 1)
    rows = split_customers(customers.hashes)["train"]
    values = {name: customers.features[rows, j] for j, name in enumerate(customers.feature_names)}
    values["reconstruction_error"] = run_encoder(settings, version, customers, rows)[1]
    assert list(meta["profile"]) == list(values)
    for name, profile in meta["profile"].items():
        observed = values[name][~np.isnan(values[name])]
        shares_up_to_edge = [np.mean(observed <= edge) for edge in profile["edges"]]
        assert np.cumsum(profile["shares"])[:-1] == pytest.approx(shares_up_to_edge, abs=0.01), name
        assert sum(profile["shares"]) == pytest.approx(1)
        assert profile["missing_share"] == pytest.approx(np.isnan(values[name]).mean())
        assert len(profile["edges"]) == 9
        tolerance = export.TOLERANCE if name == "reconstruction_error" else None  # these errors are the graph's and not torch's
        assert (profile["low"], profile["high"]) == pytest.approx((observed.min(), observed.max()), rel=tolerance)


def test_training_is_not_due_while_the_champion_is_young(trained, shop):
    settings, version = trained
    with pytest.raises(NotDue, match=f"champion {version} since {shop.day} is 6 days old, due in 1 days"):
        run(settings, shop.day + timedelta(days=6), retrain=False)


@pytest.mark.parametrize(
    ("table", "days_later", "figures", "subject"),
    [
        ("features.customers", 2, {"psi_feature_0": 0.9, "psi_feature_1": 0.1}, "features on average 0.50"),
        ("features.customers", 2, {"psi_feature_0": 0.4, "psi_feature_1": 0.0}, None),
        ("features.customers", 1, {"psi_feature_0": 9.0}, None),  # of another day
        ("encoded.customers", 1, {"psi_reconstruction_error": 0.3}, "reconstruction errors 0.30"),
        ("encoded.customers", 2, {"psi_reconstruction_error": 0.3}, None),  # of the day itself, which was run before
        ("encoded.customers", -1, {"psi_reconstruction_error": 0.3}, None),  # of the champion before
    ],
)
def test_drift_makes_training_due_early(trained, tmp_path, capsys, shop, table, days_later, figures, subject):
    settings = with_models_in(trained[0], tmp_path / "models", epochs=2)
    run(settings, shop.day, retrain=False)
    profile_day, day = (shop.day + timedelta(days=n) for n in (days_later, 2))
    settings = replace(settings, lake=str(tmp_path / "lake"))
    shop.write(settings.lake, shop.values(), day=pa.array([day] * 300))
    pairs = [(name, Decimal(str(psi))) for name, psi in figures.items()]
    profiles = {"table": [table], "day": [profile_day], "figures": pa.array([pairs], pa.map_(pa.string(), pa.decimal128(38, 6)))}
    write_deltalake(f"{settings.lake}/quality/profiles", pa.table(profiles))
    if subject is None:
        with pytest.raises(NotDue):
            run(settings, day, retrain=False)
    else:
        run(settings, day, retrain=False)
        assert f"due: population stability index of {subject}, above 0.25" in capsys.readouterr().out


def test_an_old_champion_makes_training_due_and_stays_champion_of_earlier_days(trained, tmp_path, shop):
    settings = with_models_in(trained[0], tmp_path, epochs=2)
    first = run(settings, shop.day, retrain=False)
    week_later = shop.day + timedelta(days=7)
    shop.write(settings.lake, shop.values(320), mode="append", day=pa.array([week_later] * 320))
    second = run(settings, week_later, retrain=False)
    assert models.champion(settings.models, week_later)["version"] == second != first
    assert models.champion(settings.models, week_later - timedelta(days=1))["version"] == first


def test_retrain_trains_despite_a_young_champion(settings, shop):
    settings = replace(settings, train=replace(settings.train, epochs=2))
    shop.write(settings.lake, shop.values())
    run(settings, shop.day, retrain=False)
    shop.write(settings.lake, shop.values(seed=6))
    with pytest.raises(NotDue):
        run(settings, shop.day, retrain=False)
    version = run(settings, shop.day, retrain=True)
    assert models.champion(settings.models, shop.day)["version"] == version


@pytest.mark.parametrize(("n", "message"), [(49, "49 active customers of 49, train.min_customers is 50"), (0, "no rows")])
def test_too_few_customers_leave_no_model(settings, shop, n, message):
    shop.write(settings.lake, shop.values(60)[:n])
    with pytest.raises(UserError, match=message):
        run(settings, shop.day, retrain=False)
    assert not Path(settings.models).exists()


def test_a_split_without_customers_is_an_error(settings, shop):
    settings = replace(settings, train=replace(settings.train, min_customers=1))
    shop.write(settings.lake, shop.values(2))
    with pytest.raises(UserError, match=r"none of 2 customers falls into the \w+ split"):
        run(settings, shop.day, retrain=False)


def test_a_loss_that_is_not_a_number_ends_in_one_line_and_leaves_no_model(settings, shop):
    settings = replace(settings, train=replace(settings.train, learning_rate=1e30))
    shop.write(settings.lake, shop.values())
    with pytest.raises(UserError, match=r"the loss is not a number after epoch 1; lower train\.learning_rate") as raised:
        run(settings, shop.day, retrain=False)
    assert "\n" not in str(raised.value)
    assert not Path(settings.models).exists()


def test_constant_empty_and_duplicate_features_are_left_out(settings, shop):
    features = shop.values()
    features[:, 4], features[:, 5] = 3.0, np.nan
    features[:, 7] = 5 * features[:, 6]
    shop.write(settings.lake, features)
    meta = models.meta(settings.models, run(settings, shop.day, retrain=False))
    left_out = [column for column in meta["left_out"] if "country" not in column["name"]]
    assert [(column["name"], column["reason"], column.get("of")) for column in left_out] == [
        ("feature_4", "constant", None),
        ("feature_5", "constant", None),
        ("feature_7", "duplicate", "feature_6"),
    ]
    assert not {"feature_4", "feature_5", "feature_7"} & set(meta["inputs"])
    assert meta["profile"]["feature_5"] == {"edges": [], "shares": [0.0], "missing_share": 1.0}
    assert np.isfinite(meta["test_error"])


def test_the_vector_has_a_mean_variance_of_one_and_its_first_dimension_varies_most(trained, shop):
    settings, version = trained
    customers = read_customers(settings.lake, shop.day, 1)
    vector = run_encoder(settings, version, customers, split_customers(customers.hashes)["train"])[0]
    variances = vector.var(axis=0)
    assert variances.mean() == pytest.approx(1, rel=1e-3)
    assert list(variances) == sorted(variances, reverse=True)
    np.testing.assert_allclose(vector.mean(axis=0), 0, atol=1e-4)


KILLED_TRAINING = """
import os, signal, sys
from datetime import date
from jobs.autoencoder import pipeline, train
from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.config.settings import Settings, Train
moment, signal_name, lake, models, day, epochs = sys.argv[1:]
def kill(*_, **__):
    os.kill(os.getpid(), signal.Signals[signal_name])
def kill_after(function, n_calls=1):
    calls = []
    def call(*arguments):
        function(*arguments)
        calls.append(1)
        if len(calls) == n_calls:
            kill()
    return call
if moment == "training":
    CheckpointFile.save = kill_after(CheckpointFile.save, n_calls=100)
elif moment == "saving":
    train.write_model = kill_after(train.write_model)
else:
    train.models.promote = kill
roots = {"lake": lake, "models": models, "reports": "", "source": "", "input": ""}
settings = Settings(**roots, train=Train(latent=3, hidden=(64, 32), epochs=int(epochs), checkpoint_seconds=0, tracking=""))
pipeline.run(settings, date.fromisoformat(day), retrain=True)
"""


@pytest.mark.parametrize(
    ("moment", "signal_name"), [("training", "SIGKILL"), ("training", "SIGTERM"), ("saving", "SIGKILL"), ("promoting", "SIGKILL")]
)
def test_a_training_killed_at_any_moment_keeps_the_champion_and_a_rerun_ends_as_if_it_had_not_been_killed(
    settings, shop, tmp_path, capsys, moment, signal_name
):
    settings = replace(settings, train=replace(settings.train, epochs=5))
    folder = Path(settings.models) / models.FAMILY
    shop.write(settings.lake, shop.values())
    run(settings, shop.day, retrain=False)
    champion = (folder / "champion.json").read_bytes()
    shop.write(settings.lake, shop.values(seed=6))
    undisturbed = with_models_in(settings, tmp_path / "undisturbed")
    expected = run(undisturbed, shop.day, retrain=True)
    arguments = [moment, signal_name, settings.lake, settings.models, shop.day.isoformat(), str(settings.train.epochs)]

    killed = subprocess.run([sys.executable, "-c", KILLED_TRAINING, *arguments], cwd=HOME, capture_output=True, text=True)

    assert killed.returncode == (-signal.SIGKILL if signal_name == "SIGKILL" else 128 + signal.SIGTERM), killed.stderr
    assert (folder / "champion.json").read_bytes() == champion
    capsys.readouterr()
    assert run(settings, shop.day, retrain=True) == expected
    assert ("resumes from epoch 3, batch " in capsys.readouterr().out) == (moment == "training")
    assert json.loads((folder / "champion.json").read_text())["version"] == expected
    resumed_weights, expected_weights = (
        safetensors.torch.load(models.read(s.models, expected, "weights.safetensors")) for s in (settings, undisturbed)
    )
    for name, weight in expected_weights.items():
        torch.testing.assert_close(resumed_weights[name], weight, atol=1e-6, rtol=0)
    assert [path.name for path in folder.glob(".*")] == [".lock"], "the files of the killed run are removed"


def test_two_processes_learn_the_same_as_one(trained, shop, tmp_path):
    settings = with_models_in(trained[0], tmp_path / "one", epochs=5, noise=0.2)
    version = run(settings, shop.day, retrain=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["-m", "jobs", "train", "--day", shop.day.isoformat()]
    environment = {
        "SHOAL_LAKE": settings.lake,
        "SHOAL_MODELS": str(tmp_path / "two"),
        "SHOAL_TRAIN__LATENT": "3",
        "SHOAL_TRAIN__HIDDEN": "64,32",
        "SHOAL_TRAIN__EPOCHS": "5",
        "SHOAL_TRAIN__NOISE": "0.2",
    }

    process = subprocess.run([*command, *arguments], cwd=HOME, capture_output=True, text=True, env={**os.environ, **environment})

    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout.count("is champion") == 1
    assert "warning" not in process.stdout
    client = MlflowClient(f"sqlite:///{tmp_path}/two/mlflow.db")
    (mlflow_run,) = client.search_runs(["1"])
    assert len(client.get_metric_history(mlflow_run.info.run_id, "epochs")) == 5, "only the first process logs"
    epochs_of_one, epochs_of_two = (models.meta(str(tmp_path / root), version)["epochs"] for root in ("one", "two"))
    for epoch, expected in zip(epochs_of_one, epochs_of_two, strict=True):
        assert (epoch["loss"], epoch["validation"]) == pytest.approx((expected["loss"], expected["validation"]), rel=1e-4)


def test_customers_that_exceed_the_memory_are_trained_on_from_disk_with_the_same_result(trained, shop, tmp_path, capsys):
    settings, version = trained
    on_disk = with_models_in(settings, tmp_path, memory_share=1e-9)
    assert run(on_disk, shop.day, retrain=True) == version
    assert "read into files" in capsys.readouterr().out
    assert read_fitted(on_disk, version) == read_fitted(settings, version)


def test_wide_customers_are_trained_on_and_exported_the_same_from_memory_and_from_disk(trained, shop, tmp_path):
    narrow, narrow_version = trained
    in_memory = with_models_in(narrow, tmp_path / "memory", wide_inputs=1, epochs=5)
    on_disk = with_models_in(narrow, tmp_path / "disk", wide_inputs=1, epochs=5, memory_share=1e-9)
    version = run(in_memory, shop.day, retrain=True)
    assert version != narrow_version
    assert run(on_disk, shop.day, retrain=True) == version
    assert read_fitted(on_disk, version) == read_fitted(in_memory, version)


def test_inputs_below_the_limit_of_wide_data_leave_the_model_as_it_is(trained, shop, tmp_path):
    wide, narrow = (with_models_in(trained[0], tmp_path / str(limit), wide_inputs=limit, epochs=5) for limit in (12, 10_000))
    also_narrow = with_models_in(trained[0], tmp_path / "also narrow", wide_inputs=9_999, epochs=5)
    (graph, *_), (narrow_graph, *_), (other_narrow_graph, *_) = (
        read_fitted(settings, run(settings, shop.day, retrain=True)) for settings in (wide, narrow, also_narrow)
    )
    assert narrow_graph == other_narrow_graph != graph


def test_a_damaged_checkpoint_ends_in_one_line(settings, shop):
    shop.write(settings.lake, shop.values())
    version = run(settings, shop.day, retrain=False)
    for path in (Path(settings.models) / models.FAMILY).glob(f"{version}/*"):
        path.unlink()
    models.write_checkpoint(settings.models, version, b"the beginning of a checkpoint")
    with pytest.raises(UserError, match=rf"the checkpoint .*\.checkpoint-{version}\.safetensors is damaged; remove it"):
        run(settings, shop.day, retrain=True)


def run_encoder(settings: Settings, version: str, customers: Customers, rows: np.ndarray) -> list[np.ndarray]:
    """Return vectors and reconstruction errors of these customers by the exported encoder."""
    session = onnxruntime.InferenceSession(models.read(settings.models, version, "encoder.onnx"))
    countries = customers.attributes["country"].fill_null("").to_numpy(zero_copy_only=False)[rows, None]
    inputs = {"features": customers.features[rows], "attributes": countries}
    return session.run(["vector", "reconstruction_error"], inputs)
