"""A trained model as files: encoder.onnx, weights.safetensors, meta.json, and golden.json.

The graph is compared with torch and the forest before a file is written.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import safetensors.torch
import torch

from jobs.autoencoder.customers import Customers
from jobs.autoencoder.onnx_graph import OUTPUTS, TrainedModel, build_encoder
from jobs.autoencoder.preprocessing import encode_categories
from jobs.errors import UserError

TOLERANCE = 1e-5  # absolute and relative, between graph and torch
N_VERIFICATION_ROWS = 1000
N_GOLDEN_ROWS = 16


def write_model(folder: Path, trained: TrainedModel, verification_rows: tuple[np.ndarray, np.ndarray], meta: dict) -> None:
    """Write all files of a model into `folder`; `verification_rows` are those of select_verification_rows.

    Raises UserError where onnxruntime differs from torch or from the forest by more than TOLERANCE.
    """
    model = trained.model.cpu().eval()
    graph = build_encoder(trained).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    features, attributes = verification_rows
    _require_equal_outputs(trained, session, features, attributes)
    (folder / "encoder.onnx").write_bytes(graph)
    (folder / "weights.safetensors").write_bytes(safetensors.torch.save(model.state_dict()))
    features, attributes = features[:N_GOLDEN_ROWS], attributes[:N_GOLDEN_ROWS]
    golden = {"features": to_json_numbers(features), "attributes": attributes.tolist()}
    golden |= {name: output.tolist() for name, output in _run_graph(session, features, attributes).items()}
    (folder / "golden.json").write_text(json.dumps(golden, indent=1, allow_nan=False))
    write_meta(folder, meta)


def write_meta(folder: Path, meta: dict) -> None:
    """Write meta.json."""
    (folder / "meta.json").write_text(json.dumps(meta, indent=1, allow_nan=False))


def select_verification_rows(customers: Customers) -> tuple[np.ndarray, np.ndarray]:
    """Return up to N_VERIFICATION_ROWS customers: features (n_rows, n_features) and attributes (n_rows, n_attributes).

    The first rows are changed to missing, infinite and huge numbers and to an unknown category. Attributes are text, empty =
    missing.
    """
    step = max(1, len(customers.ids) // N_VERIFICATION_ROWS)
    n_rows = max(N_GOLDEN_ROWS, len(customers.features[::step]))
    features = np.resize(customers.features[::step], (n_rows, len(customers.feature_names)))
    features[0] = np.nan
    features[1] = np.inf
    features[2] = -np.inf
    features[3] = 0.0
    features[4] = np.finfo(np.float32).max
    features[5] = np.finfo(np.float32).min
    features[6, ::2] = np.nan
    features[7, 1::2] = np.inf
    attributes = np.full((n_rows, len(customers.attributes)), "", dtype=object)
    for column, values in enumerate(customers.attributes.values()):
        attributes[:, column] = np.resize(values.fill_null("").to_numpy(zero_copy_only=False)[::step], n_rows)
    attributes[0] = ""
    attributes[1] = "no such category"
    return features, attributes


def _run_graph(session: onnxruntime.InferenceSession, features: np.ndarray, attributes: np.ndarray) -> dict[str, np.ndarray]:
    """Return the OUTPUTS by name."""
    inputs = {"features": features} | ({"attributes": attributes} if attributes.shape[1] else {})
    return dict(zip(OUTPUTS, session.run(OUTPUTS, inputs), strict=True))


def _require_equal_outputs(
    trained: TrainedModel, session: onnxruntime.InferenceSession, features: np.ndarray, attributes: np.ndarray
) -> None:
    texts = [pa.array(column, pa.string()) for column in attributes.T]
    codes = encode_categories(texts, list(trained.categories.values()), len(features))
    outputs = _run_graph(session, features, attributes)
    with torch.no_grad():
        inputs = trained.model.preprocess(torch.from_numpy(features), torch.from_numpy(codes))
        vectors, errors = trained.model(torch.from_numpy(features), torch.from_numpy(codes))
        expected = {
            "vector": vectors.numpy(),
            "reconstruction_error": errors.numpy(),
            # on the graph's own inputs, because a split may separate two numbers that differ by less than the tolerance
            "isolation_score": -trained.forest.score_samples(outputs["inputs"]),
            "inputs": inputs.numpy(),
            "components": ((inputs - trained.pca[0]) @ trained.pca[1]).numpy(),
        }
    for name in OUTPUTS:
        require_equal(name, "encoder.onnx", outputs[name], expected[name])


def require_equal(name: str, file: str, output: np.ndarray, expected: np.ndarray) -> None:
    """Raise UserError where an output of a graph differs from the trained model's by more than TOLERANCE."""
    if not np.allclose(output, expected, rtol=TOLERANCE, atol=TOLERANCE):
        difference = np.abs(output - expected).max()
        raise UserError(
            f"train: {name} of {file} differs by {difference:.1e} from the trained model, more than {TOLERANCE}; "
            "nothing was saved: install the locked library versions (make setup) and train again"
        )


def to_json_numbers(rows: np.ndarray) -> list[list[float | str | None]]:
    """Return numbers that JSON can hold: null for NaN, "inf" and "-inf" for the infinities."""
    return [[None if np.isnan(v) else float(v) if np.isfinite(v) else str(v) for v in row] for row in rows.tolist()]
