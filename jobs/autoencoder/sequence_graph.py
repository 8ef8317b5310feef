"""The sequence encoder as one ONNX graph, which needs no torch. It is written in ONNX's text form, as in onnx_graph.py."""

import math

import onnx
import onnx.parser
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from jobs.autoencoder.sequence_model import HEADS, Block, SequenceEncoder
from jobs.event_sequences import VOCABULARY_KEY, Vocabulary, write_vocabulary

Constants = dict[str, Tensor]


def build_sequence_encoder(model: SequenceEncoder, vocabulary: Vocabulary) -> bytes:
    """Return `SequenceEncoder.forward` as an ONNX model, with the vocabulary in its metadata.

    Inputs: `codes` int64 (n, length, n_fields), padded at the end, and `lengths` int32 (n,), at least 1. Output: `vector` float32
    (n, dimension).
    """
    constants: Constants = {"embeddings": model.embeddings, "starts": model.starts, "fields": torch.tensor([2])}
    constants |= {"is_order": model.is_order}
    lines = ["order = Mul(codes, is_order)", "places = Add(order, starts)", "embedded = Gather(embeddings, places)"]
    lines += ["summed = ReduceSum<keepdims = 0>(embedded, fields)", _norm_line("events", "norm", model.norm, "summed", constants)]
    lines += _gru_lines(model.gru, constants) if model.kind == "gru" else _transformer_lines(model, constants)
    lines += [
        *_mean_lines(constants),
        *_linear_lines("projected", model.projection, "mean", constants),
        "vector = LpNormalization<axis = 1, p = 2>(projected)",
    ]
    body = "\n".join(lines)
    graph = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 18]>
        shoal_sequence_encoder (int64[n, l, {len(model.sizes)}] codes, int32[n] lengths)
            => (float[n, {model.projection.out_features}] vector)
        {{ {body} }}
    """)
    graph.graph.initializer.extend(
        numpy_helper.from_array(tensor.detach().cpu().contiguous().numpy(), name) for name, tensor in constants.items()
    )
    graph.producer_name = "shoal"
    onnx.helper.set_model_props(graph, {VOCABULARY_KEY: write_vocabulary(vocabulary)})
    onnx.checker.check_model(graph, full_check=True)
    return graph.SerializeToString()


def _gru_lines(gru: nn.GRU, constants: Constants) -> list[str]:
    """Return lines for `states`, the state after each event (n, length, width)."""

    def reorder(weights: Tensor) -> Tensor:
        reset, update, new = weights.chunk(3)  # ONNX has the update gate first
        return torch.cat([update, reset, new])

    constants["gru_inputs"] = reorder(gru.weight_ih_l0)[None]
    constants["gru_states"] = reorder(gru.weight_hh_l0)[None]
    constants["gru_bias"] = torch.cat([reorder(gru.bias_ih_l0), reorder(gru.bias_hh_l0)])[None]
    constants["direction"] = torch.tensor([1])
    return [
        "steps = Transpose<perm = [1, 0, 2]>(events)",
        f"states_by_step, final = GRU<hidden_size = {gru.hidden_size}, linear_before_reset = 1>"
        "(steps, gru_inputs, gru_states, gru_bias, lengths)",
        "states_one_way = Squeeze(states_by_step, direction)",
        "states = Transpose<perm = [1, 0, 2]>(states_one_way)",
    ]


def _transformer_lines(model: SequenceEncoder, constants: Constants) -> list[str]:
    """Return lines for `states`, as _gru_lines does."""
    n_positions, width = model.positions.shape
    constants |= {"positions": model.positions, "zero": torch.tensor([0]), "one": torch.tensor([1]), "two": torch.tensor([2])}
    constants |= {"later": torch.full((n_positions, n_positions), -1e9).triu(1)}
    constants |= {"axes": torch.tensor([0, 1])}
    constants |= {"scale": torch.tensor(1 / math.sqrt(width // HEADS)), "heads": torch.tensor([0, 0, 3 * HEADS, width // HEADS])}
    constants |= {"flat": torch.tensor([0, 0, width])}
    lines = [
        "shape = Shape(codes)",
        "length = Slice(shape, one, two)",
        "both = Concat<axis = 0>(length, length)",
        "here = Slice(positions, zero, length, zero)",
        "origin = Concat<axis = 0>(zero, zero)",
        "mask = Slice(later, origin, both, axes)",
        "states_0 = Add(events, here)",
    ]
    for number, block in enumerate(model.blocks):
        lines += _block_lines(number, block, constants)
    return [*lines, f"states = Identity(states_{len(model.blocks)})"]


def _mean_lines(constants: Constants) -> list[str]:
    """Return lines for `mean`, the mean state of the events of each sequence, without its padding."""
    constants |= {
        "first": torch.tensor(0),
        "step": torch.tensor(1),
        "step_axis": torch.tensor([1]),
        "width_axis": torch.tensor([2]),
    }
    constants |= {"length_place": torch.tensor([1])}
    return [
        "codes_shape = Shape(codes)",
        "longest = Gather(codes_shape, length_place)",
        "n_steps = Squeeze(longest)",
        "step_numbers = Range(first, n_steps, step)",
        "long_lengths = Cast<to = 7>(lengths)",
        "length_column = Unsqueeze(long_lengths, step_axis)",
        "is_event = Less(step_numbers, length_column)",
        "counts = Cast<to = 1>(is_event)",
        "events_mask = Unsqueeze(counts, width_axis)",
        "states_of_events = Mul(states, events_mask)",
        "state_sums = ReduceSum<keepdims = 0>(states_of_events, step_axis)",
        "float_lengths = Cast<to = 1>(length_column)",
        "mean = Div(state_sums, float_lengths)",
    ]


def _block_lines(n: int, block: Block, constants: Constants) -> list[str]:
    """Return lines for `states_{n + 1}`, as Block.forward computes them of `states_n`."""
    return [
        _norm_line(f"normed_{n}", f"attention_norm_{n}", block.attention_norm, f"states_{n}", constants),
        *_linear_lines(f"parts_{n}", block.inputs, f"normed_{n}", constants),
        f"split_{n} = Reshape(parts_{n}, heads)",
        f"turned_{n} = Transpose<perm = [0, 2, 1, 3]>(split_{n})",
        f"query_{n}, key_{n}, value_{n} = Split<axis = 1, num_outputs = 3>(turned_{n})",
        f"key_turned_{n} = Transpose<perm = [0, 1, 3, 2]>(key_{n})",
        f"products_{n} = MatMul(query_{n}, key_turned_{n})",
        f"scaled_{n} = Mul(products_{n}, scale)",
        f"masked_{n} = Add(scaled_{n}, mask)",
        f"attention_{n} = Softmax<axis = -1>(masked_{n})",
        f"attended_{n} = MatMul(attention_{n}, value_{n})",
        f"back_{n} = Transpose<perm = [0, 2, 1, 3]>(attended_{n})",
        f"joined_{n} = Reshape(back_{n}, flat)",
        *_linear_lines(f"outputs_{n}", block.outputs, f"joined_{n}", constants),
        f"between_{n} = Add(states_{n}, outputs_{n})",
        _norm_line(f"between_normed_{n}", f"layer_norm_{n}", block.layer_norm, f"between_{n}", constants),
        *_linear_lines(f"wide_{n}", block.wide, f"between_normed_{n}", constants),
        f"positive_{n} = Relu(wide_{n})",
        *_linear_lines(f"narrow_{n}", block.narrow, f"positive_{n}", constants),
        f"states_{n + 1} = Add(between_{n}, narrow_{n})",
    ]


def _linear_lines(output: str, layer: nn.Linear, input: str, constants: Constants) -> list[str]:
    constants |= {f"{output}_weight": layer.weight.T, f"{output}_bias": layer.bias}
    return [f"{output}_product = MatMul({input}, {output}_weight)", f"{output} = Add({output}_product, {output}_bias)"]


def _norm_line(output: str, name: str, norm: nn.LayerNorm, input: str, constants: Constants) -> str:
    constants |= {f"{name}_weight": norm.weight, f"{name}_bias": norm.bias}
    return f"{output} = LayerNormalization<axis = -1, epsilon = {norm.eps}>({input}, {name}_weight, {name}_bias)"
