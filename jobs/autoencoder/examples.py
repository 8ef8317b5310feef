"""The examples that the network learns from: preprocessed customers, and the mean of each customer's neighbourhood."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from jobs.autoencoder.array_storage import Allocate

BLOCK_ROWS = 8192  # customers among whom neighbours are searched, and who are read together
MIN_CUSTOMERS_PER_NEIGHBOUR = 20  # a small shop has fewer neighbours: at most a twentieth of its customers
BLOCKS_PER_SHUFFLE = 16  # blocks whose customers are shuffled together
_DISTANCE_ROWS = 1024  # rows of the distance matrix computed at a time

Average = Callable[[Tensor, Tensor], Tensor]


def average_neighbours(customers: Tensor, neighbourhood: Tensor) -> Tensor:
    """Return the mean inputs (n_rows, n_inputs) of each neighbourhood of customers (n_customers, n_inputs).

    `neighbourhood` (n_rows, 1 + k) holds row numbers, first that of the customer whose neighbourhood it is.
    """
    return embedding_bag(neighbourhood, customers, mode="mean")


@dataclass(frozen=True)
class Examples:
    """Customers in blocks of about BLOCK_ROWS, in an order that does not depend on their features."""

    customers: Tensor  # (n_customers, n_inputs) float32, in memory or in a file
    neighbour_means: Tensor  # (n_customers, n_inputs), likewise: the mean of each customer and their k nearest of the block
    block_rows: int  # rows of each block, the last may have fewer

    @classmethod
    def from_imputations(
        cls,
        imputations: list[Tensor],
        k: int,
        device: str = "cpu",
        allocate: Allocate = torch.empty,
        average: Average = average_neighbours,
    ) -> list["Examples"]:
        """Return examples for each imputation (n_customers, n_inputs), with neighbour means in arrays of `allocate`.

        The neighbours are the k nearest customers by Euclidean distance in the first imputation, for all of them. `average`
        gives the mean of a neighbourhood.
        """
        first = imputations[0]
        block_rows, k = _block_rows(len(first)), min(k, len(first) // MIN_CUSTOMERS_PER_NEIGHBOUR)
        if k == 0:
            return [cls(customers, customers, block_rows) for customers in imputations]
        examples = [cls(customers, allocate(*customers.shape), block_rows) for customers in imputations]
        for start in range(0, len(first), block_rows):
            block = slice(start, start + block_rows)
            neighbours = find_neighbours(first[block].to(device), k)
            own_rows = torch.arange(len(neighbours), device=neighbours.device, dtype=neighbours.dtype)[:, None]
            neighbourhood = torch.cat([own_rows, neighbours], dim=1)
            for example in examples:
                example.neighbour_means[block] = average(example.customers[block].to(device), neighbourhood).cpu()
        return examples

    def __len__(self) -> int:
        return len(self.customers)

    def iterate_blocks(self, device: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield customers and neighbour means (n_rows, n_inputs), block by block in order."""
        for start in range(0, len(self), self.block_rows):
            block = slice(start, start + self.block_rows)
            yield self.customers[block].to(device), self.neighbour_means[block].to(device)

    def iterate_batches(self, batch_size: int, random: torch.Generator, device: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield customers and neighbour means (n_rows, n_inputs), each customer once, at most `batch_size` at a time.

        The blocks come in random order, and the customers of BLOCKS_PER_SHUFFLE blocks are shuffled together.
        """
        starts = torch.arange(0, len(self), self.block_rows)
        starts = starts[torch.randperm(-(-len(self) // self.block_rows), generator=random)]
        for group in starts.split(BLOCKS_PER_SHUFFLE):
            rows = torch.cat([torch.arange(start, min(start + self.block_rows, len(self))) for start in group.tolist()])
            customers, means = self.customers, self.neighbour_means
            if device != "cpu":
                customers, means, rows = customers[rows].to(device), means[rows].to(device), torch.arange(len(rows))
            for batch in rows[torch.randperm(len(rows), generator=random)].to(device).split(batch_size):
                yield customers.index_select(0, batch), means.index_select(0, batch)


def find_neighbours(points: Tensor, k: int) -> Tensor:
    """Return the rows (n_points, k) int32 of the k nearest other points; k is less where there are not so many.

    >>> find_neighbours(torch.tensor([[0.0], [1.0], [3.0]]), k=1).tolist()
    [[1], [0], [1]]
    """
    k = min(k, len(points) - 1)
    neighbours = torch.empty(len(points), k, dtype=torch.int32, device=points.device)
    if k == 0:
        return neighbours
    squares = points.square().sum(dim=1)
    for start in range(0, len(points), _DISTANCE_ROWS):
        chunk = points[start : start + _DISTANCE_ROWS]
        # squared distances, less the squared length of the chunk's own point, which does not change the order of a row
        distances = torch.addmm(squares, chunk, points.T, alpha=-2)
        diagonal = torch.arange(len(chunk), device=points.device)
        distances[diagonal, diagonal + start] = torch.inf
        neighbours[start : start + len(chunk)] = distances.topk(k, largest=False).indices
    return neighbours


def _block_rows(n: int) -> int:
    """Return the rows of a block, such that the blocks are of about the same size.

    >>> _block_rows(9298), _block_rows(70_000), _block_rows(3)
    (9298, 7778, 3)
    """
    return -(-n // max(1, round(n / BLOCK_ROWS)))
