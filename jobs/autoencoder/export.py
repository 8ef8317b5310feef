"""A trained model as files: an ONNX graph that needs no torch, weights, facts and golden vectors.

The graph is written out below in ONNX's own text form rather than traced: it is short, the tracing exporter takes 7 s,
and every export is held against torch before anything is saved.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import safetensors.torch
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from jobs.autoencoder.data import Customers
from jobs.autoencoder.model import Autoencoder
from jobs.errors import UserError

TOLERANCE = 1e-5
CHECKED_ROWS = 1000
GOLDEN_ROWS = 16


def write(folder: Path, model: Autoencoder, customers: Customers, facts: dict) -> None:
    """Fill `folder` with encoder.onnx, weights.safetensors, golden.json and meta.json.

    Raises UserError where onnxruntime and torch differ by more than TOLERANCE.
    """
    model = model.cpu().eval()
    graph = encoder(model).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    rows = checked_rows(customers)
    golden = rows[:GOLDEN_ROWS]
    _require_equal(model, session, rows)
    (folder / "encoder.onnx").write_bytes(graph)
    (folder / "weights.safetensors").write_bytes(safetensors.torch.save(model.state_dict()))
    vector, error = session.run(None, {"features": golden})
    answers = {"features": _plain(golden), "vector": vector.tolist(), "reconstruction_error": error.tolist()}
    (folder / "golden.json").write_text(json.dumps(answers, indent=1, allow_nan=False))
    (folder / "meta.json").write_text(json.dumps(facts, indent=1, allow_nan=False))


def checked_rows(customers: Customers) -> np.ndarray:
    """Up to CHECKED_ROWS customers (m x d), the first ones made missing, infinite and huge."""
    step = max(1, len(customers.ids) // CHECKED_ROWS)
    rows = np.resize(customers.matrix[::step], (max(GOLDEN_ROWS, len(customers.matrix[::step])), len(customers.names)))
    rows[0] = np.nan
    rows[1] = np.inf
    rows[2] = -np.inf
    rows[3] = 0.0
    rows[4] = np.finfo(np.float32).max
    rows[5] = np.finfo(np.float32).min
    rows[6, ::2] = np.nan
    rows[7, 1::2] = np.inf
    return rows


def encoder(model: Autoencoder) -> onnx.ModelProto:
    """`Autoencoder.forward` as an ONNX model.

    Input `features` float32 (n x d), NaN or infinite = missing; outputs `vector` (n x latent) and
    `reconstruction_error` (n, mean squared error in scaled units).
    """
    constants: dict[str, Tensor] = dict(model.named_buffers()) | {"one": torch.ones(()), "last_axis": torch.tensor([1])}
    encode = _network("encoder", model.encoder, model.encoder_linear, "scaled", "latent", constants)
    decode = _network("decoder", model.decoder, model.decoder_linear, "latent", "decoded", constants)
    parsed = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 18]>
        shoal_encoder (float[n, {model.sizes.features}] features)
            => (float[n, {model.sizes.latent}] vector, float[n] reconstruction_error)
        {{
            nan = IsNaN(features)
            infinite = IsInf(features)
            missing = Or(nan, infinite)
            imputed = Where(missing, median, features)
            raised = Max(imputed, low)
            winsorised = Min(raised, high)
            size = Abs(winsorised)
            size_from_one = Add(one, size)
            log_size = Log(size_from_one)
            sign = Sign(winsorised)
            logged = Mul(sign, log_size)
            known = Where(is_log, logged, winsorised)
            centred = Sub(known, mean)
            scaled = Div(centred, scale)
            {encode}
            {decode}
            difference = Sub(decoded, scaled)
            squared = Mul(difference, difference)
            reconstruction_error = ReduceMean<keepdims = 0>(squared, last_axis)
            latent_centred = Sub(latent, latent_mean)
            vector = MatMul(latent_centred, latent_axes)
        }}
    """)
    parsed.graph.initializer.extend(
        numpy_helper.from_array(tensor.detach().contiguous().numpy(), name) for name, tensor in constants.items()
    )
    parsed.producer_name = "shoal"
    onnx.checker.check_model(parsed, full_check=True)
    return parsed


def _network(name: str, network: nn.Sequential, linear: nn.Linear, source: str, target: str, constants: dict) -> str:
    """Lines for target = linear(source) + network(source); their weights are put into `constants`."""
    lines = [_affine(f"{name}_linear", linear, source, constants)]
    at = source
    for number, layer in enumerate(network):
        here = f"{name}_{number}"
        if isinstance(layer, nn.Linear):
            lines.append(_affine(here, layer, at, constants))
        elif isinstance(layer, nn.SiLU):
            lines += [f"{here}_gate = Sigmoid({at})", f"{here} = Mul({at}, {here}_gate)"]
        else:
            raise TypeError(f"no ONNX form of {layer}")
        at = here
    return "\n".join([*lines, f"{target} = Add({name}_linear, {at})"])


def _affine(name: str, layer: nn.Linear, source: str, constants: dict) -> str:
    constants |= {f"{name}_weight": layer.weight, f"{name}_bias": layer.bias}
    return f"{name} = Gemm<transB = 1>({source}, {name}_weight, {name}_bias)"


def _require_equal(model: Autoencoder, session: onnxruntime.InferenceSession, rows: np.ndarray) -> None:
    with torch.no_grad():
        expected = [output.numpy() for output in model(torch.from_numpy(rows))]
    for output, ours, theirs in zip(session.get_outputs(), expected, session.run(None, {"features": rows}), strict=True):
        if not np.allclose(theirs, ours, rtol=TOLERANCE, atol=TOLERANCE):
            furthest = np.abs(theirs - ours).max()
            raise UserError(
                f"train: {output.name} of encoder.onnx is {furthest:.1e} off torch's, more than {TOLERANCE}; "
                "nothing was saved: install the locked library versions (make setup) and train again"
            )


def _plain(rows: np.ndarray) -> list[list[float | str | None]]:
    """JSON has no NaN and no infinities: null, "inf" and "-inf"."""
    return [[None if np.isnan(v) else float(v) if np.isfinite(v) else str(v) for v in row] for row in rows.tolist()]
