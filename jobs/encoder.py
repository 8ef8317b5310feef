"""An exported encoder: what turns customers into vectors, in Spark's workers as in the driver."""

import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import onnxruntime

from jobs.errors import UserError
from jobs.storage import models

# What customers can be clustered by, and the output of the graph that gives it.
REPRESENTATIONS = {"learned": "vector", "pca": "components", "features": "inputs"}

_ROWS_AT_ONCE = 1024  # what the graph keeps between its steps fits into a core's cache


class Encoder(Protocol):
    """What turns features (n x d float32, NaN = missing) and attributes (n x a text, empty = missing) into its outputs, each of
    n rows."""

    def run(self, matrix: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, ...]: ...


class OnnxEncoder:
    """An ONNX encoder that travels to the workers as bytes; a worker opens one session with one thread."""

    def __init__(self, content: bytes, outputs: Sequence[str]):
        self.content, self.outputs = content, outputs

    def run(self, matrix: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, ...]:
        inputs = {"features": matrix} | ({"attributes": attributes} if attributes.shape[1] else {})
        session, starts = _session(self.content), range(0, max(len(matrix), 1), _ROWS_AT_ONCE)
        parts = [session.run(self.outputs, {k: v[start : start + _ROWS_AT_ONCE] for k, v in inputs.items()}) for start in starts]
        return tuple(np.concatenate(output) for output in zip(*parts, strict=True))


def load_encoder(root: str, version: str, outputs: Sequence[str], file: str = "encoder.onnx") -> OnnxEncoder:
    """Return the encoder of a model for these outputs. Raises UserError where its file is missing, damaged or lacks an output."""
    encoder = OnnxEncoder(models.read(root, version, file), outputs)
    try:
        known = {output.name for output in _session(encoder.content).get_outputs()}
    except Exception as error:  # onnxruntime has no common base for what a damaged file can raise
        raise UserError(
            f"models: {version}: {file} cannot be opened ({str(error).splitlines()[0]}); train again: shoal train --retrain"
        ) from error
    if lacks := sorted(set(outputs) - known):
        raise UserError(
            f"models: {version} was made by an earlier version of Shoal and gives no {lacks[0]}; "
            "train again: shoal train --retrain"
        )
    return encoder


@functools.lru_cache(maxsize=1)
def _session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # Spark has a worker per core already
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
