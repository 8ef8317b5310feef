"""A trained model as files: an ONNX graph that needs no torch, weights, facts and golden vectors.

The graph is written out below in ONNX's own text form rather than traced: it is short, the tracing exporter takes 7 s,
and every export is held against torch before anything is saved.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pyarrow as pa
import safetensors.torch
import torch
from onnx import numpy_helper
from sklearn.ensemble import IsolationForest
from torch import Tensor, nn

from jobs.autoencoder import isolation, preprocessing
from jobs.autoencoder.data import Customers
from jobs.autoencoder.model import Autoencoder
from jobs.errors import UserError

TOLERANCE = 1e-5
CHECKED_ROWS = 1000
GOLDEN_ROWS = 16
OUTPUTS = ["vector", "reconstruction_error", "isolation_score"]


@dataclass(frozen=True)
class Trained:
    """All that was fitted."""

    model: Autoencoder
    forest: IsolationForest
    categories: dict[str, list[str]]  # by attribute


def write(folder: Path, trained: Trained, checked: tuple[np.ndarray, np.ndarray], facts: dict) -> None:
    """Fill `folder` with encoder.onnx, weights.safetensors, golden.json and meta.json; `checked` as of checked_rows.

    Raises UserError where onnxruntime differs from torch, or from the forest, by more than TOLERANCE.
    """
    model = trained.model.cpu().eval()
    graph = encoder(trained).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    rows, texts = checked
    _require_equal(trained, session, rows, texts)
    (folder / "encoder.onnx").write_bytes(graph)
    (folder / "weights.safetensors").write_bytes(safetensors.torch.save(model.state_dict()))
    golden = {"features": rows[:GOLDEN_ROWS], "attributes": texts[:GOLDEN_ROWS]}
    answers = {name: value.tolist() for name, value in zip(OUTPUTS, _answers(session, **golden), strict=True)}
    told = {"features": _plain(golden["features"]), "attributes": golden["attributes"].tolist()} | answers
    (folder / "golden.json").write_text(json.dumps(told, indent=1, allow_nan=False))
    write_facts(folder, facts)


def write_facts(folder: Path, facts: dict) -> None:
    (folder / "meta.json").write_text(json.dumps(facts, indent=1, allow_nan=False))


def checked_rows(customers: Customers) -> tuple[np.ndarray, np.ndarray]:
    """Up to CHECKED_ROWS customers, the first ones made missing, infinite, huge and of an unseen category.

    Features (m x d) and attributes (m x a, text, empty = missing).
    """
    step = max(1, len(customers.ids) // CHECKED_ROWS)
    m = max(GOLDEN_ROWS, len(customers.matrix[::step]))
    rows = np.resize(customers.matrix[::step], (m, len(customers.names)))
    rows[0] = np.nan
    rows[1] = np.inf
    rows[2] = -np.inf
    rows[3] = 0.0
    rows[4] = np.finfo(np.float32).max
    rows[5] = np.finfo(np.float32).min
    rows[6, ::2] = np.nan
    rows[7, 1::2] = np.inf
    texts = np.full((m, len(customers.attributes)), "", dtype=object)
    for column, values in enumerate(customers.attributes.values()):
        texts[:, column] = np.resize(values.fill_null("").to_numpy(zero_copy_only=False)[::step], m)
    texts[0] = ""
    texts[1] = "no such category"
    return rows, texts


def encoder(trained: Trained) -> onnx.ModelProto:
    """Preprocessing, `Autoencoder.forward` and the isolation forest as one ONNX model.

    Inputs: `features` float32 (n x d), NaN or infinite = missing; where the customers have attributes, `attributes` text
    (n x a), empty = missing. Outputs: `vector` (n x latent), `reconstruction_error` (n, mean squared error in scaled
    units), `isolation_score` (n, as of isolation.py), and `inputs`, the columns that the network saw.
    """
    model, categories = trained.model, trained.categories
    constants: dict[str, Tensor] = {name.removeprefix("preprocess."): buffer for name, buffer in model.named_buffers()}
    constants |= {"zero": torch.zeros(()), "one": torch.ones(()), "last_axis": torch.tensor([1]), "knot_axis": torch.tensor([2])}
    unranked_or_rank = torch.arange(len(constants["fill"]))  # columns of all features and then the ranks
    unranked_or_rank[constants["ranked"]] = len(unranked_or_rank) + torch.arange(len(constants["ranked"]))
    constants["unranked_or_rank"] = unranked_or_rank
    constants |= {f"attribute_{place}": torch.tensor([place]) for place in range(len(categories))}
    expected = isolation.expected_splits(np.array(trained.forest.max_samples_))
    constants["minus_expected_splits"] = torch.tensor(-max(float(expected), 1e-6))
    constants["two"] = torch.tensor(2.0)
    encode = _network("encoder", model.encoder, "inputs", "latent", constants)
    decode = _network("decoder", model.decoder, "latent", "decoded", constants)
    read = _affine("restored", model.own, "readable", constants)
    texts = f", string[n, {len(categories)}] attributes" if categories else ""
    parsed = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 18, "ai.onnx.ml": 3]>
        shoal_encoder (float[n, {len(constants["fill"])}] features{texts})
            => (float[n, {model.sizes.latent}] vector, float[n] reconstruction_error, float[n] isolation_score,
                float[n, {model.sizes.inputs}] inputs)
        {{
            nan = IsNaN(features)
            infinite = IsInf(features)
            missing = Or(nan, infinite)
            filled = Where(missing, fill, features)
            raised = Max(filled, low)
            winsorised = Min(raised, high)
            size = Abs(winsorised)
            size_from_one = Add(one, size)
            log_size = Log(size_from_one)
            sign = Sign(winsorised)
            logged = Mul(sign, log_size)
            unranked = Where(is_log, logged, winsorised)
            to_rank = Gather<axis = 1>(winsorised, ranked)
            by_knot = Unsqueeze(to_rank, knot_axis)
            past_knot = Sub(by_knot, knots)
            parts = Div(past_knot, widths)
            passed = Clip(parts, zero, one)
            gained = Mul(passed, gains)
            ranks = ReduceSum<keepdims = 0>(gained, knot_axis)
            unranked_and_ranks = Concat<axis = 1>(unranked, ranks)
            known = Gather<axis = 1>(unranked_and_ranks, unranked_or_rank)
            centred = Sub(known, mean)
            scaled_0 = Div(centred, scale)
            {_regressions(model.preprocess.sweeps)}
            {_extra(len(categories))}
            inputs = Gather<axis = 1>(columns, selected)
            {encode}
            {decode}
            readable = Concat<axis = 1>(decoded, latent)
            {read}
            difference = Sub(restored, inputs)
            squared = Mul(difference, difference)
            reconstruction_error = ReduceMean<keepdims = 0>(squared, last_axis)
            latent_centred = Sub(latent, latent_mean)
            vector = MatMul(latent_centred, latent_axes)
        }}
    """)
    nodes = [*_label_encoders(categories), *parsed.graph.node]
    nodes += [
        isolation.tree_ensemble(trained.forest, "inputs", "mean_splits"),
        onnx.helper.make_node("Squeeze", ["mean_splits", "last_axis"], ["splits"]),
        onnx.helper.make_node("Div", ["splits", "minus_expected_splits"], ["exponent"]),
        onnx.helper.make_node("Pow", ["two", "exponent"], ["isolation_score"]),
    ]
    del parsed.graph.node[:]
    parsed.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    parsed.graph.initializer.extend(
        numpy_helper.from_array(tensor.detach().contiguous().numpy(), name) for name, tensor in constants.items() if name in used
    )
    parsed.producer_name = "shoal"
    onnx.checker.check_model(parsed, full_check=True)
    return parsed


def _regressions(sweeps: int) -> str:
    """Lines for scaled = scaled_0 with missing values imputed, in as many sweeps."""
    lines = []
    for sweep in range(sweeps):
        lines += [
            f"predicted_{sweep} = Gemm(scaled_{sweep}, weights, bias)",
            f"predicted_up_{sweep} = Max(predicted_{sweep}, scaled_low)",
            f"predicted_in_{sweep} = Min(predicted_up_{sweep}, scaled_high)",
            f"imputed_{sweep} = And(missing, {'chained' if sweep else 'regressed'})",
            f"scaled_{sweep + 1} = Where(imputed_{sweep}, predicted_in_{sweep}, scaled_{sweep})",
        ]
    return "\n".join([*lines, f"scaled = Identity(scaled_{sweeps})"])


def _extra(attributes: int) -> str:
    """Lines for columns = scaled, then the 0/1 columns of missing values and categories, centred and scaled."""
    lines, booleans = ["flags = Gather<axis = 1>(missing, flagged)"], "flags"
    if attributes:
        lines += [
            f"codes = Concat<axis = 1>({', '.join(f'codes_{place}' for place in range(attributes))})",
            "codes_by_category = Gather<axis = 1>(codes, attribute)",
            "one_hot = Equal(codes_by_category, category)",
        ]
        booleans = "flags, one_hot"
    lines += [
        f"booleans = Concat<axis = 1>({booleans})",
        "zeros_and_ones = Cast<to = 1>(booleans)",
        "extra_centred = Sub(zeros_and_ones, extra_mean)",
        "extra = Div(extra_centred, extra_scale)",
        "columns = Concat<axis = 1>(scaled, extra)",
    ]
    return "\n".join(lines)


def _label_encoders(categories: dict[str, list[str]]) -> Iterator[onnx.NodeProto]:
    """Nodes for codes_0 ...: as preprocessing.codes. Not in the text form, for a category may hold any character."""
    for place, known in enumerate(categories.values()):
        yield onnx.helper.make_node("Gather", ["attributes", f"attribute_{place}"], [f"texts_{place}"], axis=1)
        yield onnx.helper.make_node(
            "LabelEncoder",
            [f"texts_{place}"],
            [f"codes_{place}"],
            domain="ai.onnx.ml",
            keys_strings=["", *known],
            values_int64s=[preprocessing.MISSING, *range(len(known))],
            default_int64=len(known),
        )


def _network(name: str, network: nn.Sequential, source: str, target: str, constants: dict) -> str:
    """Lines for target = network(source); its weights are put into `constants`."""
    lines, at = [], source
    for number, layer in enumerate(network):
        here = f"{name}_{number}"
        if isinstance(layer, nn.Linear):
            lines.append(_affine(here, layer, at, constants))
        elif isinstance(layer, nn.LayerNorm):
            constants |= {f"{here}_weight": layer.weight, f"{here}_bias": layer.bias}
            lines.append(f"{here} = LayerNormalization<axis = -1, epsilon = {layer.eps}>({at}, {here}_weight, {here}_bias)")
        elif isinstance(layer, nn.SiLU):
            lines += [f"{here}_gate = Sigmoid({at})", f"{here} = Mul({at}, {here}_gate)"]
        elif isinstance(layer, nn.Dropout):
            continue  # it is for training alone
        else:
            raise TypeError(f"no ONNX form of {layer}")
        at = here
    return "\n".join([*lines, f"{target} = Identity({at})"])


def _affine(name: str, layer: nn.Linear, source: str, constants: dict) -> str:
    constants |= {f"{name}_weight": layer.weight, f"{name}_bias": layer.bias}
    return f"{name} = Gemm<transB = 1>({source}, {name}_weight, {name}_bias)"


def _answers(session: onnxruntime.InferenceSession, features: np.ndarray, attributes: np.ndarray) -> list[np.ndarray]:
    """The OUTPUTS for these customers."""
    return session.run(OUTPUTS, {"features": features} | ({"attributes": attributes} if attributes.shape[1] else {}))


def _require_equal(trained: Trained, session: onnxruntime.InferenceSession, rows: np.ndarray, texts: np.ndarray) -> None:
    coded = preprocessing.codes(
        [pa.array(column, pa.string()) for column in texts.T], list(trained.categories.values()), len(rows)
    )
    theirs = dict(zip(OUTPUTS, _answers(session, rows, texts), strict=True))
    inputs = session.run(["inputs"], {"features": rows} | ({"attributes": texts} if texts.shape[1] else {}))[0]
    with torch.no_grad():
        ours = dict(
            zip(
                OUTPUTS,
                (output.numpy() for output in trained.model(torch.from_numpy(rows), torch.from_numpy(coded))),
                strict=False,
            )
        )
    # On the graph's own columns: a split may part two that differ by less than the tolerance.
    ours[OUTPUTS[2]] = -trained.forest.score_samples(inputs)
    for name in OUTPUTS:
        if not np.allclose(theirs[name], ours[name], rtol=TOLERANCE, atol=TOLERANCE):
            furthest = np.abs(theirs[name] - ours[name]).max()
            raise UserError(
                f"train: {name} of encoder.onnx is {furthest:.1e} off what was trained, more than {TOLERANCE}; "
                "nothing was saved: install the locked library versions (make setup) and train again"
            )


def _plain(rows: np.ndarray) -> list[list[float | str | None]]:
    """JSON has no NaN and no infinities: null, "inf" and "-inf"."""
    return [[None if np.isnan(v) else float(v) if np.isfinite(v) else str(v) for v in row] for row in rows.tolist()]
