from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from jobs.autoencoder import model as model_module
from jobs.autoencoder import preprocessing
from jobs.autoencoder.model import Autoencoder, Sizes, principal_axes
from jobs.config.policy import Column, Selection


@pytest.fixture
def with_attributes() -> tuple[Autoencoder, torch.Tensor, preprocessing.Numbers]:
    """A network for two numbers and two attributes of customers (90 x inputs), some of whom lack them."""
    random = np.random.default_rng(3)
    texts = {
        "country": pa.array(random.choice(["GB", "DE", "FR", ""], 90)),
        "device": pa.array(random.choice(["app", "web"], 90)),
    }
    known = {name: preprocessing.frequent(values, 2) for name, values in texts.items()}
    coded = preprocessing.codes(list(texts.values()), list(known.values()), 90)
    matrix = random.normal(size=(90, 2)).astype(np.float32)
    fitted = preprocessing.fit(matrix, coded, ["a", "b"], [Column()] * 2, known, Selection(), seed=1)
    torch.manual_seed(2)
    return Autoencoder(Sizes(len(fitted.names), 3, (5,)), fitted.numbers), fitted.inputs, fitted.numbers


def test_what_principal_axes_leave_is_the_variance_of_the_others(points):
    mean, axes, _ = principal_axes(points)
    singular = np.linalg.svd((points - points.mean(0)).numpy(), compute_uv=False)
    left = (points - mean) @ axes[:, 2:]
    assert float(left.square().sum()) == pytest.approx((singular[2:] ** 2).sum(), rel=1e-4)


def test_axes_are_orthonormal_ordered_and_have_a_fixed_sign(points):
    _, axes, variances = principal_axes(points)
    np.testing.assert_allclose(axes.T @ axes, np.eye(6), atol=1e-5)
    assert list(variances) == sorted(variances, reverse=True)
    assert (axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)) > 0).all()


def test_a_latent_with_dimensions_that_say_nothing_is_published_finite(points, network):
    model = network(latent=8)
    with torch.no_grad():
        model.encoder[0].weight[2:] = 0
    model.set_axes(points)
    with torch.no_grad():
        vector, _ = model(points, torch.empty(len(points), 0, dtype=torch.int64))
    assert torch.isfinite(vector).all()
    assert float(vector[:, 2:].abs().max()) < 1e-3


def test_customers_are_read_by_least_squares_from_the_vector_and_the_decoder(points, network, monkeypatch):
    monkeypatch.setattr(model_module, "RIDGES", (1e-9,))
    model = network(latent=2)
    model.set_own(points, points)
    with torch.no_grad():
        seen = torch.cat([model.encoder(points), torch.ones(len(points), 1)], dim=1)
        errors = model.squared_errors(points).numpy()
    left = np.linalg.lstsq(seen.numpy(), points.numpy(), rcond=None)[1]
    np.testing.assert_allclose(errors.sum(axis=0), left, rtol=1e-4)


def test_few_customers_are_not_learned_by_heart(points, network):
    random = torch.Generator().manual_seed(1)
    few, others = (torch.randn(n, 6, generator=random) for n in (20, 500))  # nothing is to be known of them
    model = network(latent=2, hidden=(32,))
    with torch.no_grad():
        model.decoder[0].weight.mul_(10)
    model.set_own(few, few)
    by_heart = model.squared_errors(others).mean()
    model.set_own(few, others)
    assert float(model.squared_errors(others).mean()) < 0.8 * float(by_heart)


def test_restored_attributes_are_shares_that_add_up_with_the_rest(with_attributes):
    model, inputs, _ = with_attributes
    assert [group.stop - group.start for group in model.groups] == [3, 1]  # GB, DE and other; app, of which web is the rest
    restored = model.restored(10 * torch.randn(90, inputs.shape[1], generator=torch.Generator().manual_seed(1)))
    for group in model.groups:
        shares = restored[:, group] * model.category_scale[group] + model.category_mean[group]
        assert float(shares.min()) > -1e-5
        assert float(shares.sum(dim=1).max()) < 1 + 1e-5


def test_misfit_is_squared_error_of_numbers_and_cross_entropy_of_attributes(with_attributes):
    model, inputs, _ = with_attributes
    decoded = torch.randn(90, inputs.shape[1], generator=torch.Generator().manual_seed(1))
    country, device = model.groups
    numbers = [column for column in range(inputs.shape[1]) if not any(g.start <= column < g.stop for g in model.groups)]
    expected = (decoded - inputs)[:, numbers].square().sum(dim=1)
    for group in (country, device):
        is_one = inputs[:, group] > 0  # a category's column is its 0 or 1 less its mean
        category = torch.where(is_one.any(dim=1), is_one.int().argmax(dim=1), group.stop - group.start)
        logits = torch.cat([decoded[:, group], torch.zeros(90, 1)], dim=1)
        expected += torch.nn.functional.cross_entropy(logits, category, reduction="none")
    torch.testing.assert_close(model.misfit(decoded, inputs), expected / inputs.shape[1])


def test_settings_put_normalisation_and_dropout_between_the_layers(with_attributes):
    sizes = replace(with_attributes[0].sizes, hidden=(5, 4), dropout=0.5, layer_norm=True)
    model = Autoencoder(sizes, with_attributes[2])
    assert [type(layer).__name__ for layer in model.encoder] == ["Linear", "LayerNorm", "SiLU", "Dropout"] * 2 + ["Linear"]
