"""A sample of the active customers of a day: as an encoder reads them, or as vectors."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh64_intdigest

from jobs.encoder import append_vectors, features_table, to_inputs
from jobs.errors import UserError
from jobs.input_groups import SEQUENCE, GroupVectors, read_interests
from jobs.representations import RepresentationEncoder, list_groups, select_vectors
from jobs.segments._inputs import ActiveCustomers, customers_of
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows


@dataclass(frozen=True)
class Sample:
    """n customers of a day as encoders read them."""

    lake: str
    day: date
    ids: pa.Array  # n
    features: np.ndarray  # n x d
    attributes: np.ndarray  # n x a
    vectors: dict[str, GroupVectors]  # by group of inputs, but for sequences, which each model encodes itself

    def read_inputs(self, encoder: RepresentationEncoder) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs of an encoder. Raises UserError where it was trained on vectors of another model."""
        vectors = dict(self.vectors)
        if SEQUENCE in encoder.groups:
            vectors[SEQUENCE] = encoder.encode_events(self.lake, self.day, self.ids)
        groups = select_vectors(vectors, encoder.groups, len(self.ids), self.day)
        return self.features, append_vectors(self.attributes, groups)

    def find_representable(self, names: Sequence[str], meta: dict) -> tuple[list[str], str | None]:
        """Return which of these representations of a model the customers can be given, and why not all of them."""
        representable, reason = [], None
        for name in names:
            try:
                facts = {group: meta["groups"][group] for group in list_groups(name, meta)}
                select_vectors(self.vectors, facts, len(self.ids), self.day)
                representable.append(name)
            except UserError as error:
                reason = str(error)
        return representable, reason


def draw_sample(lake: Lake, day: date, meta: dict, n: int) -> Sample:
    """Return at most n active customers of features.customers on `day`; `meta` is the meta.json of the model that encodes them.

    Raises UserError where the table lacks features or attributes that the model was trained on.
    """
    properties = lake.properties("features.customers")
    features, attributes = (json.loads(properties.get(key, "[]")) for key in ("shoal.vector", "shoal.attributes"))
    if features != meta["features"] or not set(meta["attributes"]) <= set(attributes):
        raise UserError("segment: features.customers and the model have other features; train again: shoal train --retrain")
    customers = read_rows(lake.root, customers_of(day))
    ids = draw_customers(customers["customer_id"].filter(customers["is_active"]), n)
    table = features_table(meta["attributes"])
    rows = read_rows(lake.root, Rows(table, "customer_id", ("customer_id", "vector", *meta["attributes"]), [day], ids))
    rows = rows.take(pc.index_in(ids, rows["customer_id"].combine_chunks()))
    return Sample(lake.root, day, ids, *to_inputs(rows, list(meta["attributes"])), read_interests(lake.root, day, ids))


def draw_vectors(customers: ActiveCustomers, n: int) -> np.ndarray:
    """Return the vectors (n x latent) of at most n active customers who have one."""
    return customers.vectors[order_randomly(customers.ids)[:n]]


def draw_customers(ids: pa.ChunkedArray, n: int) -> pa.Array:
    """Return at most n customers in the order of a hash of their ids: random customers, but the same ones each time."""
    ids = ids.combine_chunks()
    return ids.take(pa.array(order_randomly(ids)[:n]))


def order_randomly(ids: pa.Array) -> np.ndarray:
    """Return the places of n ids in the order of their hash, xxHash64 with seed 42 as a signed number.

    >>> order_randomly(pa.array(["b", "c", "a", "ABC"])).tolist()
    [2, 0, 1, 3]
    """
    hashes = np.fromiter((xxh64_intdigest(id_, 42) for id_ in ids.cast(pa.binary()).to_pylist()), np.uint64, len(ids)).view(
        np.int64
    )
    by_id = pc.sort_indices(ids).to_numpy()  # of equal hashes
    return by_id[np.argsort(hashes[by_id], kind="stable")]
