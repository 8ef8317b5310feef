import pytest
import torch

from jobs.autoencoder import examples
from jobs.autoencoder.examples import Examples, _equalise_lengths


def make_small_blocks(imputations: list[torch.Tensor], monkeypatch) -> list[Examples]:
    monkeypatch.setattr(examples, "BLOCK_ROWS", 30)
    monkeypatch.setattr(examples, "BLOCKS_PER_SHUFFLE", 2)
    return Examples.from_imputations(imputations, k=4)


def test_the_neighbour_mean_is_that_of_the_customer_and_the_nearest_of_the_block(points, monkeypatch):
    [example] = make_small_blocks([points], monkeypatch)
    assert example.block_rows == 29  # 200 customers are seven blocks
    block = points[29:58]
    nearest = torch.cdist(block, block).topk(5, largest=False).indices
    torch.testing.assert_close(example.neighbour_means[29:58], block[nearest].mean(dim=1))


def test_the_neighbours_are_those_of_the_first_imputation(points, monkeypatch):
    first, second = make_small_blocks([points, 2 * points.flip(1)], monkeypatch)
    torch.testing.assert_close(second.neighbour_means, 2 * first.neighbour_means.flip(1))


def test_every_epoch_gives_each_customer_once_with_their_neighbour_mean(points, monkeypatch):
    [example] = make_small_blocks([points], monkeypatch)
    epochs = []
    for seed in (1, 2):
        batches = list(example.iterate_batches(7, torch.Generator().manual_seed(seed), "cpu"))
        assert max(len(customers) for customers, _ in batches) == 7
        customers, means = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
        order, expected_order = (tensor[:, 0].argsort() for tensor in (customers, points))
        assert torch.equal(customers[order], points[expected_order])
        assert torch.equal(means[order], example.neighbour_means[expected_order])
        epochs.append(customers)
    assert not torch.equal(*epochs)


def test_a_small_shop_has_few_neighbours(points):
    [example] = Examples.from_imputations([points[:45]], k=10)
    nearest = torch.cdist(points[:45], points[:45]).topk(3, largest=False).indices
    torch.testing.assert_close(example.neighbour_means, points[nearest].mean(dim=1))
    assert torch.equal(Examples.from_imputations([points[:7]], k=10)[0].neighbour_means, points[:7])


@pytest.fixture
def wide_points() -> torch.Tensor:
    """Points (600, 250): 300 around one centre, then 300 around another, with noise of their own in each dimension."""
    points = torch.randn(600, 250, generator=torch.Generator().manual_seed(5))
    points[300:, 0] += 12
    return points


def test_in_wide_data_a_walk_over_neighbours_brings_a_group_together(wide_points):
    def relative_scatter(points: torch.Tensor) -> float:
        groups = points.view(2, 300, 250)
        distance = (groups[0].mean(dim=0) - groups[1].mean(dim=0)).norm()
        return float((groups - groups.mean(dim=1, keepdim=True)).norm(dim=2).mean() / distance)

    [narrow], [wide] = (Examples.from_imputations([wide_points], k=10, is_wide=is_wide) for is_wide in (False, True))
    assert relative_scatter(wide.neighbour_means) < relative_scatter(narrow.neighbour_means) / 5


def test_equal_lengths_keep_centre_and_directions():
    points = torch.tensor([[3.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 5.0]])
    centre = torch.tensor([1.0, 2.0])
    offsets = _equalise_lengths(points) - centre
    torch.testing.assert_close(offsets.square().mean(dim=1), torch.ones(4))
    torch.testing.assert_close(torch.cosine_similarity(offsets, points - centre), torch.ones(4))


def test_held_out_customers_of_wide_data_get_the_means_of_the_nearest_customers(wide_points):
    [wide] = Examples.from_imputations([wide_points[:500]], k=10, is_wide=True)
    held_out = wide.attach_held_out(wide_points[500:], k=10)
    assert torch.equal(held_out.customers, wide_points[500:])
    copies = wide.attach_held_out(wide_points[:3], k=1)  # the nearest of a customer who is among them is themselves
    torch.testing.assert_close(copies.neighbour_means, wide.neighbour_means[:3])


def test_without_neighbours_the_mean_is_the_customer_in_wide_data_too(wide_points):
    [wide] = Examples.from_imputations([wide_points[:500]], k=0, is_wide=True)
    assert torch.equal(wide.neighbour_means, wide_points[:500])
    assert torch.equal(wide.attach_held_out(wide_points[500:], k=0).neighbour_means, wide_points[500:])
