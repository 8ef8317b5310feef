import numpy as np
import pytest
import torch

from jobs.autoencoder.model import pca, principal_axes


def pca_error(points: torch.Tensor, dimensions: int) -> float:
    return float((pca(points, points, dimensions)[1] - points).square().mean())


def test_the_network_starts_with_the_error_of_pca(points, network):
    model = network(latent=2)
    model.start_at_pca(points)
    with torch.no_grad():
        error = (model.decode(model.encode(points)) - points).square().mean()
    assert float(error) == pytest.approx(pca_error(points, 2), rel=1e-4)


def test_pca_error_is_the_variance_that_the_dimensions_leave(points):
    singular = np.linalg.svd((points - points.mean(0)).numpy(), compute_uv=False)
    assert pca_error(points, 2) == pytest.approx((singular[2:] ** 2).sum() / points.numel(), rel=1e-4)
    assert pca_error(points, 6) == pytest.approx(0, abs=1e-9)


def test_axes_are_orthonormal_ordered_and_have_a_fixed_sign(points):
    _, axes, variances = principal_axes(points)
    np.testing.assert_allclose(axes.T @ axes, np.eye(6), atol=1e-5)
    assert list(variances) == sorted(variances, reverse=True)
    assert (axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)) > 0).all()


def test_a_latent_wider_than_the_features_leaves_the_rest_at_zero(points, network):
    model = network(latent=8)
    model.start_at_pca(points)
    model.set_axes(points)
    with torch.no_grad():
        vector, error = model(points, torch.empty(len(points), 0, dtype=torch.int64))
    assert torch.isfinite(vector).all()
    assert float(error.max()) < 1e-6
    assert float(vector[:, 6:].abs().max()) < 1e-3
