"""What the network learns from: preprocessed customers, and for each the customers most like him."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

BLOCK = 8192  # customers among whom neighbours are looked for, and who are read together
SMALLEST_SHARE = 20  # of few customers, many are no neighbours
GROUP = 16  # blocks whose customers are shuffled together
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Examples:
    """n customers in blocks of about BLOCK, in an order that has nothing to do with them, and k neighbours of each."""

    points: Tensor  # n x d float32, in memory or in a file
    neighbours: Tensor  # n x k int32, counted from the first row of the block
    block: int  # rows of each block but the last

    @classmethod
    def of(cls, points: Tensor, k: int, device: str = "cpu") -> "Examples":
        """Customers (n x d) with the k of their block that are nearest by Euclidean distance, at most one of SMALLEST_SHARE."""
        block = _block_size(len(points))
        k = min(k, len(points) // SMALLEST_SHARE)
        found = [nearest(points[start : start + block].to(device), k).cpu() for start in range(0, len(points), block)]
        return cls(points, torch.cat(found), block)

    def __len__(self) -> int:
        return len(self.points)

    def parts(self, device: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Once around in order: customers (m x d) and the rows of each one's neighbours among them (m x k)."""
        for start in range(0, len(self), self.block):
            rows = slice(start, start + self.block)
            yield self.points[rows].to(device), self.neighbours[rows].long().to(device)

    def shuffled(self, random: torch.Generator, device: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Once around, the blocks in random order, GROUP of them joined: as of parts."""
        starts = torch.arange(0, len(self), self.block)[torch.randperm(-(-len(self) // self.block), generator=random)]
        for group in starts.split(GROUP):
            rows = [slice(start, min(start + self.block, len(self))) for start in group.tolist()]
            ends = np.cumsum([0, *(one.stop - one.start for one in rows)]).tolist()
            neighbours = [self.neighbours[one].long() + end for one, end in zip(rows, ends, strict=False)]
            yield torch.cat([self.points[one] for one in rows]).to(device), torch.cat(neighbours).to(device)


def neighbourhoods(points: Tensor, rows: Tensor, neighbours: Tensor) -> Tensor:
    """The mean (b x d) of each of the customers `rows` (b) and his neighbours (their rows, m x k) among `points` (m x d)."""
    return embedding_bag(torch.cat([rows[:, None], neighbours[rows]], dim=1), points, mode="mean")


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
