"""The customers of a day as one matrix and their attributes, and their split."""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import DeltaError

from jobs.autoencoder.room import Room
from jobs.errors import UserError
from jobs.storage.delta import is_written, open_dataset, open_table

TABLE = "features/customers"
NAMES_PROPERTY = "shoal.vector"  # the table property that names the features in the vector's order
ATTRIBUTES_PROPERTY = "shoal.attributes"  # the one that names the columns of text
SHARES = {"train": 8, "validation": 1, "test": 1}  # tenths of the customers
BATCH = 65536  # customers read or hashed at a time


@dataclass(frozen=True)
class Customers:
    """The active customers of one day, in the order of the table's files."""

    day: date
    delta_version: int
    names: tuple[str, ...]  # features in the vector's order
    ids: pa.Array  # n strings
    hashes: np.ndarray  # n uint64, of the ids: they decide on share and order
    matrix: np.ndarray  # n x d float32, NaN = missing (null, NaN or infinite in the table)
    room: Room  # where their other arrays have their place
    attributes: dict[str, pa.Array]  # n strings each, null or empty = missing


def read(lake: str, day: date, min_customers: int, memory_share: float = 0.5) -> Customers:
    """The active customers of `day` in `<lake>/features/customers`, read batch by batch into their place (see Room).

    Raises UserError for a missing table, a day without rows, fewer than `min_customers` active customers, a vector of
    another length than the table names features, a customer with two rows, and a full disk.
    """
    where = f"features.customers, day {day}"
    if not is_written(f"{lake}/{TABLE}"):
        raise UserError(f"train: {lake}/{TABLE} does not exist; run first: shoal features --day {day}")
    try:
        table = open_table(lake, TABLE.replace("/", "."))
    except DeltaError as error:
        raise UserError(f"train: {lake}/{TABLE} cannot be read: {_one_line(error)}") from None
    properties = table.metadata().configuration
    names, attributes = (json.loads(properties.get(key, "[]")) for key in (NAMES_PROPERTY, ATTRIBUTES_PROPERTY))
    if not names:
        raise UserError(f"train: {lake}/{TABLE} lacks the property {NAMES_PROPERTY}; run again: shoal features --day {day}")
    try:
        found, of_day = open_dataset(table), pc.field("day") == pa.scalar(day)
        known, active = (found.count_rows(filter=rows) for rows in (of_day, of_day & pc.field("is_active")))
        if known == 0:
            raise UserError(f"train: {where}: no rows; run first: shoal features --day {day}")
        if active < min_customers:
            raise UserError(
                f"train: {where}: {active} active customers of {known}, train.min_customers is {min_customers}; "
                "take a later day or lower the setting"
            )
        room = Room(active, len(names), memory_share)
        matrix = room.new(active, len(names)).numpy()
        columns = ["customer_id", *attributes]
        batches = found.scanner(
            columns=["vector", *columns], filter=of_day & pc.field("is_active"), batch_size=BATCH, fragment_readahead=1
        ).to_batches()
        others, at = [], 0
        for batch in batches:
            _fill(matrix[at : at + len(batch)], batch["vector"], where)
            others.append(batch.select(columns))
            at += len(batch)
    except (OSError, pa.ArrowInvalid, DeltaError) as error:
        raise UserError(f"train: {where}: version {table.version()} cannot be read: {_one_line(error)}") from None
    rows = pa.Table.from_batches(others)
    ids = rows["customer_id"].combine_chunks()
    of_ids = hashes(ids)
    if (twice := _twice(of_ids)) is not None:
        raise UserError(f"train: {where}: customer {ids[twice]} has two rows; run features again")
    texts = {name: rows[name].combine_chunks().cast(pa.string()) for name in attributes}
    return Customers(day, table.version(), tuple(names), ids, of_ids, matrix, room, texts)


def hashes(ids: pa.Array) -> np.ndarray:
    """n uint64, the same wherever and whenever they are made."""
    found = (int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=8).digest(), "big") for id_ in ids.to_pylist())
    return np.fromiter(found, dtype=np.uint64, count=len(ids))


def split(hashes: np.ndarray) -> dict[str, np.ndarray]:
    """Row numbers per share of SHARES, in the order of the ids' hashes (n), which alone decide: a customer is in the same share
    on every day, and the first of a share are as good as drawn by lot."""
    order = np.argsort(hashes, kind="stable")
    buckets = hashes[order] % sum(SHARES.values())
    ends = np.cumsum(list(SHARES.values()))
    return {name: order[(buckets >= end - SHARES[name]) & (buckets < end)] for name, end in zip(SHARES, ends, strict=True)}


def some(customers: Customers, n: int) -> Customers:
    """At most n of them, as good as drawn by lot, and the same on every day; each stays in his share."""
    rows = np.sort(np.argsort(customers.hashes, kind="stable")[:n])
    if len(rows) == len(customers.ids):
        return customers
    taken = pa.array(rows)
    texts = {name: values.take(taken) for name, values in customers.attributes.items()}
    ids, hashes = customers.ids.take(taken), customers.hashes[rows]
    return replace(customers, ids=ids, hashes=hashes, matrix=customers.matrix[rows], attributes=texts)


def fingerprint(customers: Customers) -> str:
    """SHA-256 over ids and values, whatever files and order they came in."""
    digest = hashlib.sha256()
    order = np.argsort(customers.hashes, kind="stable")
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        digest.update("\0".join(customers.ids.take(pa.array(rows)).to_pylist()).encode())
        digest.update(customers.matrix[rows])
    for name, texts in customers.attributes.items():
        digest.update(json.dumps([name, texts.take(pa.array(order)).to_pylist()]).encode())
    return digest.hexdigest()


def _fill(place: np.ndarray, vectors: pa.ListArray, where: str) -> None:
    """Put n vectors into n x d numbers."""
    vectors = vectors.cast(pa.list_(pa.float32()))
    lengths = pc.fill_null(pc.list_value_length(vectors), 0)
    wrong = pc.not_equal(lengths, place.shape[1])
    if pc.any(wrong).as_py():
        found = lengths[pc.index(wrong, True).as_py()]
        raise UserError(
            f"train: {where}: a vector has {found} numbers, {NAMES_PROPERTY} names {place.shape[1]}; run features again"
        )
    # null comes out as NaN
    place[:] = vectors.flatten().to_numpy(zero_copy_only=False).reshape(place.shape)
    place[~np.isfinite(place)] = np.nan


def _twice(hashes: np.ndarray) -> int | None:
    """A row whose id another has too."""
    order = np.argsort(hashes)
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    return int(order[same[0]]) if len(same) else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
