"""The training of the wide network, on the customers of a training and the groups of inputs that they have."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.customers import Customers
from jobs.autoencoder.export import N_GOLDEN_ROWS, N_VERIFICATION_ROWS, to_json_numbers
from jobs.autoencoder.fitting import fit_autoencoder
from jobs.autoencoder.group_blocks import append_blocks, fit_block, list_slices
from jobs.autoencoder.group_graph import TrainedGroups, build_groups, require_equal_groups, run_groups
from jobs.autoencoder.group_network import GroupAutoencoder
from jobs.autoencoder.sequence_training import TrainedSequenceEncoder
from jobs.autoencoder.training_data import TrainingData
from jobs.config.settings import Train
from jobs.event_sequences import encode_sequences
from jobs.input_groups import SEQUENCE, GroupVectors, list_learned

Groups = dict[str, GroupVectors]  # by group, the vectors of all customers of a training in the order they were read
Log = Callable[[str], None]


@dataclass(frozen=True)
class GroupsExport:
    """The graph of a wide network, its golden rows as JSON, and its part of meta.json: by group what was fitted."""

    graph: bytes
    golden: bytes
    meta: dict


def group_settings(settings: Train) -> dict:
    """Return the settings that only the wide network depends on."""
    return {name: value for name, value in asdict(settings).items() if name.startswith("group_")}


def hash_groups(groups: Groups, customers: Customers) -> list:
    """Return a fingerprint of the vectors of the customers; an empty list without groups."""
    order = np.argsort(customers.hashes, kind="stable")
    digests = {
        name: [vectors.model, hashlib.sha256(np.ascontiguousarray(vectors.matrix[order])).hexdigest()]
        for name, vectors in groups.items()
    }
    return [digests] if groups else []


def to_group(sequence: TrainedSequenceEncoder | None, version: str) -> Groups:
    """Return the sequence vectors of the customers that a sequence encoder was trained on; none without an encoder."""
    if sequence is None:
        return {}
    vectors = encode_sequences(sequence.content, sequence.sequences)
    return {SEQUENCE: GroupVectors(SEQUENCE, version, vectors)}


def train_groups(
    data: TrainingData, groups: Groups, settings: Train, checkpoint: CheckpointFile, log: Log
) -> GroupsExport | None:
    """Train the wide network as the plain one is, with the same settings, and check its graph; None where no group can be used.

    Raises UserError where the graph differs from torch.
    """
    feature_variance = float(data.inputs["train"].var(dim=0).sum())
    fitted_blocks = {name: fit_block(vectors, data.rows["train"], feature_variance, settings) for name, vectors in groups.items()}
    blocks = [block for block in fitted_blocks.values() if block]
    for name in groups.keys() - {block.group for block in blocks}:
        log(f"groups  {name}: too few customers of the training have a vector, or all the same; it is left out")
    if not blocks:
        return None
    slices = list_slices(data.inputs["train"].shape[1], blocks)
    widen = partial(append_blocks, blocks=blocks, groups=groups, allocate=data.storage.allocate)
    log(f"groups  {', '.join(f'{block.group} {block.facts}' for block in blocks)}")
    fitted = fit_autoencoder(
        data.parameters,
        [widen(inputs, rows=data.rows["train"]) for inputs in data.imputations],
        widen(data.inputs["validation"], rows=data.rows["validation"]),
        replace(settings, clusters=0),
        checkpoint,
        lambda text: log(f"groups  {text}"),
        allocate=data.storage.allocate,
        make_network=partial(GroupAutoencoder, blocks=slices, dropout=settings.group_dropout),
    )
    trained = TrainedGroups(fitted.model, blocks, data.categories)
    meta = {block.group: block.facts for block in blocks}
    return _export(trained, data, {name: vectors.matrix for name, vectors in groups.items()}, meta)


def _export(trained: TrainedGroups, data: TrainingData, matrices: dict[str, np.ndarray], meta: dict) -> GroupsExport:
    graph = build_groups(trained).SerializeToString()
    features, attributes = data.verification_rows
    vectors = {block.group: _select_rows(matrices[block.group], len(features)) for block in trained.blocks}
    outputs = run_groups(graph, features, attributes, vectors)
    require_equal_groups(trained, outputs, features, attributes, vectors)
    golden = {"features": to_json_numbers(features[:N_GOLDEN_ROWS]), "attributes": attributes[:N_GOLDEN_ROWS].tolist()}
    golden |= {name: to_json_numbers(matrix[:N_GOLDEN_ROWS]) for name, matrix in vectors.items()}
    golden |= {name: outputs[name][:N_GOLDEN_ROWS].tolist() for name in list_learned(trained.model.blocks)}
    return GroupsExport(graph, json.dumps(golden, indent=1, allow_nan=False).encode(), meta)


def _select_rows(matrix: np.ndarray, n_rows: int) -> np.ndarray:
    """Return the vectors of the customers of select_verification_rows(); every fifth row is one without a vector."""
    rows = np.resize(matrix[:: max(1, len(matrix) // N_VERIFICATION_ROWS)], (n_rows, matrix.shape[1]))
    rows[::5] = np.nan
    rows[1, 0] = np.inf
    return rows
