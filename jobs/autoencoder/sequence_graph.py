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
    lines = ["places = Add(codes, starts)", "embedded = Gather(embeddings, places)"]
    lines += ["summed = ReduceSum<keepdims = 0>(embedded, fields)", _norm_line("events", "norm", model.norm, "summed", constants)]
    lines += _gru_lines(model.gru, constants) if model.kind == "gru" else _transformer_lines(model, constants)
    lines += [
        *_linear_lines("projected", model.projection, "last", constants),
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
    """Return lines for `last`, the state after the last event of each sequence."""

    def reorder(weights: Tensor) -> Tensor:
        reset, update, new = weights.chunk(3)  # ONNX has the update gate first
        return torch.cat([update, reset, new])

    constants["gru_inputs"] = reorder(gru.weight_ih_l0)[None]
    constants["gru_states"] = reorder(gru.weight_hh_l0)[None]
    constants["gru_bias"] = torch.cat([reorder(gru.bias_ih_l0), reorder(gru.bias_hh_l0)])[None]
    constants["directions"] = torch.tensor([0])
    return [
        "steps = Transpose<perm = [1, 0, 2]>(events)",
        f"states, final = GRU<hidden_size = {gru.hidden_size}, linear_before_reset = 1>"
        "(steps, gru_inputs, gru_states, gru_bias, lengths)",
        "last = Squeeze(final, directions)",
    ]


def _transformer_lines(model: SequenceEncoder, constants: Constants) -> list[str]:
    """Return lines for `last`."""
    n_positions, width = model.positions.shape
    constants |= {"positions": model.positions, "zero": torch.tensor([0]), "one": torch.tensor([1]), "two": torch.tensor([2])}
    constants |= {"later": torch.full((n_positions, n_positions), -1e9).triu(1)}
    constants |= {"no": torch.tensor(0), "step": torch.tensor(1), "axes": torch.tensor([0, 1])}
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
    return [
        *lines,
        "n_steps = Squeeze(length, zero)",
        "numbers = Range(no, n_steps, step)",
        "long_lengths = Cast<to = 7>(lengths)",
        "ends = Sub(long_lengths, one)",
        "end_column = Unsqueeze(ends, one)",
        "is_last = Equal(numbers, end_column)",
        "weight = Cast<to = 1>(is_last)",
        "weights = Unsqueeze(weight, two)",
        f"weighted = Mul(states_{len(model.blocks)}, weights)",
        "last = ReduceSum<keepdims = 0>(weighted, one)",
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
