import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from jobs.autoencoder import losses
from jobs.autoencoder.examples import Examples
from jobs.config.settings import Train


@pytest.fixture
def copying(network):
    """A network whose vector is the customer himself, and which restores nothing but that."""
    model = network(latent=6)
    with torch.no_grad():
        for linear in (model.encoder[0], model.around):
            linear.weight.copy_(torch.eye(6))
            linear.bias.zero_()
    return model


def loss_of(model, points, neighbours=5, mine=slice(None), **settings) -> torch.Tensor:
    [examples] = Examples.of([points], neighbours)
    torch.manual_seed(3)
    loss = losses.restoring(model, Train(**{"noise": 0.0, "isometry": 0.0} | settings))
    return loss(points, examples.around, mine)


def test_who_is_restored_without_noise_and_neighbours_costs_nothing(copying, points):
    assert float(loss_of(copying, points, neighbours=0).max()) < 1e-10


def test_what_a_customer_does_not_share_with_his_neighbours_costs(copying, points):
    [examples] = Examples.of([points], 5)
    expected = (examples.around - points).square().mean(dim=1)
    torch.testing.assert_close(loss_of(copying, points), expected)


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_as_many_values_as_said_are_swapped_for_those_of_strangers(copying, noise):
    points = torch.arange(6000.0).view(1000, 6)  # no two values are the same
    seen = []
    copying.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    loss_of(copying, points, neighbours=0, noise=noise)
    swapped = seen[0] != points
    assert float(swapped.float().mean()) == pytest.approx(noise, rel=0.1)
    assert torch.equal(seen[0] % 6, points % 6)  # each is of the same feature


def test_swapped_values_cost(copying, points):
    assert float(loss_of(copying, points, neighbours=0, noise=0.5).mean()) > 0.1


def test_a_vector_that_is_stretched_costs_and_a_customer_without_a_partner_none(copying, points):
    with torch.no_grad():
        copying.encoder[0].weight.mul_(2)
        copying.around.weight.div_(2)
    steps = (points[0:200:2] - points[1:200:2]).norm(dim=1)
    expected = (steps.square() / 6).repeat_interleave(2)
    torch.testing.assert_close(loss_of(copying, points, 0, isometry=1.0), expected, rtol=1e-3, atol=1e-4)
    assert float(loss_of(copying, points, 0, isometry=1.0, mine=slice(3))[2]) < 1e-10


def test_drawing_customers_to_centres_parts_them(network):
    random = np.random.default_rng(1)
    truth = random.integers(3, size=300)
    middles = np.eye(3, 6, dtype=np.float32)
    points = torch.from_numpy(2.5 * middles[truth] + random.normal(size=(300, 6)).astype(np.float32))
    model = network(latent=6)
    with torch.no_grad():
        model.encoder[0].weight.copy_(torch.eye(6))
        model.encoder[0].bias.zero_()
    clustered = losses.Clustered(model, clusters=3, seed=1)
    clustered.place_centres(points)
    [examples] = Examples.of([points], 0)
    loss = clustered.loss(lambda customers, around, mine: torch.zeros(len(customers)))
    optimizer = torch.optim.SGD(clustered.parameters(), lr=5.0)

    def clearness() -> float:
        return float(clustered.belongs(model.encoder(points)).max(dim=1).values.mean())

    before = clearness()
    for _ in range(100):
        clustered.weigh_centres(examples)
        optimizer.zero_grad()
        loss(points, None, slice(None)).mean().backward()
        optimizer.step()
    assert clearness() > before + 0.1
    assert adjusted_rand_score(truth, clustered.belongs(model.encoder(points)).argmax(dim=1)) > 0.6
