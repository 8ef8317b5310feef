import numpy as np
import pytest
import torch

from jobs.autoencoder import evaluation
from jobs.autoencoder import model as model_module
from jobs.autoencoder.evaluation import evaluate
from jobs.autoencoder.model import Autoencoder, principal_components

NAMES = [f"feature_{number}" for number in range(6)]
IDS = [f"customer-{number}" for number in range(200)]


@pytest.fixture
def pca_network(points, make_network) -> Autoencoder:
    """A network that computes a PCA of two dimensions."""
    model = make_network(latent=2)
    mean, axes = principal_components(points, 2)
    with torch.no_grad():
        model.encoder[0].weight.copy_(axes.T)
        model.encoder[0].bias.copy_(-(axes.T @ mean))
    model.fit_reconstruction_head(points, points)
    return model


def test_a_network_that_computes_a_pca_has_the_figures_of_the_pca(pca_network, points):
    figures = evaluate(pca_network, principal_components(points, 2), points, IDS, NAMES)
    assert figures["test_error"] == pytest.approx(figures["test_error_pca"], rel=1e-4)
    assert figures["trustworthiness"] == pytest.approx(figures["trustworthiness_pca"], abs=1e-3)
    assert list(figures["errors"]) == NAMES
    assert np.mean([errors["error"] for errors in figures["errors"].values()]) == pytest.approx(figures["test_error"], rel=1e-4)


def test_a_vector_that_loses_a_direction_is_less_trustworthy(pca_network, points):
    before = evaluate(pca_network, principal_components(points, 2), points, IDS, NAMES)["trustworthiness"]
    with torch.no_grad():
        pca_network.encoder[0].weight[1] = 0
    after = evaluate(pca_network, principal_components(points, 2), points, IDS, NAMES)["trustworthiness"]
    assert after < before - 0.05 < 1


def test_the_customers_with_the_largest_errors_come_first_with_their_worst_inputs(pca_network, points):
    changed = points.clone()
    changed[17, 3] += 40
    worst = evaluate(pca_network, principal_components(points, 2), changed, IDS, NAMES)["worst"]
    assert worst[0]["customer_id"] == "customer-17"
    assert next(iter(worst[0]["share_of_error"])) == "feature_3"
    errors = [customer["error"] for customer in worst]
    assert errors == sorted(errors, reverse=True)
    assert len(worst) == evaluation.N_WORST_CUSTOMERS


def test_two_customers_have_no_trustworthiness(pca_network, points):
    figures = evaluate(pca_network, principal_components(points, 2), points[:2], IDS[:2], NAMES)
    assert figures["trustworthiness"] is None
    assert len(figures["worst"]) == 2


def test_chunks_do_not_change_the_figures(pca_network, points, monkeypatch):
    whole = evaluate(pca_network, principal_components(points, 2), points, IDS, NAMES)
    for module in (evaluation, model_module):
        monkeypatch.setattr(module, "CHUNK_ROWS", 7)
    in_chunks = evaluate(pca_network, principal_components(points, 2), points, IDS, NAMES)
    assert in_chunks["worst"][0]["customer_id"] == whole["worst"][0]["customer_id"]
    for name in ("test_error", "test_error_pca"):
        assert in_chunks[name] == pytest.approx(whole[name], rel=1e-5)
