import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import safetensors.torch
import torch

from jobs.autoencoder import export, isolation_forest, preprocessing, train
from jobs.autoencoder.customers import read_customers
from jobs.autoencoder.model import Autoencoder, Sizes, principal_components
from jobs.autoencoder.onnx_graph import OUTPUTS, TrainedModel, build_encoder
from jobs.autoencoder.pipeline import run
from jobs.autoencoder.preprocessing import PreprocessingParameters
from jobs.config.policy import MISSING, OUTLIERS, SCALING, Column, Selection
from jobs.errors import UserError
from jobs.storage import models

COLUMNS = [
    Column(MISSING[j % len(MISSING)], 1.0, OUTLIERS[j % len(OUTLIERS)], (0.01, 0.99), 2.0, SCALING[j % len(SCALING)])
    for j in range(12)
]


@pytest.fixture(scope="module", params=[(), ("model", "multiple")], ids=["all treatments", "no regressions"])
def fitted(request, shop, tmp_path_factory):
    """A model with untrained weights and each treatment of the policy on some feature, the customers, and the input names."""
    lake = str(tmp_path_factory.mktemp("fitted"))
    shop.write(lake, shop.values())
    customers = read_customers(lake, shop.day, 1)
    categories = {"country": preprocessing.most_frequent_categories(customers.attributes["country"], 3)}
    texts = list(customers.attributes.values())
    codes = preprocessing.encode_categories(texts, list(categories.values()), len(customers.ids))
    torch.manual_seed(3)
    columns = [replace(column, missing="median") if column.missing in request.param else column for column in COLUMNS]
    fitted = preprocessing.fit_preprocessing(
        customers.features, codes, customers.feature_names, columns, categories, Selection(), seed=3
    )
    sizes = Sizes(len(fitted.input_names), 3, (6, 5), dropout=0.1, layer_norm=True)
    model = Autoencoder(sizes, fitted.parameters).eval()
    forest = isolation_forest.fit_forest(fitted.inputs.numpy(), seed=3)
    trained = TrainedModel(model, forest, categories, principal_components(fitted.inputs, 3))
    return trained, customers, fitted.input_names


@pytest.fixture(scope="module")
def run_graph(fitted):
    """A function that returns the graph's outputs for features (n_rows, 12) and countries."""
    session = onnxruntime.InferenceSession(build_encoder(fitted[0]).SerializeToString())

    def run_graph(features, countries=None, outputs=OUTPUTS):
        texts = np.array([""] * len(features) if countries is None else countries, dtype=object).reshape(-1, 1)
        return session.run(outputs, {"features": features, "attributes": texts})

    return run_graph


def run_torch(trained: TrainedModel, features: np.ndarray, countries: list[str]) -> list[np.ndarray]:
    """Return vector, error, inputs and their principal components."""
    codes = preprocessing.encode_categories([pa.array(countries, pa.string())], list(trained.categories.values()), len(features))
    arguments = torch.from_numpy(features), torch.from_numpy(codes)
    mean, axes = trained.pca
    with torch.no_grad():
        inputs = trained.model.preprocess(*arguments)
        return [output.numpy() for output in (*trained.model(*arguments), inputs, (inputs - mean) @ axes)]


def test_the_exported_graph_equals_torch_and_the_forest_on_any_rows(fitted, run_graph):
    trained, customers, _ = fitted
    random = np.random.default_rng(2)
    rows = (random.normal(size=(10_000, 12)) * 10.0 ** random.integers(-6, 9, size=(10_000, 12))).astype(np.float32)
    rows[random.random(rows.shape) < 0.1] = np.nan
    rows[random.random(rows.shape) < 0.01] = np.inf
    rows[random.random(rows.shape) < 0.01] = -np.inf
    for features in (rows, customers.features, rows[:1], rows[:0]):
        countries = random.choice(["GB", "DE", "FR", "Atlantis", ""], len(features)).tolist()
        vector, error, score, inputs, components = run_graph(features, countries)
        expected = run_torch(trained, features, countries)
        for torch_output, output in zip(expected, (vector, error, inputs, components), strict=True):
            assert np.isfinite(output).all()
            np.testing.assert_allclose(output, torch_output, rtol=1e-5, atol=1e-5)
        if len(features):
            np.testing.assert_allclose(score, -trained.forest.score_samples(inputs), rtol=1e-5, atol=1e-5)
            assert ((score > 0) & (score < 1)).all()


def test_infinite_values_count_as_missing_and_unseen_categories_as_rare_ones(fitted, run_graph):
    trained, _, input_names = fitted
    assert "country = other" in input_names
    rows = np.stack([np.full(12, value, np.float32) for value in (np.nan, np.inf, -np.inf)])
    for output in run_graph(rows):
        np.testing.assert_allclose(output, np.broadcast_to(output[0], output.shape), rtol=1e-5)
    assert "land-3" not in trained.categories["country"]
    outputs = (run_graph(rows, [country] * 3) for country in ("Atlantis", "land-3", ""))
    for unseen, rare, missing in zip(*outputs, strict=True):
        np.testing.assert_allclose(unseen, rare, rtol=1e-5)
        assert not np.allclose(unseen, missing, rtol=1e-3)


def test_values_beyond_the_training_limits_count_as_the_limits(fitted, run_graph):
    trained, customers, _ = fitted
    features = np.nan_to_num(customers.features[:1])
    beyond, at_limit = features.copy(), features.copy()
    beyond[0, :], at_limit[0, :] = 1e30, trained.model.preprocess.high
    for outputs in zip(run_graph(beyond), run_graph(at_limit), strict=True):
        np.testing.assert_allclose(*outputs, rtol=1e-5)


def test_a_customer_far_from_all_others_has_a_higher_isolation_score(fitted, run_graph):
    trained, customers, _ = fitted
    scores = run_graph(customers.features)[2]
    far_score = run_graph(trained.model.preprocess.high.numpy()[None], ["Atlantis"])[2]
    assert far_score > np.quantile(scores, 0.99)


def test_the_files_agree_with_each_other(settings, shop):
    shop.write(settings.lake, shop.values())
    version = run(settings, shop.day, retrain=False)
    weights = safetensors.torch.load(models.read(settings.models, version, "weights.safetensors"))
    meta = models.meta(settings.models, version)
    parameters = {name: weights[f"preprocess.{name}"].numpy() for name in PreprocessingParameters.__annotations__}
    model = Autoencoder(Sizes(**meta["sizes"]), PreprocessingParameters(**parameters))
    model.load_state_dict(weights)
    model.eval()
    session = onnxruntime.InferenceSession(models.read(settings.models, version, "encoder.onnx"))
    categories = {name: attribute["categories"] for name, attribute in meta["attributes"].items()}

    golden = models.golden(settings.models, version)

    features, texts = np.array(golden["features"], dtype=np.float32), np.array(golden["attributes"], dtype=object)
    assert features.shape == (export.N_GOLDEN_ROWS, shop.features)
    assert np.isnan(features).any()
    assert np.isinf(features).any()
    assert "no such category" in texts
    graph_outputs = session.run(OUTPUTS, {"features": features, "attributes": texts})
    pca = principal_components(torch.from_numpy(graph_outputs[3]), meta["sizes"]["latent"])
    torch_outputs = run_torch(TrainedModel(model, None, categories, pca), features, texts[:, 0].tolist())
    for name, output in zip(OUTPUTS, graph_outputs, strict=True):
        np.testing.assert_allclose(output, golden[name], rtol=1e-5, atol=1e-5)
    for name, output in zip(OUTPUTS, torch_outputs[:2], strict=False):
        np.testing.assert_allclose(output, golden[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("min_numbers", [0, 10**9], ids=["in a process beside the model", "after it"])
def test_the_encoder_of_the_backtest_is_that_of_a_training_on_the_earlier_day(settings, shop, monkeypatch, min_numbers):
    monkeypatch.setattr(train, "MIN_NUMBERS_FOR_A_PROCESS", min_numbers)
    earlier_day = shop.day - timedelta(days=30)
    shop.write(settings.lake, shop.values())
    shop.write(settings.lake, shop.values(seed=6), mode="append", day=[earlier_day] * 300)

    version = run(settings, shop.day, retrain=False)

    backtest = models.meta(settings.models, version)["backtest"]
    assert (backtest["day"], backtest["features"]) == (earlier_day.isoformat(), [f"feature_{j}" for j in range(shop.features)])
    earlier_settings = replace(settings, models=f"{settings.models}-earlier")
    earlier_version = run(earlier_settings, earlier_day, retrain=False)
    texts = np.array([[country or ""] for country in shop.countries()], dtype=object)
    inputs = {"features": shop.values(), "attributes": texts}
    graphs = (
        models.read(settings.models, version, "backtest.onnx"),
        models.read(earlier_settings.models, earlier_version, "encoder.onnx"),
    )
    outputs = (onnxruntime.InferenceSession(graph).run(["vector", "components"], inputs) for graph in graphs)
    for backtest_output, earlier_output in zip(*outputs, strict=True):
        np.testing.assert_array_equal(backtest_output, earlier_output)
    encoder = onnxruntime.InferenceSession(models.read(settings.models, version, "encoder.onnx"))
    assert not np.allclose(encoder.run(["components"], inputs)[0], earlier_output, rtol=1e-2)


def test_a_model_whose_lake_lacks_the_earlier_day_has_no_backtest(settings, shop):
    shop.write(settings.lake, shop.values())
    backtest = models.meta(settings.models, run(settings, shop.day, retrain=False))["backtest"]
    assert backtest["day"] == "2026-01-01"
    assert backtest["left_out"].startswith("train: features.customers, day 2026-01-01: no rows; run first: shoal features")


def test_json_files_hold_only_numbers_that_json_knows(settings, shop):
    shop.write(settings.lake, shop.values())
    version = run(settings, shop.day, retrain=False)
    for name in ("golden.json", "meta.json"):
        json.loads(models.read(settings.models, version, name), parse_constant=lambda text: pytest.fail(text))


@pytest.mark.parametrize(("output", "tensor"), [("vector", "latent_mean"), ("isolation_score", "minus_expected_path_length")])
def test_a_graph_that_differs_from_the_trained_model_is_not_saved(fitted, tmp_path, monkeypatch, output, tensor):
    def build_changed_encoder(trained):
        encoder = build_encoder(trained)
        initializer = next(initializer for initializer in encoder.graph.initializer if initializer.name == tensor)
        changed = np.frombuffer(initializer.raw_data, np.float32) + 1e-3
        initializer.raw_data = changed.astype(np.float32).tobytes()
        return encoder

    monkeypatch.setattr(export, "build_encoder", build_changed_encoder)
    message = rf"{output} of encoder.onnx differs by .* from the trained model, more than 1e-05; nothing was"
    with pytest.raises(UserError, match=message):
        export.write_model(tmp_path, fitted[0], export.select_verification_rows(fitted[1]), {})
    assert not list(tmp_path.iterdir())
