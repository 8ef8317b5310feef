import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from jobs.autoencoder.examples import Examples
from jobs.autoencoder.losses import JointClustering, denoising_loss
from jobs.config.settings import Train


@pytest.fixture
def identity_network(make_network):
    """A network whose vector is its input, and whose prediction is its vector."""
    model = make_network(latent=6)
    with torch.no_grad():
        for linear in (model.encoder[0], model.neighbour_head):
            linear.weight.copy_(torch.eye(6))
            linear.bias.zero_()
    return model


def compute_loss(model, points, neighbours=5, rows=slice(None), **settings) -> torch.Tensor:
    [examples] = Examples.from_imputations([points], neighbours)
    torch.manual_seed(3)
    loss = denoising_loss(model, Train(**{"noise": 0.0, "isometry": 0.0} | settings))
    return loss(points, examples.neighbour_means, rows)


def test_the_identity_has_no_loss_without_noise_and_neighbours(identity_network, points):
    assert float(compute_loss(identity_network, points, neighbours=0).max()) < 1e-10


def test_the_loss_is_the_squared_distance_to_the_neighbour_mean(identity_network, points):
    [examples] = Examples.from_imputations([points], 5)
    expected = (examples.neighbour_means - points).square().mean(dim=1)
    torch.testing.assert_close(compute_loss(identity_network, points), expected)


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_noise_is_the_share_of_values_swapped_between_customers(identity_network, noise):
    points = torch.arange(6000.0).view(1000, 6)  # all values differ
    encoder_inputs = []
    identity_network.encoder.register_forward_pre_hook(lambda _, inputs: encoder_inputs.append(inputs[0]))
    compute_loss(identity_network, points, neighbours=0, noise=noise)
    is_swapped = encoder_inputs[0] != points
    assert float(is_swapped.float().mean()) == pytest.approx(noise, rel=0.1)
    assert torch.equal(encoder_inputs[0] % 6, points % 6)  # each value is of the same feature


def test_swapped_values_raise_the_loss(identity_network, points):
    assert float(compute_loss(identity_network, points, neighbours=0, noise=0.5).mean()) > 0.1


def test_a_stretched_latent_raises_the_loss_except_for_a_customer_without_a_partner(identity_network, points):
    with torch.no_grad():
        identity_network.encoder[0].weight.mul_(2)
        identity_network.neighbour_head.weight.div_(2)
    distances = (points[0:200:2] - points[1:200:2]).norm(dim=1)
    expected = (distances.square() / 6).repeat_interleave(2)
    torch.testing.assert_close(compute_loss(identity_network, points, 0, isometry=1.0), expected, rtol=1e-3, atol=1e-4)
    assert float(compute_loss(identity_network, points, 0, isometry=1.0, rows=slice(3))[2]) < 1e-10


def test_joint_clustering_makes_soft_assignments_clearer(make_network):
    random = np.random.default_rng(1)
    labels = random.integers(3, size=300)
    means = np.eye(3, 6, dtype=np.float32)
    points = torch.from_numpy(2.5 * means[labels] + random.normal(size=(300, 6)).astype(np.float32))
    model = make_network(latent=6)
    with torch.no_grad():
        model.encoder[0].weight.copy_(torch.eye(6))
        model.encoder[0].bias.zero_()
    clustering = JointClustering(model, n_clusters=3, seed=1)
    clustering.fit_centres(points)
    [examples] = Examples.from_imputations([points], 0)
    loss = clustering.clustering_loss(lambda customers, neighbour_means, rows: torch.zeros(len(customers)))
    optimizer = torch.optim.SGD(clustering.parameters(), lr=5.0)

    def mean_largest_share() -> float:
        return float(clustering.soft_assignment(model.encoder(points)).max(dim=1).values.mean())

    before = mean_largest_share()
    for _ in range(100):
        clustering.update_cluster_sizes(examples)
        optimizer.zero_grad()
        loss(points, None, slice(None)).mean().backward()
        optimizer.step()
    assert mean_largest_share() > before + 0.1
    assert adjusted_rand_score(labels, clustering.soft_assignment(model.encoder(points)).argmax(dim=1)) > 0.6
