"""Vectors of customers: list columns of Arrow as NumPy matrices, and back."""

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike


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
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(dtype)
    return values.reshape(len(lists), -1 if len(lists) else 1)


def to_lists(matrix: np.ndarray) -> pa.ListArray:
    """Return an n x d matrix as a column of n lists of float32.

    >>> to_lists(np.array([[1.0, 2.0], [3.0, 4.0]])).to_pylist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    offsets = np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel(), pa.float32()))
