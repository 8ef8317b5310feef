"""The customers of a day as one matrix, their split, and the preprocessing, fitted on the training share alone."""

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
SHARES = {"train": 8, "validation": 1, "test": 1}  # tenths of the customers
WINSOR_SHARES = (0.005, 0.995)  # quantiles beyond which values are pulled in, for the model only
SKEWED = 1.0  # absolute skewness from which log1p is tried
LOG_GAIN = 0.75  # log1p is taken where it leaves at most this share of the skewness


@dataclass(frozen=True)
class Customers:
    """The active customers of one day, in the order of their ids."""

    day: date
    delta_version: int
    names: tuple[str, ...]  # features in the vector's order
    ids: pa.Array  # n strings, ascending
    matrix: np.ndarray  # n x d float32, NaN = missing (null, NaN or infinite in the table)


@dataclass(frozen=True)
class Preprocessing:
    """One number per feature, in the feature's own unit up to `is_log`; mean and scale after it."""

    median: np.ndarray  # takes the place of a missing value
    low: np.ndarray
    high: np.ndarray  # winsorised to [low, high]
    is_log: np.ndarray  # bool: sign(x) * log(1 + |x|)
    mean: np.ndarray
    scale: np.ndarray  # 1 where the training customers do not differ
    is_constant: np.ndarray  # bool: the training customers do not differ


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
    names = json.loads(table.metadata().configuration.get(NAMES_PROPERTY, "[]"))
    if not names:
        raise UserError(f"train: {lake}/{TABLE} lacks the property {NAMES_PROPERTY}; run again: shoal features --day {day}")
    columns = ["customer_id", "is_active", "vector"]
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
    return Customers(day, table.version(), tuple(names), ids, matrix)


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
    return digest.hexdigest()


def fit(matrix: np.ndarray) -> Preprocessing:
    """Preprocessing of `matrix` (n x d, NaN = missing); give it the training customers only."""
    columns = [_fit_feature(matrix[:, j]) for j in range(matrix.shape[1])]
    numbers = {name: np.array([column[name] for column in columns]) for name in Preprocessing.__annotations__}
    return Preprocessing(**{k: v if v.dtype == bool else v.astype(np.float32) for k, v in numbers.items()})


def _fit_feature(column: np.ndarray) -> dict:
    known = column[np.isfinite(column)].astype(np.float64)
    low, median, high = np.quantile(known, [WINSOR_SHARES[0], 0.5, WINSOR_SHARES[1]]) if len(known) else (0.0, 0.0, 0.0)
    filled = np.full(len(column), median)
    filled[: len(known)] = np.clip(known, low, high)
    logged = np.sign(filled) * np.log1p(np.abs(filled))
    before = abs(_skewness(filled))
    is_log = before > SKEWED and abs(_skewness(logged)) <= LOG_GAIN * before
    values = logged if is_log else filled
    mean, scale = values.mean(), values.std()
    is_constant = bool(scale <= 1e-6 * abs(mean) or scale == 0)  # float32 sees no difference below
    return {
        "median": median,
        "low": low,
        "high": high,
        "is_log": is_log,
        "mean": mean,
        "scale": 1.0 if is_constant else scale,
        "is_constant": is_constant,
    }


def _skewness(values: np.ndarray) -> float:
    centred = values - values.mean()
    spread = centred.std()
    return float((centred**3).mean() / spread**3) if spread > 0 else 0.0


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
