"""Groups of inputs beside the features: what the texts of customers are about, vectors of the shop's own, events in order.

A group gives a customer one vector as of a day, or none. All vectors of a group on a day are of one model.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import UserError
from jobs.storage.delta import count_by, is_written, table_path
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table
from jobs.storage.vectors import to_matrix

TEXT, OWN_VECTORS, SEQUENCE = GROUPS = ("text", "own_vectors", "sequence")
ALL_GROUPS = "learned_all"  # the representation by the features and every group

INTERESTS = Table(
    "features.interests",
    "What a customer searches, views and buys, as vectors.",
    "customer_id STRING, day DATE, input_group STRING, model STRING, vector ARRAY<FLOAT>",
    partition="day",
)
SEQUENCES = Table(
    "encoded.sequences",
    "The events of a customer in order, as a vector.",
    "customer_id STRING, day DATE, model_version STRING, vector ARRAY<FLOAT>",
    partition="day",
)


@dataclass(frozen=True)
class GroupVectors:
    """The vectors of one group for n customers of a day."""

    group: str  # of GROUPS
    model: str  # which text model or version of the autoencoder they are of
    matrix: np.ndarray  # n x d float32; a row of NaN: the customer has none


def read_interests(lake: str, day: date, ids: pa.Array) -> dict[str, GroupVectors]:
    """Return the vectors of the groups in features.interests as of `day`, in the order of `ids`, by group.

    A group of which no customer of the day has a vector is left out. Raises UserError where a group mixes models.
    """
    if not is_written(table_path(lake, INTERESTS.name)):
        return {}
    rows = read_rows(lake, Rows(INTERESTS, "customer_id", days=[day], only=ids))
    groups = {}
    for group in pc.unique(rows["input_group"]).to_pylist():
        of_group = rows.filter((pc.field("input_group") == group) & pc.field("vector").is_valid())
        if of_group.num_rows:
            groups[group] = _to_group(group, of_group, "model", ids, day)
    return dict(sorted(groups.items()))


def read_sequences(lake: str, day: date, ids: pa.Array) -> GroupVectors | None:
    """Return the vectors of encoded.sequences as of `day` in the order of `ids`; None where no customer has one."""
    if not is_written(table_path(lake, SEQUENCES.name)):
        return None
    rows = read_rows(lake, Rows(SEQUENCES, "customer_id", days=[day], only=ids))
    rows = rows.filter(pc.is_valid(rows["vector"]))
    return _to_group(SEQUENCE, rows, "model_version", ids, day) if rows.num_rows else None


def list_learned(groups: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return which groups each learned embedding of a model with these groups is made of, beside the features.

    >>> list_learned(["sequence", "text"])
    {'learned_text': ('text',), 'learned_sequence': ('sequence',), 'learned_all': ('text', 'sequence')}
    >>> list_learned(["text"])
    {'learned_text': ('text',)}
    """
    ordered = tuple(group for group in GROUPS if group in groups)
    learned = {f"learned_{group}": (group,) for group in ordered}
    return learned | ({ALL_GROUPS: ordered} if len(ordered) > 1 else {})


def rows_of_group(group: str, day: date) -> Rows:
    """Return which rows hold the vectors of a group on `day`: (customer_id, model or model_version, vector)."""
    if group == SEQUENCE:
        return Rows(SEQUENCES, "customer_id", ("customer_id", "model_version", "vector"), [day])
    is_group = pc.field("input_group") == group
    return Rows(INTERESTS, "customer_id", ("customer_id", "model", "vector"), [day], where=is_group)


def align_vectors(rows: pa.Table, ids: pa.Array, n_dimensions: int) -> np.ndarray:
    """Return the vectors (n x d) of rows of rows_of_group() in the order of `ids`; a row of NaN is none."""
    matrix = np.full((len(ids), n_dimensions), np.nan, np.float32)
    rows = rows.filter(pc.field("vector").is_valid())
    if rows.num_rows:
        places = pc.index_in(rows["customer_id"].combine_chunks(), ids)
        is_there = places.is_valid().to_numpy(zero_copy_only=False)
        matrix[places.drop_null().to_numpy()] = to_matrix(rows["vector"])[is_there]
    return matrix


def find_models(lake: str, day: date) -> dict[str, set[str]]:
    """Return of which models the vectors of a day are, by group; a group without any is left out."""
    names: dict[str, set[str]] = {}
    of_day = pc.field("day") == pa.scalar(day)
    for group, model in count_by(lake, INTERESTS.name, ["input_group", "model"], of_day):
        names.setdefault(group, set()).add(model)
    versions = {version for (version,) in count_by(lake, SEQUENCES.name, ["model_version"], of_day)}
    return names | ({SEQUENCE: versions} if versions else {})


def _to_group(group: str, rows: pa.Table, model_column: str, ids: pa.Array, day: date) -> GroupVectors:
    names = sorted(pc.unique(rows[model_column]).to_pylist())
    if len(names) > 1:
        raise UserError(
            f"features: the {group} vectors of {day} are of several models ({', '.join(names)}); "
            f"run again: shoal features --day {day}"
        )
    n_dimensions = pc.list_value_length(rows["vector"])[0].as_py()
    return GroupVectors(group, names[0], align_vectors(rows, ids, n_dimensions))
