"""The customers of a day: their features as one matrix, their attributes, and their split."""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from jobs.autoencoder.array_storage import ArrayStorage
from jobs.errors import UserError
from jobs.storage.delta import is_written, open_dataset, open_table, table_path

TABLE = "features.customers"
NAMES_PROPERTY = "shoal.vector"  # table property: the feature names in the order of the vector
ATTRIBUTES_PROPERTY = "shoal.attributes"  # table property: the names of the text columns
SPLIT_TENTHS = {"train": 8, "validation": 1, "test": 1}  # of the customers
CHUNK_ROWS = 65536  # customers read or hashed at a time


@dataclass(frozen=True)
class Customers:
    """The active customers of one day, in the order of the table's files."""

    day: date
    delta_version: int
    feature_names: tuple[str, ...]  # in the order of the vector
    ids: pa.Array  # (n_customers,) strings
    hashes: np.ndarray  # (n_customers,) uint64, hashes of the ids: they decide the split and the order
    features: np.ndarray  # (n_customers, n_features) float32, NaN = missing (null, NaN or infinite in the table)
    storage: ArrayStorage  # for their other arrays
    attributes: dict[str, pa.Array]  # (n_customers,) strings by attribute, null or empty = missing


def read_customers(lake: str, day: date, min_customers: int, memory_share: float = 0.5) -> Customers:
    """Return the active customers of `day` in features.customers of a lake, read chunk by chunk into their storage.

    Raises UserError for a missing table, a day without rows, fewer than `min_customers` active customers, a vector whose length
    differs from the number of feature names, a customer with two rows, and a full disk.
    """
    location = f"{TABLE}, day {day}"
    table = _open_table(lake, day)
    feature_names, attribute_names = _read_column_names(table, lake, day)
    try:
        n_active = _count_active(table, day, min_customers)
        storage = ArrayStorage(n_active, len(feature_names), memory_share)
        features = storage.allocate(n_active, len(feature_names)).numpy()
        rows = _read_rows(table, day, features, ["customer_id", *attribute_names])
    except (OSError, pa.ArrowInvalid, DeltaError) as error:
        raise UserError(f"train: {location}: version {table.version()} cannot be read: {_on_one_line(error)}") from None
    ids = rows["customer_id"].combine_chunks()
    hashes = hash_ids(ids)
    if (row := _find_duplicate(hashes)) is not None:
        raise UserError(f"train: {location}: customer {ids[row]} has two rows; run features again")
    attributes = {name: rows[name].combine_chunks().cast(pa.string()) for name in attribute_names}
    return Customers(day, table.version(), tuple(feature_names), ids, hashes, features, storage, attributes)


def hash_ids(ids: pa.Array) -> np.ndarray:
    """Return a hash of each customer id (n_customers,) uint64, the same in every process."""
    hashes = (int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=8).digest(), "big") for id_ in ids.to_pylist())
    return np.fromiter(hashes, dtype=np.uint64, count=len(ids))


def split_customers(hashes: np.ndarray) -> dict[str, np.ndarray]:
    """Return the row numbers of each split of SPLIT_TENTHS, in the order of the hashes (n_customers,).

    The hash alone decides, so a customer is in the same split on every day, and the first rows of a split are a random sample.
    """
    order = np.argsort(hashes, kind="stable")
    tenths = hashes[order] % sum(SPLIT_TENTHS.values())
    ends = np.cumsum(list(SPLIT_TENTHS.values()))
    return {
        split: order[(tenths >= end - size) & (tenths < end)]
        for (split, size), end in zip(SPLIT_TENTHS.items(), ends, strict=True)
    }


def sample_customers(customers: Customers, n: int) -> Customers:
    """Return a random sample of at most n customers, the same on every day; each keeps their split."""
    rows = np.sort(np.argsort(customers.hashes, kind="stable")[:n])
    if len(rows) == len(customers.ids):
        return customers
    indices = pa.array(rows)
    return replace(
        customers,
        ids=customers.ids.take(indices),
        hashes=customers.hashes[rows],
        features=customers.features[rows],
        attributes={name: values.take(indices) for name, values in customers.attributes.items()},
    )


def input_fingerprint(customers: Customers) -> str:
    """Return the SHA-256 of ids, features and attributes, whatever files and order they came in."""
    digest = hashlib.sha256()
    order = np.argsort(customers.hashes, kind="stable")
    for start in range(0, len(order), CHUNK_ROWS):
        rows = order[start : start + CHUNK_ROWS]
        digest.update("\0".join(customers.ids.take(pa.array(rows)).to_pylist()).encode())
        digest.update(customers.features[rows])
    for name, values in customers.attributes.items():
        digest.update(json.dumps([name, values.take(pa.array(order)).to_pylist()]).encode())
    return digest.hexdigest()


def _open_table(lake: str, day: date) -> DeltaTable:
    path = table_path(lake, TABLE)
    if not is_written(path):
        raise UserError(f"train: {path} does not exist; run first: shoal features --day {day}")
    try:
        return open_table(lake, TABLE)
    except DeltaError as error:
        raise UserError(f"train: {path} cannot be read: {_on_one_line(error)}") from None


def _read_column_names(table: DeltaTable, lake: str, day: date) -> tuple[list[str], list[str]]:
    """Return the names of the features, in the order of the vector, and of the attributes."""
    properties = table.metadata().configuration
    feature_names, attribute_names = (json.loads(properties.get(key, "[]")) for key in (NAMES_PROPERTY, ATTRIBUTES_PROPERTY))
    if not feature_names:
        path = table_path(lake, TABLE)
        raise UserError(f"train: {path} lacks the property {NAMES_PROPERTY}; run again: shoal features --day {day}")
    return feature_names, attribute_names


def _count_active(table: DeltaTable, day: date, min_customers: int) -> int:
    """Return the number of active customers of the day; raises UserError without rows and for too few customers."""
    location, dataset, of_day = f"{TABLE}, day {day}", open_dataset(table), pc.field("day") == pa.scalar(day)
    n_customers, n_active = (dataset.count_rows(filter=rows) for rows in (of_day, of_day & pc.field("is_active")))
    if n_customers == 0:
        raise UserError(f"train: {location}: no rows; run first: shoal features --day {day}")
    if n_active < min_customers:
        raise UserError(
            f"train: {location}: {n_active} active customers of {n_customers}, train.min_customers is {min_customers}; "
            "take a later day or lower the setting"
        )
    return n_active


def _read_rows(table: DeltaTable, day: date, features: np.ndarray, columns: list[str]) -> pa.Table:
    """Read the vectors of the day's active customers into `features` (n_customers, n_features) and return `columns`."""
    is_active = (pc.field("day") == pa.scalar(day)) & pc.field("is_active")
    scanner: ds.Scanner = open_dataset(table).scanner(
        columns=["vector", *columns], filter=is_active, batch_size=CHUNK_ROWS, fragment_readahead=1
    )
    batches, start = [], 0
    for batch in scanner.to_batches():
        _copy_vectors(batch["vector"], features[start : start + len(batch)], f"{TABLE}, day {day}")
        batches.append(batch.select(columns))
        start += len(batch)
    return pa.Table.from_batches(batches)


def _copy_vectors(vectors: pa.ListArray, features: np.ndarray, location: str) -> None:
    """Copy a list column into `features` (n_rows, n_features); null and infinite numbers become NaN."""
    vectors = vectors.cast(pa.list_(pa.float32()))
    n_features = features.shape[1]
    lengths = pc.fill_null(pc.list_value_length(vectors), 0)
    is_wrong = pc.not_equal(lengths, n_features)
    if pc.any(is_wrong).as_py():
        length = lengths[pc.index(is_wrong, True).as_py()]
        raise UserError(
            f"train: {location}: a vector has {length} numbers, {NAMES_PROPERTY} names {n_features}; run features again"
        )
    features[:] = vectors.flatten().to_numpy(zero_copy_only=False).reshape(features.shape)  # null becomes NaN
    features[~np.isfinite(features)] = np.nan


def _find_duplicate(hashes: np.ndarray) -> int | None:
    """Return a row whose hash (n_customers,) is also that of another row."""
    order = np.argsort(hashes)
    equal = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    return int(order[equal[0]]) if len(equal) else None


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
