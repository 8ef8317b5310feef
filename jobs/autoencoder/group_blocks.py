"""A group of inputs as a block of the wide network's columns: its principal components, and how much the block weighs."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jobs.autoencoder.array_storage import Allocate
from jobs.autoencoder.model import principal_axes
from jobs.autoencoder.preprocessing import CHUNK_ROWS, FIT_CUSTOMERS
from jobs.config.settings import Train
from jobs.input_groups import SEQUENCE, GroupVectors

MIN_CUSTOMERS = 50  # training customers with a vector: from fewer no axes are learnt
SHARE_OF_VARIANCE = 0.9  # fewer components are enough where they have this share of a group's variance


@dataclass(frozen=True)
class GroupBlock:
    """How vectors (n, d) of a group become a block (n, n_components)."""

    group: str
    model: str  # that the vectors are of
    mean: Tensor  # (d,) of the training customers who have a vector
    axes: Tensor  # (d, n_components) principal axes, scaled
    facts: dict  # for meta.json

    def reduce(self, vectors: Tensor) -> Tensor:
        """Return the block (n, n_components) of vectors (n, d); zeros where a vector has a number that is not finite."""
        is_there = vectors.isfinite().all(dim=1, keepdim=True)
        return torch.where(is_there, (vectors - self.mean) @ self.axes, 0)


def fit_block(vectors: GroupVectors, rows: np.ndarray, feature_variance: float, settings: Train) -> GroupBlock | None:
    """Return the block of a group, fitted on training customers by row number; None where too few have a vector, or all the same.

    Its components are those of most variance, at most settings.group_components. They keep their proportions, and their
    variance together is settings.group_weight times `feature_variance`, that of all inputs made of features together.
    """
    points = torch.from_numpy(vectors.matrix[rows[:FIT_CUSTOMERS]])
    points = points[points.isfinite().all(dim=1)]
    if len(points) < MIN_CUSTOMERS:
        return None
    mean, axes, variances = principal_axes(points)
    if not variances[0] > 1e-12:
        return None
    shares = variances.cumsum(0) / variances.sum()
    n = min(int((shares < SHARE_OF_VARIANCE).sum()) + 1, settings.group_components, len(variances))
    scale = (settings.group_weight * feature_variance / float(variances[:n].sum())) ** 0.5
    facts = {
        "model": vectors.model,
        "dimensions": len(mean),
        "components": n,
        "variance_share": round(float(shares[n - 1]), 4),
        "customers": len(points),
    }
    if vectors.group == SEQUENCE:
        facts["mean"] = mean.tolist()  # the sequence embedding of customers without events
    return GroupBlock(vectors.group, vectors.model, mean, axes[:, :n] * scale, facts)


def append_blocks(
    inputs: Tensor, blocks: list[GroupBlock], groups: dict[str, GroupVectors], rows: np.ndarray, allocate: Allocate
) -> Tensor:
    """Return inputs (n_rows, n_inputs) of customers by row number with the block of each group after them."""
    wide = allocate(len(inputs), inputs.shape[1] + sum(block.axes.shape[1] for block in blocks))
    for start in range(0, len(inputs), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        reduced = (block.reduce(torch.from_numpy(groups[block.group].matrix[rows[chunk]])) for block in blocks)
        wide[chunk] = torch.cat([inputs[chunk], *reduced], dim=1)
    return wide


def list_slices(n_inputs: int, blocks: list[GroupBlock]) -> dict[str, slice]:
    """Return the columns of each block by group, after `n_inputs` columns of features."""
    slices, start = {}, n_inputs
    for block in blocks:
        slices[block.group] = slice(start, start + block.axes.shape[1])
        start += block.axes.shape[1]
    return slices
