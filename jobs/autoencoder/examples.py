"""What the network learns from: preprocessed customers, and what the customers most like each have in common."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

BLOCK = 8192  # customers among whom neighbours are looked for, and who are read together
SMALLEST_SHARE = 20  # of few customers, many are no neighbours
GROUP = 16  # blocks whose customers are shuffled together
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Examples:
    """n customers in blocks of about BLOCK, in an order that has nothing to do with them."""

    points: Tensor  # n x d float32, in memory or in a file
    around: Tensor  # n x d, likewise: the mean of each and the k of his block who are most like him
    block: int  # rows of each block but the last

    @classmethod
    def of(
        cls, draws: list[Tensor], k: int, device: str = "cpu", new: Callable[[int, int], Tensor] = torch.empty
    ) -> list["Examples"]:
        """Customers, n x d in each draw, with the k nearest by Euclidean distance in the first draw, at most one of
        SMALLEST_SHARE; `new` makes the arrays."""
        first = draws[0]
        block, k = _block_size(len(first)), min(k, len(first) // SMALLEST_SHARE)
        if k == 0:
            return [cls(draw, draw, block) for draw in draws]
        found = [cls(draw, new(*draw.shape), block) for draw in draws]
        for start in range(0, len(first), block):
            rows = slice(start, start + block)
            near = nearest(first[rows].to(device), k)
            near = torch.cat([torch.arange(len(near), device=near.device, dtype=near.dtype)[:, None], near], dim=1)
            for one in found:
                one.around[rows] = embedding_bag(near, one.points[rows].to(device), mode="mean").cpu()
        return found

    def __len__(self) -> int:
        return len(self.points)

    def parts(self, device: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Once around in order: customers (m x d) and what is around each."""
        for start in range(0, len(self), self.block):
            rows = slice(start, start + self.block)
            yield self.points[rows].to(device), self.around[rows].to(device)

    def batches(self, size: int, random: torch.Generator, device: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Once around, at most `size` at a time, the blocks in random order and the customers of GROUP of them shuffled: as of
        parts."""
        starts = torch.arange(0, len(self), self.block)[torch.randperm(-(-len(self) // self.block), generator=random)]
        for group in starts.split(GROUP):
            rows = torch.cat([torch.arange(start, min(start + self.block, len(self))) for start in group.tolist()])
            points, around = self.points, self.around
            if device != "cpu":
                points, around, rows = points[rows].to(device), around[rows].to(device), torch.arange(len(rows))
            for batch in rows[torch.randperm(len(rows), generator=random)].to(device).split(size):
                yield points.index_select(0, batch), around.index_select(0, batch)


def nearest(points: Tensor, k: int) -> Tensor:
    """The rows (n x k int32) of the k nearest other points of each of n x d, fewer where there are not so many.

    >>> nearest(torch.tensor([[0.0], [1.0], [3.0]]), k=1).tolist()
    [[1], [0], [1]]
    """
    k = min(k, len(points) - 1)
    found = torch.empty(len(points), k, dtype=torch.int32, device=points.device)
    if k == 0:
        return found
    squares = points.square().sum(dim=1)
    for start in range(0, len(points), _ROWS_AT_ONCE):
        part = points[start : start + _ROWS_AT_ONCE]
        distances = torch.addmm(squares, part, points.T, alpha=-2)  # less the square of the customer's own length
        own = torch.arange(len(part), device=points.device)
        distances[own, own + start] = torch.inf
        found[start : start + len(part)] = distances.topk(k, largest=False).indices
    return found


def _block_size(n: int) -> int:
    """Blocks of about the same size, so that customers of the last have as many to choose from.

    >>> _block_size(9298), _block_size(70_000), _block_size(3)
    (9298, 7778, 3)
    """
    return -(-n // max(1, round(n / BLOCK)))
