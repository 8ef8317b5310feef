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
def attribute_network() -> tuple[Autoencoder, torch.Tensor, preprocessing.PreprocessingParameters]:
    """A network for two features and two attributes, the inputs (90, n_inputs), some without a country, and its parameters."""
    random = np.random.default_rng(3)
    texts = {
        "country": pa.array(random.choice(["GB", "DE", "FR", ""], 90)),
        "device": pa.array(random.choice(["app", "web"], 90)),
    }
    categories = {name: preprocessing.most_frequent_categories(values, 2) for name, values in texts.items()}
    codes = preprocessing.encode_categories(list(texts.values()), list(categories.values()), 90)
    features = random.normal(size=(90, 2)).astype(np.float32)
    fitted = preprocessing.fit_preprocessing(features, codes, ["a", "b"], [Column()] * 2, categories, Selection(), seed=1)
    torch.manual_seed(2)
    return Autoencoder(Sizes(len(fitted.input_names), 3, (5,)), fitted.parameters), fitted.inputs, fitted.parameters


def test_the_first_principal_axes_leave_the_variance_of_the_others(points):
    mean, axes, _ = principal_axes(points)
    singular_values = np.linalg.svd((points - points.mean(0)).numpy(), compute_uv=False)
    rest = (points - mean) @ axes[:, 2:]
    assert float(rest.square().sum()) == pytest.approx((singular_values[2:] ** 2).sum(), rel=1e-4)


def test_axes_are_orthonormal_ordered_and_have_a_fixed_sign(points):
    _, axes, variances = principal_axes(points)
    np.testing.assert_allclose(axes.T @ axes, np.eye(6), atol=1e-5)
    assert list(variances) == sorted(variances, reverse=True)
    assert (axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)) > 0).all()


def test_a_latent_with_constant_dimensions_gives_a_finite_vector(points, make_network):
    model = make_network(latent=8)
    with torch.no_grad():
        model.encoder[0].weight[2:] = 0
    model.fit_principal_axes(points)
    with torch.no_grad():
        vector, _ = model(points, torch.empty(len(points), 0, dtype=torch.int64))
    assert torch.isfinite(vector).all()
    assert float(vector[:, 2:].abs().max()) < 1e-3


def test_the_reconstruction_head_is_least_squares_on_the_latent_and_the_decoder(points, make_network, monkeypatch):
    monkeypatch.setattr(model_module, "RIDGES", (1e-9,))
    model = make_network(latent=2)
    model.fit_reconstruction_head(points, points)
    with torch.no_grad():
        predictors = torch.cat([model.encoder(points), torch.ones(len(points), 1)], dim=1)
        errors = model.squared_errors(points).numpy()
    residuals = np.linalg.lstsq(predictors.numpy(), points.numpy(), rcond=None)[1]
    np.testing.assert_allclose(errors.sum(axis=0), residuals, rtol=1e-4)


def test_held_out_customers_choose_a_ridge_that_does_not_overfit(points, make_network):
    random = torch.Generator().manual_seed(1)
    few, held_out = (torch.randn(n, 6, generator=random) for n in (20, 500))  # pure noise: nothing can be predicted
    model = make_network(latent=2, hidden=(32,))
    with torch.no_grad():
        model.decoder[0].weight.mul_(10)
    model.fit_reconstruction_head(few, few)
    overfitted_error = model.squared_errors(held_out).mean()
    model.fit_reconstruction_head(few, held_out)
    assert float(model.squared_errors(held_out).mean()) < 0.8 * float(overfitted_error)


def test_predicted_attributes_are_shares_that_add_up_to_one_with_the_rest(attribute_network):
    model, inputs, _ = attribute_network
    sizes = [columns.stop - columns.start for columns in model.category_slices]
    assert sizes == [3, 1]  # GB, DE and other; app, with web as the rest
    predicted = model.to_inputs(10 * torch.randn(90, inputs.shape[1], generator=torch.Generator().manual_seed(1)))
    for columns in model.category_slices:
        shares = predicted[:, columns] * model.category_scale[columns] + model.category_mean[columns]
        assert float(shares.min()) > -1e-5
        assert float(shares.sum(dim=1).max()) < 1 + 1e-5


def test_prediction_loss_is_squared_error_of_numbers_and_cross_entropy_of_attributes(attribute_network):
    model, inputs, _ = attribute_network
    prediction = torch.randn(90, inputs.shape[1], generator=torch.Generator().manual_seed(1))
    categorical = {column for columns in model.category_slices for column in range(columns.start, columns.stop)}
    numeric = [column for column in range(inputs.shape[1]) if column not in categorical]
    expected = (prediction - inputs)[:, numeric].square().sum(dim=1)
    for columns in model.category_slices:
        is_one = inputs[:, columns] > 0  # the input of a category is its 0 or 1 less its mean
        category = torch.where(is_one.any(dim=1), is_one.int().argmax(dim=1), columns.stop - columns.start)
        logits = torch.cat([prediction[:, columns], torch.zeros(90, 1)], dim=1)
        expected += torch.nn.functional.cross_entropy(logits, category, reduction="none")
    torch.testing.assert_close(model.prediction_loss(prediction, inputs), expected / inputs.shape[1])


def test_a_target_with_shares_below_zero_has_no_negative_loss(attribute_network):
    model, inputs, _ = attribute_network
    target = 10 * inputs  # wide data have such neighbour means
    prediction = target.clone()
    for columns in model.category_slices:
        prediction[:, columns] *= 10
    losses = model.prediction_loss(prediction, target)
    assert losses.isfinite().all()
    assert (losses >= 0).all()


def test_settings_add_normalisation_and_dropout_between_the_layers(attribute_network):
    sizes = replace(attribute_network[0].sizes, hidden=(5, 4), dropout=0.5, layer_norm=True)
    model = Autoencoder(sizes, attribute_network[2])
    assert [type(layer).__name__ for layer in model.encoder] == ["Linear", "LayerNorm", "SiLU", "Dropout"] * 2 + ["Linear"]


def test_saved_weights_keep_the_layer_names_of_earlier_versions(make_network):
    model, loaded = make_network(latent=2), make_network(latent=2)
    state_dict = model.state_dict()
    assert {"around.weight", "around.bias", "own.weight", "own.bias"} <= state_dict.keys()
    assert not any("head" in name for name in state_dict)
    loaded.load_state_dict(state_dict)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state_dict[name]), name
