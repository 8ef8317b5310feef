"""Groups of inputs for models of outcomes: each is reduced to a few numbers, fitted once and kept with the models.

The reduction is a principal component analysis. A customer without a vector of a group has the numbers of the mean customer, and
a column says so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.input_groups import (
    SEQUENCE,
    SEQUENCES,
    GroupVectors,
    align_vectors,
    find_models,
    read_interests,
    read_sequences,
)
from jobs.storage import delta

MAX_COMPONENTS = 16  # of a group: of more, a model of a few hundred customers learns chance
MIN_CUSTOMERS = 40  # with a vector: of fewer, components are chance
_SMALLEST_SHARE = 1e-6  # of the variance; a component with less is rounding


@dataclass(frozen=True)
class Reduction:
    """How the vectors of a group become k numbers; vectors of another model cannot be reduced."""

    group: str  # of input_groups.GROUPS
    model: str
    mean: np.ndarray  # d float32
    components: np.ndarray  # d x k float32

    @classmethod
    def fit(cls, vectors: GroupVectors) -> Self | None:
        """Return the principal components of the customers who have a vector; None where they are too few or all alike."""
        rows = vectors.matrix[_has_vector(vectors)].astype(np.float64)
        if len(rows) < MIN_CUSTOMERS:
            return None
        mean = rows.mean(axis=0)
        variances, components = np.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
        largest = np.argsort(-variances, kind="stable")[:MAX_COMPONENTS]
        largest = largest[variances[largest] > _SMALLEST_SHARE * variances.sum()]
        if not len(largest):
            return None
        chosen = components[:, largest]
        signs = np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(len(largest))])  # else the library decides
        # Stored by rows, as in from_record(): sums depend on the order in memory.
        return cls(vectors.group, vectors.model, mean.astype(np.float32), np.ascontiguousarray(chosen * signs, np.float32))

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [*(f"{self.group} component {n + 1}" for n in range(self.components.shape[1])), f"has {self.group}"]

    def apply(self, vectors: GroupVectors | None, n: int) -> np.ndarray:
        """Return the columns of n customers (n x (k + 1) float32), the last 1 for those who have a vector of this model."""
        columns = np.zeros((n, len(self.names)), np.float32)
        if vectors is not None and vectors.model == self.model:
            rows = _has_vector(vectors)
            # Unlike with BLAS, the result of a row does not depend on the rows beside it.
            columns[rows, :-1] = np.einsum("nd,dk->nk", vectors.matrix[rows] - self.mean, self.components)
            columns[rows, -1] = 1
        return columns

    def to_record(self) -> dict:
        """Return the reduction as JSON knows it."""
        arrays = {"mean": self.mean.tolist(), "components": self.components.tolist()}
        return {"group": self.group, "model": self.model, **arrays}

    @classmethod
    def from_record(cls, record: dict) -> Self:
        """Return the reduction of to_record()."""
        mean, components = (np.array(record[name], np.float32) for name in ("mean", "components"))
        return cls(record["group"], record["model"], mean, components)


def read_groups(lake: str, day: date, ids: pa.Array) -> dict[str, GroupVectors]:
    """Return the vectors of all groups as of a day in the order of `ids`, by group; a group that nobody has is left out."""
    sequences = read_sequences(lake, day, ids)
    return read_interests(lake, day, ids) | ({SEQUENCE: sequences} if sequences else {})


def align_groups(tables: Mapping[str, pa.Table], reductions: Iterable[Reduction], ids: pa.Array) -> dict[str, GroupVectors]:
    """Return the vectors of rows of rows_of_group(), by group, in the order of `ids`; they are of the models of `reductions`."""
    return {r.group: GroupVectors(r.group, r.model, align_vectors(tables[r.group], ids, len(r.mean))) for r in reductions}


def find_stale_groups(lake: str, day: date, reductions: Iterable[Reduction]) -> dict[str, str | None]:
    """Return the groups whose vectors of the day are of another model than the reduction's, or None where there are none."""
    models = find_models(lake, day)
    versions = delta.count_by(lake, SEQUENCES.name, ["model_version"], ds.field("day") == day)
    models[SEQUENCE] = {version for (version,) in versions}
    return {r.group: min(models.get(r.group) or [None]) for r in reductions if models.get(r.group) != {r.model}}


def _has_vector(vectors: GroupVectors) -> np.ndarray:
    return ~np.isnan(vectors.matrix).any(axis=1)
