import torch

from jobs.autoencoder import examples
from jobs.autoencoder.examples import Examples


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
