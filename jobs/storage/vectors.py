"""Vectors of customers: list columns of Arrow as NumPy matrices, and back."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike

_ROWS_PER_SLICE = 8192  # as float64 they fit into the cache of a core


def to_matrix(lists: pa.ListArray | pa.ChunkedArray, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Return a list column of n vectors as a new n x d matrix; a null value becomes NaN.

    All vectors have the same length, and none is null. Without rows d is 1.

    >>> to_matrix(pa.array([[1.0, None], [3.0, 4.0]])).tolist()
    [[1.0, nan], [3.0, 4.0]]
    >>> to_matrix(pa.array([], pa.list_(pa.float32()))).shape
    (0, 1)
    """
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    flat = lists.flatten()
    values = flat.to_numpy(zero_copy_only=False)  # a copy where there are nulls
    return values.astype(dtype, copy=not flat.null_count).reshape(len(lists), -1 if len(lists) else 1)


def to_lists(matrix: np.ndarray) -> pa.ListArray:
    """Return an n x d matrix as a column of n lists of float32.

    >>> to_lists(np.array([[1.0, 2.0], [3.0, 4.0]])).to_pylist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    offsets = np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel(), pa.float32()))


def list_slices(n: int) -> Iterator[slice]:
    """Yield the rows 0..n-1 in slices. Their length never changes, so that sums by slice are added in one order.

    >>> [len(range(20_000)[rows]) for rows in list_slices(20_000)]
    [8192, 8192, 3616]
    """
    return (slice(start, min(start + _ROWS_PER_SLICE, n)) for start in range(0, n, _ROWS_PER_SLICE))
