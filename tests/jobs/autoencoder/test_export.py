import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import safetensors.torch
import torch

from jobs import autoencoder
from jobs.autoencoder import data, export, isolation, preprocessing
from jobs.autoencoder.model import Autoencoder, Sizes, components
from jobs.autoencoder.preprocessing import Numbers
from jobs.config.policy import MISSING, OUTLIERS, SCALING, Column, Selection
from jobs.errors import UserError
from jobs.storage import models

COLUMNS = [
    Column(MISSING[j % len(MISSING)], 1.0, OUTLIERS[j % len(OUTLIERS)], (0.01, 0.99), 2.0, SCALING[j % len(SCALING)])
    for j in range(12)
]


@pytest.fixture(scope="module", params=[(), ("model", "multiple")], ids=["all treatments", "no regressions"])
def fitted(request, shop, tmp_path_factory):
    """Every treatment of the policy on some feature, or all but some, untrained weights, and the customers."""
    lake = str(tmp_path_factory.mktemp("fitted"))
    shop.write(lake, shop.values())
    customers = data.read(lake, shop.day, 1)
    categories = {"country": preprocessing.frequent(customers.attributes["country"], 3)}
    coded = preprocessing.codes(list(customers.attributes.values()), list(categories.values()), len(customers.ids))
    torch.manual_seed(3)
    columns = [replace(column, missing="median") if column.missing in request.param else column for column in COLUMNS]
    made = preprocessing.fit(customers.matrix, coded, customers.names, columns, categories, Selection(), seed=3)
    model = Autoencoder(Sizes(len(made.names), 3, (6, 5), dropout=0.1, layer_norm=True), made.numbers).eval()
    forest = isolation.fit(made.inputs.numpy(), seed=3)
    return export.Trained(model, forest, categories, components(made.inputs, 3)), customers, made.names


@pytest.fixture(scope="module")
def run(fitted):
    """What onnxruntime says of features (n x 12) and countries, all or some of the outputs."""
    session = onnxruntime.InferenceSession(export.encoder(fitted[0]).SerializeToString())

    def run(rows, countries=None, outputs=export.OUTPUTS):
        texts = np.array([""] * len(rows) if countries is None else countries, dtype=object).reshape(-1, 1)
        return session.run(outputs, {"features": rows, "attributes": texts})

    return run


def torch_says(trained: export.Trained, rows: np.ndarray, countries: list[str]) -> list[np.ndarray]:
    """Vector, error, the network's columns and their principal components."""
    coded = preprocessing.codes([pa.array(countries, pa.string())], list(trained.categories.values()), len(rows))
    given = torch.from_numpy(rows), torch.from_numpy(coded)
    mean, axes = trained.pca
    with torch.no_grad():
        inputs = trained.model.preprocess(*given)
        return [output.numpy() for output in (*trained.model(*given), inputs, (inputs - mean) @ axes)]


def test_the_exported_graph_equals_torch_and_the_forest_on_any_rows(fitted, run):
    trained, customers, _ = fitted
    random = np.random.default_rng(2)
    rows = (random.normal(size=(10_000, 12)) * 10.0 ** random.integers(-6, 9, size=(10_000, 12))).astype(np.float32)
    rows[random.random(rows.shape) < 0.1] = np.nan
    rows[random.random(rows.shape) < 0.01] = np.inf
    rows[random.random(rows.shape) < 0.01] = -np.inf
    for part in (rows, customers.matrix, rows[:1], rows[:0]):
        countries = random.choice(["GB", "DE", "FR", "Atlantis", ""], len(part)).tolist()
        vector, error, score, inputs, components = run(part, countries)
        for ours, theirs in zip(torch_says(trained, part, countries), (vector, error, inputs, components), strict=True):
            assert np.isfinite(theirs).all()
            np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)
        if len(part):
            np.testing.assert_allclose(score, -trained.forest.score_samples(inputs), rtol=1e-5, atol=1e-5)
            assert ((score > 0) & (score < 1)).all()


def test_infinite_values_are_answered_like_missing_ones_and_unseen_categories_like_the_rare(fitted, run):
    trained, _, names = fitted
    assert "country = other" in names
    rows = np.stack([np.full(12, value, np.float32) for value in (np.nan, np.inf, -np.inf)])
    for answers in run(rows):
        np.testing.assert_allclose(answers, np.broadcast_to(answers[0], answers.shape), rtol=1e-5)
    assert "land-3" not in trained.categories["country"]
    for unseen, rare, missing in zip(*(run(rows, [text] * 3) for text in ("Atlantis", "land-3", "")), strict=True):
        np.testing.assert_allclose(unseen, rare, rtol=1e-5)
        assert not np.allclose(unseen, missing, rtol=1e-3)


def test_values_beyond_the_training_limits_are_answered_like_the_limits(fitted, run):
    trained, customers, _ = fitted
    rows = np.nan_to_num(customers.matrix[:1])
    far, limit = rows.copy(), rows.copy()
    far[0, :], limit[0, :] = 1e30, trained.model.preprocess.high
    for answers in zip(run(far), run(limit), strict=True):
        np.testing.assert_allclose(*answers, rtol=1e-5)


def test_a_customer_far_from_all_others_is_more_unusual_than_they_are(fitted, run):
    trained, customers, _ = fitted
    ordinary = run(customers.matrix)[2]
    odd = run(trained.model.preprocess.high.numpy()[None], ["Atlantis"])[2]
    assert odd > np.quantile(ordinary, 0.99)


def test_the_files_agree_with_each_other(settings, shop):
    shop.write(settings.lake, shop.values())
    version = autoencoder.run(settings, shop.day, retrain=False)
    weights = safetensors.torch.load(models.read(settings.models, version, "weights.safetensors"))
    told = models.meta(settings.models, version)
    numbers = Numbers(**{name: weights[f"preprocess.{name}"].numpy() for name in Numbers.__annotations__})
    model = Autoencoder(Sizes(**told["sizes"]), numbers)
    model.load_state_dict(weights)
    model.eval()
    session = onnxruntime.InferenceSession(models.read(settings.models, version, "encoder.onnx"))
    categories = {name: attribute["categories"] for name, attribute in told["attributes"].items()}

    golden = models.golden(settings.models, version)

    rows, texts = np.array(golden["features"], dtype=np.float32), np.array(golden["attributes"], dtype=object)
    assert rows.shape == (export.GOLDEN_ROWS, shop.features)
    assert np.isnan(rows).any()
    assert np.isinf(rows).any()
    assert "no such category" in texts
    theirs = session.run(export.OUTPUTS, {"features": rows, "attributes": texts})
    pca = components(torch.from_numpy(theirs[3]), told["sizes"]["latent"])
    ours = torch_says(export.Trained(model, None, categories, pca), rows, texts[:, 0].tolist())
    for name, answers in zip(export.OUTPUTS, theirs, strict=True):
        np.testing.assert_allclose(answers, golden[name], rtol=1e-5, atol=1e-5)
    for name, answers in zip(export.OUTPUTS, ours[:2], strict=False):
        np.testing.assert_allclose(answers, golden[name], rtol=1e-5, atol=1e-5)


def test_the_encoder_of_the_backtest_is_that_of_a_training_on_the_earlier_day(settings, shop):
    before = shop.day - timedelta(days=30)
    shop.write(settings.lake, shop.values())
    shop.write(settings.lake, shop.values(seed=6), mode="append", day=[before] * 300)

    version = autoencoder.run(settings, shop.day, retrain=False)

    told = models.meta(settings.models, version)["backtest"]
    assert (told["day"], told["features"]) == (before.isoformat(), [f"feature_{j}" for j in range(shop.features)])
    earlier = replace(settings, models=f"{settings.models}-earlier")
    alone = models.read(earlier.models, autoencoder.run(earlier, before, retrain=False), "encoder.onnx")
    texts = np.array([[country or ""] for country in shop.countries()], dtype=object)
    given = {"features": shop.values(), "attributes": texts}
    pairs = (
        onnxruntime.InferenceSession(graph).run(["vector", "components"], given)
        for graph in (models.read(settings.models, version, "backtest.onnx"), alone)
    )
    for ours, theirs in zip(*pairs, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    later = models.read(settings.models, version, "encoder.onnx")
    assert not np.allclose(onnxruntime.InferenceSession(later).run(["components"], given)[0], theirs, rtol=1e-2)


def test_a_model_whose_lake_lacks_the_earlier_day_says_so(settings, shop):
    shop.write(settings.lake, shop.values())
    told = models.meta(settings.models, autoencoder.run(settings, shop.day, retrain=False))["backtest"]
    assert told["day"] == "2026-01-01"
    assert told["left_out"].startswith("train: features.customers, day 2026-01-01: no rows; run first: shoal features")


def test_json_files_hold_no_number_that_json_does_not_know(settings, shop):
    shop.write(settings.lake, shop.values())
    version = autoencoder.run(settings, shop.day, retrain=False)
    for name in ("golden.json", "meta.json"):
        json.loads(models.read(settings.models, version, name), parse_constant=lambda text: pytest.fail(text))


@pytest.mark.parametrize(("output", "tensor"), [("vector", "latent_mean"), ("isolation_score", "minus_expected_splits")])
def test_a_graph_that_differs_from_what_was_trained_is_not_saved(fitted, tmp_path, monkeypatch, output, tensor):
    def with_another_number(trained):
        graph = true_graph(trained)
        number = next(one for one in graph.graph.initializer if one.name == tensor)
        changed = np.frombuffer(number.raw_data, np.float32) + 1e-3
        number.raw_data = changed.astype(np.float32).tobytes()
        return graph

    true_graph = export.encoder
    monkeypatch.setattr(export, "encoder", with_another_number)
    with pytest.raises(UserError, match=rf"{output} of encoder.onnx is .* off what was trained, more than 1e-05; nothing was"):
        export.write(tmp_path, fitted[0], export.checked_rows(fitted[1]), {})
    assert not list(tmp_path.iterdir())
