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
OUTPUTS = ["vector", "reconstruction_error", "isolation_score", "inputs", "components"]


@dataclass(frozen=True)
class Trained:
    """All that was fitted."""

    model: Autoencoder
    forest: IsolationForest
    categories: dict[str, list[str]]  # by attribute
    pca: tuple[Tensor, Tensor]  # mean and axes, as of model.components


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
    units), `isolation_score` (n, as of isolation.py), and what the vector is held against: `inputs`, the columns that the
    network saw, and `components` (n x latent), their principal components.
    """
    model, categories = trained.model, trained.categories
    constants: dict[str, Tensor] = {"latent_mean": model.latent_mean, "latent_axes": model.latent_axes}
    constants |= dict(zip(("input_mean", "input_axes"), trained.pca, strict=True))
    constants |= {"zero": torch.zeros(()), "one": torch.ones(()), "last_axis": torch.tensor([1]), "knot_axis": torch.tensor([2])}
    constants |= {f"attribute_{place}": torch.tensor([place]) for place in range(len(categories))}
    columns = _columns(model.preprocess, len(categories), constants)
    expected = isolation.expected_splits(np.array(trained.forest.max_samples_))
    constants["minus_expected_splits"] = torch.tensor(-max(float(expected), 1e-6))
    constants["two"] = torch.tensor(2.0)
    encode = _network("encoder", model.encoder, "inputs", "latent", constants)
    decode = _network("decoder", model.decoder, "latent", "decoded", constants)
    read = _affine("restored", model.own, "readable", constants)
    texts = f", string[n, {len(categories)}] attributes" if categories else ""
    parsed = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 18, "ai.onnx.ml": 3]>
        shoal_encoder (float[n, {len(model.preprocess.fill)}] features{texts})
            => (float[n, {model.sizes.latent}] vector, float[n] reconstruction_error, float[n] isolation_score,
                float[n, {model.sizes.inputs}] inputs, float[n, {trained.pca[1].shape[1]}] components)
        {{
            {columns}
            {encode}
            {decode}
            readable = Concat<axis = 1>(decoded, latent)
            {read}
            difference = Sub(restored, inputs)
            squared = Mul(difference, difference)
            reconstruction_error = ReduceMean<keepdims = 0>(squared, last_axis)
            latent_centred = Sub(latent, latent_mean)
            vector = MatMul(latent_centred, latent_axes)
            inputs_centred = Sub(inputs, input_mean)
            components = MatMul(inputs_centred, input_axes)
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


def _columns(preprocess: preprocessing.Preprocess, attributes: int, constants: dict[str, Tensor]) -> str:
    """Lines for inputs = the columns that the network sees; their numbers are put into `constants`.

    Only features that it needs are worked on, in an order in which those alike in kind are neighbours.
    """
    d, selected, kinds = len(preprocess.fill), preprocess.selected, preprocessing.kinds(preprocess)
    seen, extra = selected[selected < d], selected[selected >= d] - d
    used = torch.arange(d) if preprocess.sweeps else seen  # a regression needs all others
    used = used[torch.argsort(kinds[used], stable=True)]
    constants |= {name: getattr(preprocess, name)[used] for name in _BY_FEATURE}
    constants["weights"] = preprocess.weights[used][:, used]
    rows = _places(preprocess.ranked, d)[used[kinds[used] == 2]]
    constants |= {name: getattr(preprocess, name)[rows] for name in ("knots", "widths", "gains")}
    lines = [
        _gathered("features", "known", used, d, constants),
        "nan = IsNaN(known)",
        "infinite = IsInf(known)",
        "missing = Or(nan, infinite)",
        "filled = Where(missing, fill, known)",
        "raised = Max(filled, low)",
        "winsorised = Min(raised, high)",
        *_by_kind(kinds[used], constants),
        "centred = Sub(shaped, mean)",
        "scaled_0 = Div(centred, scale)",
        *_regressions(preprocess.sweeps),
        _gathered("scaled", "numbers", _places(used, d)[seen], len(used), constants),
        *_extra(preprocess, extra, attributes, constants),
    ]
    return "\n".join(lines)


_BY_FEATURE = ("fill", "low", "high", "mean", "scale", "scaled_low", "scaled_high", "regressed", "chained", "bias")


def _places(features: Tensor, d: int) -> Tensor:
    """d int64: where each of these stands among them, 0 for a feature that is not there.

    >>> _places(torch.tensor([2, 0]), 4).tolist()
    [1, 0, 0, 0]
    """
    places = torch.zeros(d, dtype=torch.int64)
    places[features] = torch.arange(len(features))
    return places


def _gathered(source: str, target: str, places: Tensor, of: int, constants: dict[str, Tensor]) -> str:
    """The line for target = the columns at these places of source, which has so many; copying all of them would be dear."""
    if places.tolist() == list(range(of)):
        return f"{target} = Identity({source})"
    constants[f"{target}_places"] = places
    return f"{target} = Gather<axis = 1>({source}, {target}_places)"


def _by_kind(kinds: Tensor, constants: dict[str, Tensor]) -> list[str]:
    """Lines for shaped = winsorised features (of these kinds, in order), those of them logged or ranked that are to be."""
    counts = torch.bincount(kinds, minlength=3)
    plain, logged, ranked = (f"kind_{kind}" for kind in range(3))
    found = [kind for kind in range(3) if counts[kind]]
    constants["counts"] = counts[found]
    lines = [f"{', '.join(f'kind_{kind}' for kind in found)} = Split<axis = 1>(winsorised, counts)"]
    if counts[1]:
        lines += [
            f"size = Abs({logged})",
            "size_from_one = Add(one, size)",
            "log_size = Log(size_from_one)",
            f"sign = Sign({logged})",
            "logs = Mul(sign, log_size)",
        ]
    if counts[2]:
        lines += [
            f"by_knot = Unsqueeze({ranked}, knot_axis)",
            "past_knot = Sub(by_knot, knots)",
            "parts = Div(past_knot, widths)",
            "passed = Clip(parts, zero, one)",
            "gained = Mul(passed, gains)",
            "ranks = ReduceSum<keepdims = 0>(gained, knot_axis)",
        ]
    return [*lines, f"shaped = Concat<axis = 1>({', '.join([plain, 'logs', 'ranks'][kind] for kind in found)})"]


def _regressions(sweeps: int) -> Iterator[str]:
    """Lines for scaled = scaled_0 with missing values imputed, in as many sweeps."""
    for sweep in range(sweeps):
        yield f"predicted_{sweep} = Gemm(scaled_{sweep}, weights, bias)"
        yield f"predicted_up_{sweep} = Max(predicted_{sweep}, scaled_low)"
        yield f"predicted_in_{sweep} = Min(predicted_up_{sweep}, scaled_high)"
        yield f"imputed_{sweep} = And(missing, {'chained' if sweep else 'regressed'})"
        yield f"scaled_{sweep + 1} = Where(imputed_{sweep}, predicted_in_{sweep}, scaled_{sweep})"
    yield f"scaled = Identity(scaled_{sweeps})"


def _extra(preprocess: preprocessing.Preprocess, extra: Tensor, attributes: int, constants: dict[str, Tensor]) -> Iterator[str]:
    """Lines for inputs = numbers, then the 0/1 columns of missing values and categories, centred and scaled."""
    if not len(extra):
        yield "inputs = Identity(numbers)"
        return
    f, booleans = len(preprocess.flagged), []
    flags, one_hot = extra[extra < f], extra[extra >= f] - f
    constants |= {"extra_mean": preprocess.extra_mean[extra], "extra_scale": preprocess.extra_scale[extra]}
    if len(flags):
        constants["flagged"] = preprocess.flagged[flags]
        yield "flaggable = Gather<axis = 1>(features, flagged)"
        yield "flagged_nan = IsNaN(flaggable)"
        yield "flagged_infinite = IsInf(flaggable)"
        yield "flags = Or(flagged_nan, flagged_infinite)"
        booleans.append("flags")
    if len(one_hot):
        constants |= {"attribute": preprocess.attribute[one_hot], "category": preprocess.category[one_hot]}
        yield f"codes = Concat<axis = 1>({', '.join(f'codes_{place}' for place in range(attributes))})"
        yield "codes_by_category = Gather<axis = 1>(codes, attribute)"
        yield "one_hot = Equal(codes_by_category, category)"
        booleans.append("one_hot")
    yield f"booleans = Concat<axis = 1>({', '.join(booleans)})"
    yield "zeros_and_ones = Cast<to = 1>(booleans)"
    yield "extra_centred = Sub(zeros_and_ones, extra_mean)"
    yield "extra = Div(extra_centred, extra_scale)"
    yield "inputs = Concat<axis = 1>(numbers, extra)"


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
    with torch.no_grad():
        inputs = trained.model.preprocess(torch.from_numpy(rows), torch.from_numpy(coded))
        vectors, errors = trained.model(torch.from_numpy(rows), torch.from_numpy(coded))
        ours = {
            "vector": vectors.numpy(),
            "reconstruction_error": errors.numpy(),
            # on the graph's own columns: a split may part two that differ by less than the tolerance
            "isolation_score": -trained.forest.score_samples(theirs["inputs"]),
            "inputs": inputs.numpy(),
            "components": ((inputs - trained.pca[0]) @ trained.pca[1]).numpy(),
        }
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
