"""The examples that the network learns from: preprocessed customers, and the mean of each customer's neighbourhood.

In wide data (`train.wide_inputs`) a distance is mostly the sum of what is individual in many inputs, and ten neighbours average
out too little of it. There the neighbour mean is that of a random walk of WIDE_STEPS steps to neighbours, as in manifold
denoising (Hein & Maier, NIPS 2006). All means get the same distance from their centre, because with many inputs the direction
says what kind of customer it is, and the length how strongly. Neighbours are searched among more customers than elsewhere, on
the first principal components.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from jobs.autoencoder.array_storage import Allocate
from jobs.autoencoder.model import average_neighbours, principal_components

BLOCK_ROWS = 8192  # customers among whom neighbours are searched, and who are read together
MIN_CUSTOMERS_PER_NEIGHBOUR = 20  # a small shop has fewer neighbours: at most a twentieth of its customers
BLOCKS_PER_SHUFFLE = 16  # blocks whose customers are shuffled together
WIDE_BLOCK_ROWS = 65_536  # customers among whom neighbours are searched in wide data
WIDE_STEPS = 32  # of the random walk: with 8 and 16, digits fell apart into more clusters
SEARCH_DIMENSIONS = 50  # principal components on which neighbours are searched in wide data
_DISTANCE_ROWS = 1024  # rows of the distance matrix computed at a time

Average = Callable[[Tensor, Tensor], Tensor]


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
        is_wide: bool = False,
        device: str = "cpu",
        allocate: Allocate = torch.empty,
        average: Average = average_neighbours,
    ) -> list["Examples"]:
        """Return examples for each imputation (n_customers, n_inputs), with neighbour means in arrays of `allocate`.

        The neighbours are the k nearest customers by Euclidean distance in the first imputation, for all of them. `average`
        gives the mean of a neighbourhood.
        """
        first = imputations[0]
        block_rows, k = _block_rows(len(first), BLOCK_ROWS), _count_neighbours(len(first), k)
        if k == 0:
            return [cls(customers, customers, block_rows) for customers in imputations]
        examples = [cls(customers, allocate(*customers.shape), block_rows) for customers in imputations]
        search_rows, n_steps = (_block_rows(len(first), WIDE_BLOCK_ROWS), WIDE_STEPS) if is_wide else (block_rows, 1)
        for start in range(0, len(first), search_rows):
            block = slice(start, start + search_rows)
            points = first[block].to(device)
            searched = _project(points, *principal_components(points, SEARCH_DIMENSIONS)) if is_wide else points
            neighbours = find_neighbours(searched, k)
            own_rows = torch.arange(len(neighbours), device=neighbours.device, dtype=neighbours.dtype)[:, None]
            neighbourhood = torch.cat([own_rows, neighbours], dim=1)
            for example in examples:
                means = example.customers[block].to(device)
                for _ in range(n_steps):
                    means = average(means, neighbourhood)
                example.neighbour_means[block] = (_equalise_lengths(means) if is_wide else means).cpu()
        return examples

    def attach_held_out(self, customers: Tensor, k: int, device: str = "cpu") -> "Examples":
        """Return other customers (n_rows, n_inputs) with the average of the means of the k nearest of these customers.

        A random walk among few held-out customers would lead further than among many. They are searched among the first
        WIDE_BLOCK_ROWS customers.
        """
        k = _count_neighbours(len(self), k)
        if k == 0:
            return Examples(customers, customers, _block_rows(len(customers), BLOCK_ROWS))
        points, means = self.customers[:WIDE_BLOCK_ROWS].to(device), self.neighbour_means[:WIDE_BLOCK_ROWS].to(device)
        mean, axes = principal_components(points, SEARCH_DIMENSIONS)
        projected = _project(points, mean, axes)
        squares = projected.square().sum(dim=1)
        held_out_means = []
        for chunk in customers.split(_DISTANCE_ROWS):
            distances = torch.addmm(squares, _project(chunk.to(device), mean, axes), projected.T, alpha=-2)
            held_out_means.append(embedding_bag(distances.topk(k, largest=False).indices, means, mode="mean").cpu())
        return Examples(customers, torch.cat(held_out_means), _block_rows(len(customers), BLOCK_ROWS))

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


def _count_neighbours(n_customers: int, k: int) -> int:
    return min(k, n_customers // MIN_CUSTOMERS_PER_NEIGHBOUR)


def _project(points: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    return (points - mean) @ axes


def _equalise_lengths(points: Tensor) -> Tensor:
    """Return points (n, d) in the same directions from their mean, all at a mean square of 1 per dimension."""
    mean = points.mean(dim=0)
    offsets = points - mean
    lengths = torch.linalg.vector_norm(offsets, dim=1, keepdim=True).clamp_min(1e-6)
    return mean + offsets * (points.shape[1] ** 0.5 / lengths)


def _block_rows(n: int, rows: int) -> int:
    """Return the rows of a block of about `rows`, such that the blocks are of about the same size.

    >>> _block_rows(9298, 8192), _block_rows(70_000, 8192), _block_rows(3, 8192)
    (9298, 7778, 3)
    """
    return -(-n // max(1, round(n / rows)))
