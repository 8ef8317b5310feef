"""groups.onnx: the vectors that the wide network gives a customer, by the features and by each choice of groups."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import torch
from torch import Tensor

from jobs.autoencoder.export import require_equal
from jobs.autoencoder.group_blocks import GroupBlock
from jobs.autoencoder.group_network import GroupAutoencoder
from jobs.autoencoder.onnx_graph import Constants, input_lines, network_lines, shared_constants, to_graph
from jobs.autoencoder.preprocessing import encode_categories
from jobs.encoder import JOINT
from jobs.input_groups import list_learned


@dataclass(frozen=True)
class TrainedGroups:
    """All that was fitted for customers with groups."""

    model: GroupAutoencoder
    blocks: list[GroupBlock]
    categories: dict[str, list[str]]  # by attribute


def build_groups(trained: TrainedGroups) -> onnx.ModelProto:
    """Return preprocessing, blocks and encoder as one ONNX model.

    Inputs: `features` and `attributes` as those of encoder.onnx, and by its name a matrix of float32 (n_rows, d) for each
    group, a row of NaN where the customer has no vector. Outputs: for each learned embedding of list_learned() its vectors
    (n_rows, n_latent), and for comparisons `joint` (n_rows, n_inputs), the inputs of the network with all groups.
    """
    model, n_attributes = trained.model, len(trained.categories)
    constants = shared_constants(trained.categories)
    preprocess_lines = input_lines(model.preprocess, n_attributes, constants)
    block_lines = "\n".join(_block_lines(block, constants) for block in trained.blocks)
    output_lines = "\n".join(_output_lines(trained, name, constants) for name in model.outputs)
    attributes = f", string[n, {n_attributes}] attributes" if n_attributes else ""
    vectors = "".join(f", float[n, {len(block.mean)}] {block.group}" for block in trained.blocks)
    outputs = ", ".join(f"float[n, {model.sizes.latent}] {name}" for name in model.outputs)
    text = f"""
        <ir_version: 8, opset_import: ["": 18, "ai.onnx.ml": 3]>
        shoal_groups (float[n, {len(model.preprocess.fill)}] features{attributes}{vectors})
            => ({outputs}, float[n, {model.sizes.inputs}] {JOINT})
        {{
            {preprocess_lines}
            {block_lines}
            {JOINT} = Concat<axis = 1>(inputs, {", ".join(f"{block.group}_block" for block in trained.blocks)})
            {output_lines}
        }}
    """
    return to_graph(text, constants, trained.categories)


def _block_lines(block: GroupBlock, constants: Constants) -> str:
    """Return lines for the block of a group, as GroupBlock.reduce computes it, and for the zeros in its place."""
    group = block.group
    constants |= {f"{group}_mean": block.mean, f"{group}_axes": block.axes}
    return f"""
        {group}_difference = Sub({group}, {group})
        {group}_total = ReduceSum({group}_difference, last_axis)
        {group}_missing = IsNaN({group}_total)
        {group}_centred = Sub({group}, {group}_mean)
        {group}_components = MatMul({group}_centred, {group}_axes)
        {group}_block = Where({group}_missing, zero, {group}_components)
        {group}_hidden = Mul({group}_block, zero)
    """


def _output_lines(trained: TrainedGroups, name: str, constants: Constants) -> str:
    """Return lines for the vectors of one representation."""
    shown = list_learned(trained.model.blocks)[name]
    blocks = (f"{block.group}_{'block' if block.group in shown else 'hidden'}" for block in trained.blocks)
    constants |= dict(zip((f"{name}_mean", f"{name}_axes"), trained.model.outputs[name], strict=True))
    encoder = network_lines(name, trained.model.encoder, f"{name}_inputs", f"{name}_latent", constants)
    return f"""
        {name}_inputs = Concat<axis = 1>(inputs, {", ".join(blocks)})
        {encoder}
        {name}_latent_centred = Sub({name}_latent, {name}_mean)
        {name} = MatMul({name}_latent_centred, {name}_axes)
    """


def run_groups(
    graph: bytes, features: np.ndarray, attributes: np.ndarray, vectors: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the outputs by name for rows of customers."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    inputs = {"features": features} | ({"attributes": attributes} if attributes.shape[1] else {}) | vectors
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@torch.no_grad()
def require_equal_groups(
    trained: TrainedGroups,
    outputs: dict[str, np.ndarray],
    features: np.ndarray,
    attributes: np.ndarray,
    vectors: dict[str, np.ndarray],
) -> None:
    """Raise UserError where the graph's outputs differ from torch's by more than the tolerance."""
    texts = [pa.array(column, pa.string()) for column in attributes.T]
    codes = encode_categories(texts, list(trained.categories.values()), len(features))
    inputs = trained.model.preprocess(torch.from_numpy(features), torch.from_numpy(codes))
    blocks: list[Tensor] = [block.reduce(torch.from_numpy(vectors[block.group])) for block in trained.blocks]
    joint = torch.cat([inputs, *blocks], dim=1)
    expected = {JOINT: joint} | trained.model.represent(joint)
    for name, output in outputs.items():
        require_equal(name, "groups.onnx", output, expected[name].numpy())
