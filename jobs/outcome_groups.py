"""Groups of inputs for models of outcomes: each is reduced to a few numbers, fitted once and kept with the models.

The reduction is a principal component analysis. A customer without a vector of a group has the numbers of the mean customer, and
a column says so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from jobs import event_sequences
from jobs.input_groups import (
    SEQUENCE,
    SEQUENCES,
    GroupVectors,
    align_vectors,
    find_models,
    read_interests,
    read_sequences,
    rows_of_group,
)
from jobs.storage import delta, models
from jobs.storage.rows import Rows

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


@dataclass(frozen=True)
class SequenceModel:
    """The sequence encoder of a version of the autoencoder, for days on which encoded.sequences has no vectors of it.

    These are earlier days, and those after a training of the autoencoder until the models of outcomes are fitted again.
    """

    version: str
    content: bytes  # of its ONNX file
    max_events: int
    owners: Mapping[str, str]  # whose account each account is that is part of another one

    @classmethod
    def load(cls, lake: str, root: str, version: str, day: date) -> Self | None:
        """Return the sequence encoder of a version for `day`; None where it has none. Raises UserError for a missing file."""
        facts = models.meta(root, version).get("sequence")
        if not facts:
            return None
        content, owners = models.read(root, version, models.SEQUENCE), event_sequences.read_owners(lake, day)
        return cls(version, content, facts["settings"]["max_events"], owners)

    def read_vectors(self, lake: str, day: date, ids: pa.Array) -> GroupVectors:
        """Return the vectors of customers by their events as of any day."""
        return self._encode(event_sequences.read_event_sequences(lake, day, ids, self.max_events))

    def list_events(self, lake: str, day: date) -> Rows:
        """Return which rows hold the events of customers as of the day; the key is the customer whose account it is."""
        days, is_known = event_sequences.days_until(lake, day), event_sequences.is_known(day)
        return Rows(event_sequences.TABLE, partial(event_sequences.find_owners, owners=self.owners), None, days, where=is_known)

    def encode_events(self, rows: pa.Table, ids: pa.Array) -> GroupVectors:
        """Return the vectors of customers by rows of list_events()."""
        return self._encode(event_sequences.to_sequences(rows, ids, self.max_events, self.owners))

    def _encode(self, sequences: event_sequences.Sequences) -> GroupVectors:
        return GroupVectors(SEQUENCE, self.version, event_sequences.encode_sequences(self.content, sequences))


def read_groups(lake: str, day: date, ids: pa.Array, sequences: SequenceModel | None) -> dict[str, GroupVectors]:
    """Return the vectors of all groups as of a day in the order of `ids`, by group; a group that nobody has is left out.

    Without `sequences` those of events are read from encoded.sequences.
    """
    of_events = sequences.read_vectors(lake, day, ids) if sequences else read_sequences(lake, day, ids)
    has_events = of_events is not None and _has_vector(of_events).any()
    return read_interests(lake, day, ids) | ({SEQUENCE: of_events} if has_events else {})


def list_group_rows(lake: str, day: date, reductions: Iterable[Reduction], sequences: SequenceModel | None) -> dict[str, Rows]:
    """Return by group which rows hold its vectors of a day, or its events where `sequences` encodes them."""
    rows = {reduction.group: rows_of_group(reduction.group, day) for reduction in reductions}
    return rows | ({SEQUENCE: sequences.list_events(lake, day)} if sequences and SEQUENCE in rows else {})


def select_groups(
    tables: Mapping[str, pa.Table], reductions: Iterable[Reduction], sequences: SequenceModel | None, ids: pa.Array
) -> dict[str, GroupVectors]:
    """Return by group the vectors of the customers `ids`, in their order, from rows of list_group_rows()."""
    groups = {}
    for reduction in reductions:
        rows = tables[reduction.group]
        if reduction.group == SEQUENCE and sequences:
            groups[SEQUENCE] = sequences.encode_events(rows, ids)
        else:
            vectors = align_vectors(rows, ids, len(reduction.mean))
            groups[reduction.group] = GroupVectors(reduction.group, reduction.model, vectors)
    return groups


def are_sequences_encoded(lake: str, day: date, version: str) -> bool:
    """Return whether encoded.sequences has the vectors of a day by the sequence encoder of a version."""
    return {*delta.count_by(lake, SEQUENCES.name, ["model_version"], ds.field("day") == day)} == {(version,)}


def find_stale_groups(lake: str, day: date, reductions: Iterable[Reduction]) -> dict[str, str | None]:
    """Return the groups whose vectors of the day are of another model than the reduction's, or None where there are none.

    Events in order are none of them, because their encoder is kept.
    """
    names = find_models(lake, day)
    read = (reduction for reduction in reductions if reduction.group != SEQUENCE)
    return {r.group: min(names.get(r.group) or [None]) for r in read if names.get(r.group) != {r.model}}


def _has_vector(vectors: GroupVectors) -> np.ndarray:
    return ~np.isnan(vectors.matrix).any(axis=1)
