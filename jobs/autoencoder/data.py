"""The customers of a day as one matrix and their attributes, and their split."""

import hashlib
import json
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from jobs import lake as lakes
from jobs.errors import UserError

TABLE = "features/customers"
NAMES_PROPERTY = "shoal.vector"  # the table property that names the features in the vector's order
ATTRIBUTES_PROPERTY = "shoal.attributes"  # the one that names the columns of text
SHARES = {"train": 8, "validation": 1, "test": 1}  # tenths of the customers


@dataclass(frozen=True)
class Customers:
    """The active customers of one day, in the order of their ids."""

    day: date
    delta_version: int
    names: tuple[str, ...]  # features in the vector's order
    ids: pa.Array  # n strings, ascending
    matrix: np.ndarray  # n x d float32, NaN = missing (null, NaN or infinite in the table)
    attributes: dict[str, pa.Array]  # n strings each, null or empty = missing


def read(lake: str, day: date, min_customers: int) -> Customers:
    """The active customers of `day` in `<lake>/features/customers`.

    Raises UserError for a missing table, a day without rows, fewer than `min_customers` active customers, a vector of
    another length than the table names features, and a customer with two rows.
    """
    where = f"features.customers, day {day}"
    try:
        table = DeltaTable(f"{lake}/{TABLE}")
    except TableNotFoundError:
        raise UserError(f"train: {lake}/{TABLE} does not exist; run first: shoal features --day {day}") from None
    except DeltaError as error:
        raise UserError(f"train: {lake}/{TABLE} cannot be read: {_one_line(error)}") from None
    properties = table.metadata().configuration
    names, attributes = (json.loads(properties.get(key, "[]")) for key in (NAMES_PROPERTY, ATTRIBUTES_PROPERTY))
    if not names:
        raise UserError(f"train: {lake}/{TABLE} lacks the property {NAMES_PROPERTY}; run again: shoal features --day {day}")
    columns = ["customer_id", "is_active", "vector", *attributes]
    try:
        rows = lakes.dataset(table).to_table(columns=columns, filter=pc.field("day") == pa.scalar(day))
    except (OSError, pa.ArrowInvalid, DeltaError) as error:
        raise UserError(f"train: {where}: version {table.version()} cannot be read: {_one_line(error)}") from None
    if rows.num_rows == 0:
        raise UserError(f"train: {where}: no rows; run first: shoal features --day {day}")
    known = rows.num_rows
    rows = rows.filter(pc.field("is_active"))
    if rows.num_rows < min_customers:
        raise UserError(
            f"train: {where}: {rows.num_rows} active customers of {known}, train.min_customers is {min_customers}; "
            "take a later day or lower the setting"
        )
    matrix = _matrix(rows["vector"], len(names), where)
    ids = rows["customer_id"].combine_chunks()
    order = pc.sort_indices(ids)
    ids, matrix = ids.take(order), matrix[order.to_numpy()]
    twice = pc.equal(ids[1:], ids[:-1])
    if pc.any(twice).as_py():
        raise UserError(f"train: {where}: customer {ids[pc.index(twice, True).as_py()]} has two rows; run features again")
    texts = {name: rows[name].combine_chunks().cast(pa.string()).take(order) for name in attributes}
    return Customers(day, table.version(), tuple(names), ids, matrix, texts)


def split(ids: pa.Array) -> dict[str, np.ndarray]:
    """Row numbers per share of SHARES: by a hash of the id alone, so a customer is in the same share on every day."""
    buckets = np.fromiter((_bucket(id_) for id_ in ids.to_pylist()), dtype=np.uint8, count=len(ids))
    ends = np.cumsum(list(SHARES.values()))
    return {
        name: np.flatnonzero((buckets >= end - SHARES[name]) & (buckets < end)) for name, end in zip(SHARES, ends, strict=True)
    }


def fingerprint(customers: Customers) -> str:
    """SHA-256 over ids and values, whatever files and order they came in."""
    digest = hashlib.sha256()
    for id_ in customers.ids.to_pylist():
        digest.update(id_.encode() + b"\0")
    digest.update(np.ascontiguousarray(customers.matrix))
    for name, texts in customers.attributes.items():
        digest.update(json.dumps([name, texts.to_pylist()]).encode())
    return digest.hexdigest()


def _matrix(vectors: pa.ChunkedArray, length: int, where: str) -> np.ndarray:
    matrix = np.empty((len(vectors), length), dtype=np.float32)
    at = 0
    for chunk in vectors.cast(pa.list_(pa.float32())).chunks:
        lengths = pc.fill_null(pc.list_value_length(chunk), 0)
        wrong = pc.not_equal(lengths, length)
        if pc.any(wrong).as_py():
            found = lengths[pc.index(wrong, True).as_py()]
            raise UserError(f"train: {where}: a vector has {found} numbers, {NAMES_PROPERTY} names {length}; run features again")
        # null comes out as NaN
        matrix[at : at + len(chunk)] = chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, length)
        at += len(chunk)
    matrix[~np.isfinite(matrix)] = np.nan
    return matrix


def _bucket(id_: str) -> int:
    return int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=8).digest(), "big") % sum(SHARES.values())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
