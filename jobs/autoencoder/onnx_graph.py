"""The encoder as one ONNX graph, which needs no torch: preprocessing, network, and isolation forest.

The graph is written in ONNX's text form. It is short, and tracing the network would take 7 s. A part of the graph is a function
that returns lines of this form and puts its numbers into `constants`, by the names that the lines use.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.parser
import torch
from onnx import numpy_helper
from sklearn.ensemble import IsolationForest
from torch import Tensor, nn

from jobs.autoencoder import isolation_forest, preprocessing
from jobs.autoencoder.model import Autoencoder
from jobs.autoencoder.preprocessing import Preprocessor

OUTPUTS = ["vector", "reconstruction_error", "isolation_score", "inputs", "components"]

Constants = dict[str, Tensor]


@dataclass(frozen=True)
class TrainedModel:
    """All that was fitted."""

    model: Autoencoder
    forest: IsolationForest
    categories: dict[str, list[str]]  # by attribute
    pca: tuple[Tensor, Tensor]  # mean (n_inputs,) and axes (n_inputs, n_latent), as model.principal_components returns them


def build_encoder(trained: TrainedModel) -> onnx.ModelProto:
    """Return preprocessing, `Autoencoder.forward`, isolation forest and PCA as one ONNX model.

    Inputs: `features` float32 (n_rows, n_features), NaN or infinite = missing; if there are attributes, `attributes` text
    (n_rows, n_attributes), empty = missing. Outputs: `vector` (n_rows, n_latent), `reconstruction_error` (n_rows,), the mean
    squared error in scaled units, `isolation_score` (n_rows,), see isolation_forest.py, and for comparisons `inputs` (n_rows,
    n_inputs), the inputs of the network, and `components` (n_rows, n_latent), their principal components.
    """
    model = trained.model
    constants: Constants = {"latent_mean": model.latent_mean, "latent_axes": model.latent_axes}
    constants |= dict(zip(("input_mean", "input_axes"), trained.pca, strict=True)) | shared_constants(trained.categories)
    return to_graph(_encoder_text(trained, constants), constants, trained.categories, _isolation_nodes(trained.forest))


def to_graph(
    text: str, constants: Constants, categories: dict[str, list[str]], last_nodes: Sequence[onnx.NodeProto] = ()
) -> onnx.ModelProto:
    """Return the checked model of a graph in text form, with nodes for the codes of the categories before and others after it."""
    encoder = onnx.parser.parse_model(text)
    nodes = [*_label_encoder_nodes(categories), *encoder.graph.node, *last_nodes]
    del encoder.graph.node[:]
    encoder.graph.node.extend(nodes)
    used_names = {name for node in nodes for name in node.input}
    encoder.graph.initializer.extend(
        numpy_helper.from_array(tensor.detach().contiguous().numpy(), name)
        for name, tensor in constants.items()
        if name in used_names
    )
    encoder.producer_name = "shoal"
    onnx.checker.check_model(encoder, full_check=True)
    return encoder


def shared_constants(categories: dict[str, list[str]]) -> Constants:
    """Return the constants that the lines of any graph use."""
    constants: Constants = {"zero": torch.zeros(()), "one": torch.ones(())}
    constants |= {"last_axis": torch.tensor([1]), "knot_axis": torch.tensor([2])}
    return constants | {f"attribute_{index}": torch.tensor([index]) for index in range(len(categories))}


def _encoder_text(trained: TrainedModel, constants: Constants) -> str:
    model, n_attributes = trained.model, len(trained.categories)
    preprocess_lines = input_lines(model.preprocess, n_attributes, constants)
    expected = isolation_forest.expected_path_length(np.array(trained.forest.max_samples_))
    constants["minus_expected_path_length"] = torch.tensor(-max(float(expected), 1e-6))
    constants["two"] = torch.tensor(2.0)
    encode_lines = network_lines("encoder", model.encoder, "inputs", "latent", constants)
    decode_lines = network_lines("decoder", model.decoder, "latent", "decoded", constants)
    reconstruct_line = _linear_line("reconstruction", model.reconstruction_head, "reconstruction_inputs", constants)
    attributes = f", string[n, {n_attributes}] attributes" if n_attributes else ""
    return f"""
        <ir_version: 8, opset_import: ["": 18, "ai.onnx.ml": 3]>
        shoal_encoder (float[n, {len(model.preprocess.fill)}] features{attributes})
            => (float[n, {model.sizes.latent}] vector, float[n] reconstruction_error, float[n] isolation_score,
                float[n, {model.sizes.inputs}] inputs, float[n, {trained.pca[1].shape[1]}] components)
        {{
            {preprocess_lines}
            {encode_lines}
            {decode_lines}
            reconstruction_inputs = Concat<axis = 1>(decoded, latent)
            {reconstruct_line}
            difference = Sub(reconstruction, inputs)
            squared = Mul(difference, difference)
            reconstruction_error = ReduceMean<keepdims = 0>(squared, last_axis)
            latent_centred = Sub(latent, latent_mean)
            vector = MatMul(latent_centred, latent_axes)
            inputs_centred = Sub(inputs, input_mean)
            components = MatMul(inputs_centred, input_axes)
        }}
    """


def input_lines(preprocess: Preprocessor, n_attributes: int, constants: Constants) -> str:
    """Return lines for `inputs`, as Preprocessor.forward computes them.

    They compute the features that the network needs, in an order that groups features of the same transform.
    """
    n_features, selected, kinds = len(preprocess.fill), preprocess.selected, preprocessing.transform_kinds(preprocess)
    selected_features, selected_extra = selected[selected < n_features], selected[selected >= n_features] - n_features
    computed = torch.arange(n_features) if preprocess.n_sweeps else selected_features  # a regression needs all features
    computed = computed[torch.argsort(kinds[computed], stable=True)]
    constants |= {name: getattr(preprocess, name)[computed] for name in _FEATURE_PARAMETERS}
    constants["weights"] = preprocess.weights[computed][:, computed]
    ranked_rows = _places_of(preprocess.ranked, n_features)[computed[kinds[computed] == 2]]
    constants |= {name: getattr(preprocess, name)[ranked_rows] for name in ("knots", "widths", "gains")}
    places = _places_of(computed, n_features)[selected_features]
    lines = [
        _gather_line("features", "raw", computed, n_features, constants),
        "nan = IsNaN(raw)",
        "infinite = IsInf(raw)",
        "missing = Or(nan, infinite)",
        "filled = Where(missing, fill, raw)",
        "raised_to_low = Max(filled, low)",
        "winsorised = Min(raised_to_low, high)",
        *_transform_lines(kinds[computed], constants),
        "centred = Sub(transformed, mean)",
        "scaled_0 = Div(centred, scale)",
        *_regression_lines(preprocess.n_sweeps),
        _gather_line("scaled", "numeric_inputs", places, len(computed), constants),
        *_extra_lines(preprocess, selected_extra, n_attributes, constants),
    ]
    return "\n".join(lines)


_FEATURE_PARAMETERS = ("fill", "low", "high", "mean", "scale", "scaled_low", "scaled_high", "regressed", "chained", "bias")


def _places_of(features: Tensor, n_features: int) -> Tensor:
    """Return the index of each feature (n_features,) among `features`, 0 for one that is not among them.

    >>> _places_of(torch.tensor([2, 0]), 4).tolist()
    [1, 0, 0, 0]
    """
    places = torch.zeros(n_features, dtype=torch.int64)
    places[features] = torch.arange(len(features))
    return places


def _gather_line(source: str, target: str, columns: Tensor, n_source_columns: int, constants: Constants) -> str:
    """Return the line for `target`, these columns of `source`; Gather copies, so it is left out where they are all columns."""
    if columns.tolist() == list(range(n_source_columns)):
        return f"{target} = Identity({source})"
    constants[f"{target}_places"] = columns
    return f"{target} = Gather<axis = 1>({source}, {target}_places)"


def _transform_lines(kinds: Tensor, constants: Constants) -> list[str]:
    """Return lines for `transformed`, the winsorised features with logarithms and ranks; their kinds are in ascending order."""
    counts = torch.bincount(kinds, minlength=3)
    plain, logged, ranked = (f"kind_{kind}" for kind in range(3))
    present_kinds = [kind for kind in range(3) if counts[kind]]
    constants["counts"] = counts[present_kinds]
    lines = [f"{', '.join(f'kind_{kind}' for kind in present_kinds)} = Split<axis = 1>(winsorised, counts)"]
    if counts[1]:
        lines += [
            f"magnitude = Abs({logged})",
            "one_plus_magnitude = Add(one, magnitude)",
            "log_magnitude = Log(one_plus_magnitude)",
            f"sign = Sign({logged})",
            "logs = Mul(sign, log_magnitude)",
        ]
    if counts[2]:
        lines += [
            f"ranked_values = Unsqueeze({ranked}, knot_axis)",
            "distances_to_knot = Sub(ranked_values, knots)",
            "parts = Div(distances_to_knot, widths)",
            "clipped_parts = Clip(parts, zero, one)",
            "rank_gains = Mul(clipped_parts, gains)",
            "ranks = ReduceSum<keepdims = 0>(rank_gains, knot_axis)",
        ]
    parts = ", ".join([plain, "logs", "ranks"][kind] for kind in present_kinds)
    return [*lines, f"transformed = Concat<axis = 1>({parts})"]


def _regression_lines(n_sweeps: int) -> Iterator[str]:
    """Yield lines for `scaled`, scaled_0 with missing values imputed in so many sweeps."""
    for sweep in range(n_sweeps):
        yield f"predicted_{sweep} = Gemm(scaled_{sweep}, weights, bias)"
        yield f"predicted_from_low_{sweep} = Max(predicted_{sweep}, scaled_low)"
        yield f"predicted_within_limits_{sweep} = Min(predicted_from_low_{sweep}, scaled_high)"
        yield f"is_imputed_{sweep} = And(missing, {'chained' if sweep else 'regressed'})"
        yield f"scaled_{sweep + 1} = Where(is_imputed_{sweep}, predicted_within_limits_{sweep}, scaled_{sweep})"
    yield f"scaled = Identity(scaled_{n_sweeps})"


def _extra_lines(preprocess: Preprocessor, extra: Tensor, n_attributes: int, constants: Constants) -> Iterator[str]:
    """Yield lines for `inputs`: the numbers, then the flags and categories in `extra`, centred and scaled."""
    if not len(extra):
        yield "inputs = Identity(numeric_inputs)"
        return
    n_flags, booleans = len(preprocess.flagged), []
    flags, categories = extra[extra < n_flags], extra[extra >= n_flags] - n_flags
    constants |= {"extra_mean": preprocess.extra_mean[extra], "extra_scale": preprocess.extra_scale[extra]}
    if len(flags):
        constants["flagged"] = preprocess.flagged[flags]
        yield "flagged_features = Gather<axis = 1>(features, flagged)"
        yield "flagged_nan = IsNaN(flagged_features)"
        yield "flagged_infinite = IsInf(flagged_features)"
        yield "flags = Or(flagged_nan, flagged_infinite)"
        booleans.append("flags")
    if len(categories):
        constants |= {"attribute": preprocess.attribute[categories], "category": preprocess.category[categories]}
        yield f"codes = Concat<axis = 1>({', '.join(f'codes_{index}' for index in range(n_attributes))})"
        yield "codes_by_category = Gather<axis = 1>(codes, attribute)"
        yield "one_hot = Equal(codes_by_category, category)"
        booleans.append("one_hot")
    yield f"booleans = Concat<axis = 1>({', '.join(booleans)})"
    yield "zeros_and_ones = Cast<to = 1>(booleans)"
    yield "extra_centred = Sub(zeros_and_ones, extra_mean)"
    yield "extra = Div(extra_centred, extra_scale)"
    yield "inputs = Concat<axis = 1>(numeric_inputs, extra)"


def network_lines(name: str, network: nn.Sequential, source: str, target: str, constants: Constants) -> str:
    """Return lines for `target`, the network applied to `source`."""
    lines = []
    for number, layer in enumerate(network):
        output = f"{name}_{number}"
        if isinstance(layer, nn.Linear):
            lines.append(_linear_line(output, layer, source, constants))
        elif isinstance(layer, nn.LayerNorm):
            constants |= {f"{output}_weight": layer.weight, f"{output}_bias": layer.bias}
            arguments = f"{source}, {output}_weight, {output}_bias"
            lines.append(f"{output} = LayerNormalization<axis = -1, epsilon = {layer.eps}>({arguments})")
        elif isinstance(layer, nn.SiLU):
            lines += [f"{output}_gate = Sigmoid({source})", f"{output} = Mul({source}, {output}_gate)"]
        elif isinstance(layer, nn.Dropout):
            continue  # only for training
        else:
            raise TypeError(f"no ONNX form of {layer}")
        source = output
    return "\n".join([*lines, f"{target} = Identity({source})"])


def _linear_line(output: str, layer: nn.Linear, source: str, constants: Constants) -> str:
    constants |= {f"{output}_weight": layer.weight, f"{output}_bias": layer.bias}
    return f"{output} = Gemm<transB = 1>({source}, {output}_weight, {output}_bias)"


def _label_encoder_nodes(categories: dict[str, list[str]]) -> Iterator[onnx.NodeProto]:
    """Yield nodes for codes_0 and so on, as encode_categories returns them; the text form cannot hold every category."""
    for index, names in enumerate(categories.values()):
        yield onnx.helper.make_node("Gather", ["attributes", f"attribute_{index}"], [f"texts_{index}"], axis=1)
        yield onnx.helper.make_node(
            "LabelEncoder",
            [f"texts_{index}"],
            [f"codes_{index}"],
            domain="ai.onnx.ml",
            keys_strings=["", *names],
            values_int64s=[preprocessing.MISSING, *range(len(names))],
            default_int64=len(names),
        )


def _isolation_nodes(forest: IsolationForest) -> list[onnx.NodeProto]:
    return [
        isolation_forest.to_onnx_node(forest, "inputs", "mean_path_length"),
        onnx.helper.make_node("Squeeze", ["mean_path_length", "last_axis"], ["path_length"]),
        onnx.helper.make_node("Div", ["path_length", "minus_expected_path_length"], ["exponent"]),
        onnx.helper.make_node("Pow", ["two", "exponent"], ["isolation_score"]),
    ]
