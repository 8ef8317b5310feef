"""An exported encoder: it turns customers into vectors."""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import onnxruntime
import pyarrow as pa

from jobs.concurrency import count_threads
from jobs.errors import UserError
from jobs.storage import models
from jobs.storage.table import Table
from jobs.storage.vectors import to_matrix

# What customers can be clustered by, and the output of the ONNX graph that holds it.
REPRESENTATIONS = {"learned": "vector", "pca": "components", "features": "inputs"}
JOINT = "joint"  # the output of the graph of groups that holds the features and all groups as its network reads them

_BATCH_ROWS = 1024  # the intermediate results of so many rows fit into the cache of a core


class Encoder(Protocol):
    """Turns features and attributes of n customers into outputs of n rows each.

    Features are n x d float32, NaN = missing. Attributes are n x a cells of object: texts, empty = missing, and for some
    encoders vectors of groups of inputs after them.
    """

    def run(self, matrix: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, ...]: ...


class OnnxEncoder:
    """An ONNX encoder that is sent to worker processes as bytes; each process opens one session."""

    def __init__(self, content: bytes, outputs: Sequence[str]):
        self.content, self.outputs = content, outputs

    def run(
        self, matrix: np.ndarray, attributes: np.ndarray, groups: dict[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, ...]:
        """Return the outputs; `groups` are further inputs of the graph by name, n x d each."""
        inputs = {"features": matrix} | ({"attributes": attributes} if attributes.shape[1] else {}) | (groups or {})
        session = _open_session(self.content)

        def encode(start: int) -> list[np.ndarray]:
            return session.run(self.outputs, {name: values[start : start + _BATCH_ROWS] for name, values in inputs.items()})

        with ThreadPoolExecutor(count_threads()) as pool:
            parts = list(pool.map(encode, range(0, max(len(matrix), 1), _BATCH_ROWS)))
        return tuple(np.concatenate(output) for output in zip(*parts, strict=True))


def features_table(attributes: Sequence[str] = ()) -> Table:
    """Return the columns of features.customers by which customers are encoded; `attributes` are text columns."""
    columns = [
        "customer_id STRING",
        "day DATE",
        "is_active BOOLEAN",
        "vector ARRAY<FLOAT>",
        *(f"`{name}` STRING" for name in attributes),
    ]
    return Table("features.customers", "The columns by which customers are encoded.", ", ".join(columns), partition="day")


def to_inputs(
    customers: pa.RecordBatch | pa.Table, attributes: Sequence[str], groups: Sequence[np.ndarray] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Return the column `vector` and the text columns `attributes` of n customers as the two inputs of an encoder.

    The vectors (n x d) of groups follow the attributes.

    >>> customers = pa.table({"vector": [[1.0, None]], "country": ["GB"], "device": pa.array([None], pa.string())})
    >>> [matrix.tolist() for matrix in to_inputs(customers, ["device", "country"])]
    [[[1.0, nan]], [['', 'GB']]]
    """
    texts = np.full((customers.num_rows, len(attributes)), "", dtype=object)
    for column, name in enumerate(attributes):
        texts[:, column] = customers.column(name).fill_null("").to_numpy(zero_copy_only=False)
    return to_matrix(customers.column("vector")), append_vectors(texts, groups)


def append_vectors(texts: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """Return attributes (n x a) with a column more for each group, whose cells are the group's vectors (n x d)."""
    cells = np.empty((len(texts), texts.shape[1] + len(groups)), dtype=object)
    cells[:, : texts.shape[1]] = texts
    for column, vectors in enumerate(groups, start=texts.shape[1]):
        for row, vector in enumerate(vectors):  # at once, NumPy would spread the numbers over the cells
            cells[row, column] = vector
    return cells


def load_encoder(root: str, version: str, outputs: Sequence[str], file: str = "encoder.onnx") -> OnnxEncoder:
    """Return the encoder of a model for these outputs. Raises UserError where its file is missing, damaged or lacks an output."""
    encoder = OnnxEncoder(models.read(root, version, file), outputs)
    try:
        available = {output.name for output in _open_session(encoder.content).get_outputs()}
    except Exception as error:  # onnxruntime has no common base for what a damaged file can raise
        raise UserError(
            f"models: {version}: {file} cannot be load_encoder ({str(error).splitlines()[0]}); train again: shoal train --retrain"
        ) from error
    if lacks := sorted(set(outputs) - available):
        raise UserError(
            f"models: {version} was made by an earlier version of Shoal and gives no {lacks[0]}; "
            "train again: shoal train --retrain"
        )
    return encoder


@functools.lru_cache(maxsize=2)  # a model may have two graphs
def _open_session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # each batch is one thread's
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
