import numpy as np
import pytest
import torch

from jobs.autoencoder import evaluation
from jobs.autoencoder import model as model_module
from jobs.autoencoder.model import Autoencoder, components

NAMES = [f"feature_{number}" for number in range(6)]
IDS = [f"customer-{number}" for number in range(200)]


@pytest.fixture
def like_pca(points, network) -> Autoencoder:
    """A network that does what a PCA of two dimensions does."""
    model = network(latent=2)
    mean, axes = components(points, 2)
    with torch.no_grad():
        model.encoder[0].weight.copy_(axes.T)
        model.encoder[0].bias.copy_(-(axes.T @ mean))
    model.set_own(points, points)
    return model


def test_a_network_that_is_a_pca_is_found_to_be_no_better(like_pca, points):
    found = evaluation.of(like_pca, components(points, 2), points, IDS, NAMES)
    assert found["test_error"] == pytest.approx(found["test_error_pca"], rel=1e-4)
    assert found["trustworthiness"] == pytest.approx(found["trustworthiness_pca"], abs=1e-3)
    assert list(found["errors"]) == NAMES
    assert np.mean([one["error"] for one in found["errors"].values()]) == pytest.approx(found["test_error"], rel=1e-4)


def test_a_vector_that_mixes_customers_up_is_trusted_less(like_pca, points):
    kept = evaluation.of(like_pca, components(points, 2), points, IDS, NAMES)["trustworthiness"]
    with torch.no_grad():
        like_pca.encoder[0].weight[1] = 0  # the second direction is lost
    lost = evaluation.of(like_pca, components(points, 2), points, IDS, NAMES)["trustworthiness"]
    assert lost < kept - 0.05 < 1


def test_the_customers_restored_worst_come_first_with_what_is_to_blame(like_pca, points):
    strange = points.clone()
    strange[17, 3] += 40
    found = evaluation.of(like_pca, components(points, 2), strange, IDS, NAMES)
    worst = found["worst"]
    assert worst[0]["customer_id"] == "customer-17"
    assert next(iter(worst[0]["share_of_error"])) == "feature_3"
    assert [one["error"] for one in worst] == sorted((one["error"] for one in worst), reverse=True)
    assert len(worst) == evaluation.WORST


def test_two_customers_have_too_few_neighbours_to_say(like_pca, points):
    found = evaluation.of(like_pca, components(points, 2), points[:2], IDS[:2], NAMES)
    assert found["trustworthiness"] is None
    assert len(found["worst"]) == 2


def test_more_customers_than_are_computed_at_once_are_told_the_same(like_pca, points, monkeypatch):
    whole = evaluation.of(like_pca, components(points, 2), points, IDS, NAMES)
    for module in (evaluation, model_module):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    in_parts = evaluation.of(like_pca, components(points, 2), points, IDS, NAMES)
    assert in_parts["worst"][0]["customer_id"] == whole["worst"][0]["customer_id"]
    for name in ("test_error", "test_error_pca"):
        assert in_parts[name] == pytest.approx(whole[name], rel=1e-5)
