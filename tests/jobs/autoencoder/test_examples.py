import torch

from jobs.autoencoder import examples
from jobs.autoencoder.examples import Examples


def in_blocks(draws: list[torch.Tensor], monkeypatch) -> list[Examples]:
    monkeypatch.setattr(examples, "BLOCK", 30)
    monkeypatch.setattr(examples, "GROUP", 2)
    return Examples.of(draws, k=4)


def test_around_a_customer_are_he_and_the_nearest_of_the_block(points, monkeypatch):
    [found] = in_blocks([points], monkeypatch)
    assert found.block == 29  # 200 customers are seven blocks
    block = points[29:58]
    nearest = torch.cdist(block, block).topk(5, largest=False).indices
    torch.testing.assert_close(found.around[29:58], block[nearest].mean(dim=1))


def test_who_is_near_is_told_by_the_first_draw(points, monkeypatch):
    first, second = in_blocks([points, 2 * points.flip(1)], monkeypatch)
    torch.testing.assert_close(second.around, 2 * first.around.flip(1))


def test_every_round_shows_each_customer_once_with_what_is_around_him(points, monkeypatch):
    [found] = in_blocks([points], monkeypatch)
    rounds = []
    for seed in (1, 2):
        shown = list(found.batches(7, torch.Generator().manual_seed(seed), "cpu"))
        assert max(len(part) for part, _ in shown) == 7
        seen, around = (torch.cat(parts) for parts in zip(*shown, strict=True))
        order, true_order = (of[:, 0].argsort() for of in (seen, points))
        assert torch.equal(seen[order], points[true_order])
        assert torch.equal(around[order], found.around[true_order])
        rounds.append(seen)
    assert not torch.equal(*rounds)


def test_of_few_customers_few_are_neighbours(points):
    [found] = Examples.of([points[:45]], k=10)
    nearest = torch.cdist(points[:45], points[:45]).topk(3, largest=False).indices
    torch.testing.assert_close(found.around, points[nearest].mean(dim=1))
    assert torch.equal(Examples.of([points[:7]], k=10)[0].around, points[:7])
