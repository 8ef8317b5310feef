import torch

from jobs.autoencoder import examples
from jobs.autoencoder.examples import Examples, neighbourhoods


def in_blocks(points: torch.Tensor, monkeypatch) -> Examples:
    monkeypatch.setattr(examples, "BLOCK", 30)
    monkeypatch.setattr(examples, "GROUP", 2)
    return Examples.of(points, k=4)


def test_neighbours_are_the_nearest_of_the_block(points, monkeypatch):
    found = in_blocks(points, monkeypatch)
    assert found.block == 29  # 200 customers are seven blocks
    distances = torch.cdist(points[29:58], points[29:58]).fill_diagonal_(torch.inf)
    assert torch.equal(found.neighbours[29:58].long().sort().values, distances.topk(4, largest=False).indices.sort().values)


def test_every_round_shows_each_customer_once_with_his_own_neighbours(points, monkeypatch):
    found = in_blocks(points, monkeypatch)
    expected = torch.cat([neighbourhoods(part, torch.arange(len(part)), near) for part, near in found.parts("cpu")])
    rounds = []
    for seed in (1, 2):
        shown = list(found.shuffled(torch.Generator().manual_seed(seed), "cpu"))
        seen = torch.cat([part for part, _ in shown])
        around = torch.cat([neighbourhoods(part, torch.arange(len(part)), near) for part, near in shown])
        order, true_order = (of[:, 0].argsort() for of in (seen, points))
        assert torch.equal(seen[order], points[true_order])
        torch.testing.assert_close(around[order], expected[true_order])
        rounds.append(seen)
    assert not torch.equal(*rounds)


def test_of_few_customers_few_are_neighbours(points):
    assert Examples.of(points[:45], k=10).neighbours.shape == (45, 2)
    assert Examples.of(points[:7], k=10).neighbours.shape == (7, 0)
