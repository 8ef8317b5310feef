"""Random slices of customers' histories, in pairs: what the sequence encoder learns from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jobs.event_sequences import pad_codes

BATCHES_PER_SHUFFLE = 32  # batches whose customers are sorted by length together


@dataclass(frozen=True)
class SequenceExamples:
    """Customers with at least two events. A batch has two slices of each of its customers, one after the other."""

    codes: np.ndarray  # (n_events, n_fields) int32, of all customers
    starts: np.ndarray  # (n_customers,) the first event of each
    lengths: np.ndarray  # (n_customers,) the number of events of each
    epoch_customers: int | None = None  # an epoch is a random sample of so many customers; None: all

    def __len__(self) -> int:
        """The number of slices of an epoch."""
        n = len(self.starts)
        return 2 * min(n, self.epoch_customers or n)

    def iterate_batches(self, batch_size: int, random: torch.Generator, device: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield codes (n_slices, length, n_fields) and lengths (n_slices,), about `batch_size` slices at a time.

        Customers of a batch have about the same number of events, so that there is little padding.
        """
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=random)))
        per_batch = max(2, batch_size // 2)
        customers = rng.permutation(len(self.starts))[: len(self) // 2]
        for first in range(0, len(customers), per_batch * BATCHES_PER_SHUFFLE):
            group = customers[first : first + per_batch * BATCHES_PER_SHUFFLE]
            group = group[np.argsort(self.lengths[group], kind="stable")]
            batches = np.array_split(group, max(1, round(len(group) / per_batch)))
            for number in rng.permutation(len(batches)):
                yield self._cut_slices(np.repeat(batches[number], 2), rng, device)

    def _cut_slices(self, customers: np.ndarray, rng: np.random.Generator, device: str) -> tuple[Tensor, Tensor]:
        """Return a random slice of each customer: from a third of their events to all of them, and at least 2."""
        lengths = self.lengths[customers]
        least = np.maximum(2, lengths // 3)
        cut = rng.integers(least, lengths + 1)
        starts = self.starts[customers] + rng.integers(0, lengths - cut + 1)
        return torch.from_numpy(pad_codes(self.codes, starts, cut)).to(device), torch.from_numpy(cut).to(device)
