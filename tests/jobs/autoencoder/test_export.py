import json

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch

from jobs import autoencoder, models
from jobs.autoencoder import data, export
from jobs.autoencoder.model import Autoencoder, Sizes
from jobs.errors import UserError


@pytest.fixture
def fitted(settings, shop):
    """A model with the preprocessing of the shop and untrained weights, and the customers."""
    shop.write(settings.lake, shop.values())
    customers = data.read(settings.lake, shop.day, 1)
    torch.manual_seed(3)
    model = Autoencoder(Sizes(features=shop.features, latent=3))
    model.set_preprocessing(data.fit(customers.matrix))
    return model, customers


def torch_says(model: Autoencoder, rows: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        return [output.numpy() for output in model(torch.from_numpy(rows))]


def test_the_exported_graph_equals_torch_on_any_rows(fitted):
    model, customers = fitted
    session = onnxruntime.InferenceSession(export.encoder(model).SerializeToString())
    random = np.random.default_rng(2)
    rows = (random.normal(size=(10_000, 12)) * 10.0 ** random.integers(-6, 9, size=(10_000, 12))).astype(np.float32)
    rows[random.random(rows.shape) < 0.1] = np.nan
    rows[random.random(rows.shape) < 0.01] = np.inf
    rows[random.random(rows.shape) < 0.01] = -np.inf
    for part in (rows, customers.matrix, rows[:1], rows[:0]):
        for ours, theirs in zip(torch_says(model, part), session.run(None, {"features": part}), strict=True):
            assert np.isfinite(theirs).all()
            np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)


def test_infinite_and_missing_values_are_answered_like_the_training_median(fitted):
    model, _ = fitted
    session = onnxruntime.InferenceSession(export.encoder(model).SerializeToString())
    rows = np.stack([np.full(12, value, np.float32) for value in (np.nan, np.inf, -np.inf)] + [model.median.numpy()])
    vector, error = session.run(None, {"features": rows})
    assert (vector == vector[0]).all()
    assert (error == error[0]).all()


def test_values_beyond_the_training_limits_are_answered_like_the_limits(fitted):
    model, customers = fitted
    session = onnxruntime.InferenceSession(export.encoder(model).SerializeToString())
    row = np.nan_to_num(customers.matrix[:1])
    far, limit = row.copy(), row.copy()
    far[0, 0], limit[0, 0] = 1e30, model.high[0]
    np.testing.assert_array_equal(*(session.run(["vector"], {"features": rows})[0] for rows in (far, limit)))


def test_the_files_agree_with_each_other(settings, shop):
    shop.write(settings.lake, shop.values())
    version = autoencoder.run(settings, shop.day, retrain=False)
    model = Autoencoder(Sizes(features=shop.features, latent=3))
    model.load_state_dict(safetensors.torch.load(models.read(settings.models, version, "weights.safetensors")))
    session = onnxruntime.InferenceSession(models.read(settings.models, version, "encoder.onnx"))

    golden = models.golden(settings.models, version)

    rows = np.array(golden["features"], dtype=np.float32)
    assert rows.shape == (export.GOLDEN_ROWS, shop.features)
    assert np.isnan(rows).any()
    assert np.isinf(rows).any()
    for answers in (session.run(None, {"features": rows}), torch_says(model, rows)):
        np.testing.assert_allclose(answers[0], golden["vector"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(answers[1], golden["reconstruction_error"], rtol=1e-5, atol=1e-5)


def test_json_files_hold_no_number_that_json_does_not_know(settings, shop):
    shop.write(settings.lake, shop.values())
    version = autoencoder.run(settings, shop.day, retrain=False)
    for name in ("golden.json", "meta.json"):
        json.loads(models.read(settings.models, version, name), parse_constant=lambda text: pytest.fail(text))


def test_a_graph_that_differs_from_torch_is_not_saved(settings, shop, monkeypatch):
    def with_another_weight(model):
        graph = true_graph(model)
        weight = next(tensor for tensor in graph.graph.initializer if tensor.name == "encoder_linear_weight")
        changed = np.frombuffer(weight.raw_data, np.float32) + 1e-3
        weight.raw_data = changed.astype(np.float32).tobytes()
        return graph

    true_graph = export.encoder
    monkeypatch.setattr(export, "encoder", with_another_weight)
    shop.write(settings.lake, shop.values())
    with pytest.raises(UserError, match=r"vector of encoder.onnx is .* off torch's, more than 1e-05; nothing was saved"):
        autoencoder.run(settings, shop.day, retrain=False)
    assert models.champion(settings.models, shop.day) is None
