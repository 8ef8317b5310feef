"""What customers are clustered by: the representations of a model, and the encoder that gives them.

| representation | what it is | from |
|---|---|---|
| learned | the learned embedding of the features | encoder.onnx |
| learned_text and so on | that of the features and a group of inputs, see jobs/input_groups.py | groups.onnx |
| learned_all | that of the features and all groups | groups.onnx |
| sequence | the events of the customer in order alone; the mean vector for customers without events | encoded.sequences |
| pca, features | principal components, and the scaled features as they are | encoder.onnx |
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from functools import partial

import numpy as np
import pyarrow as pa

from jobs.encoder import JOINT, REPRESENTATIONS, OnnxEncoder, load_encoder
from jobs.errors import UserError
from jobs.event_sequences import encode_sequences, read_event_sequences
from jobs.input_groups import GROUPS, SEQUENCE, GroupVectors, list_learned
from jobs.storage import models
from jobs.storage.models import LEARNED_EMBEDDING

BASELINES = ("pca", "features")  # that need no training, the simplest last


def list_learned_representations(meta: dict) -> list[str]:
    """Return the learned representations that a model gives, the simplest first; `meta` is its meta.json or the backtest's part.

    >>> list_learned_representations({"groups": {"text": {}, "sequence": {}}})
    ['learned', 'sequence', 'learned_text', 'learned_sequence', 'learned_all']
    """
    groups = meta.get("groups", {})
    return [LEARNED_EMBEDDING, *([SEQUENCE] if SEQUENCE in groups else []), *list_learned(groups)]


def list_groups(name: str, meta: dict) -> tuple[str, ...]:
    """Return the groups that an output of a model depends on, in the order of GROUPS.

    >>> list_groups("learned_text", {"groups": {"text": {}, "sequence": {}}}), list_groups("pca", {})
    (('text',), ())
    """
    groups = meta.get("groups", {})
    if name == JOINT:
        return tuple(group for group in GROUPS if group in groups)
    if name == SEQUENCE:
        return (SEQUENCE,) if SEQUENCE in groups else ()
    return list_learned(groups).get(name, ())


class RepresentationEncoder:
    """An encoder of several outputs of a model, which may need groups of inputs beside features and attributes.

    `groups` are the groups it needs, in order. Their vectors are the last columns of its attributes: a cell holds a vector.
    """

    def __init__(
        self,
        names: Sequence[str],
        meta: dict,
        plain: OnnxEncoder | None,
        wide: OnnxEncoder | None,
        read_file: Callable[[], bytes] = bytes,
    ):
        """`meta` is meta.json or its part about the backtest; `read_file` gives the model's sequence.onnx."""
        self.names, self._plain, self._wide, self._read_file = tuple(names), plain, wide, read_file
        self._sequence_settings = (meta.get("sequence") or {}).get("settings")
        self._facts = {group: meta["groups"][group] for group in GROUPS if group in meta.get("groups", {})}
        needed = {group for name in names for group in list_groups(name, meta)}
        self.groups = {group: facts for group, facts in self._facts.items() if group in needed}

    def run(self, matrix: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the outputs of n customers in the order of the names."""
        n_texts, outputs = attributes.shape[1] - len(self.groups), {}
        texts, vectors = attributes[:, :n_texts], self._read_vectors(attributes[:, n_texts:])
        if self._plain:
            outputs |= dict(zip(self._plain.outputs, self._plain.run(matrix, texts), strict=True))
        if self._wide:
            outputs |= dict(zip(self._wide.outputs, self._wide.run(matrix, texts, vectors), strict=True))
        if SEQUENCE in self.names:
            is_there = np.isfinite(vectors[SEQUENCE]).all(axis=1, keepdims=True)
            outputs[SEQUENCE] = np.where(is_there, vectors[SEQUENCE], np.float32(self._facts[SEQUENCE]["mean"]))
        return tuple(outputs[REPRESENTATIONS.get(name, name)] for name in self.names)

    def encode_events(self, lake: str, day: date, ids: pa.Array) -> GroupVectors:
        """Return the sequence vectors (n, d) of these customers as of `day`, by the model of this encoder."""
        sequences = read_event_sequences(lake, day, ids, self._sequence_settings["max_events"])
        return GroupVectors(SEQUENCE, self._facts[SEQUENCE]["model"], encode_sequences(self._read_file(), sequences))

    def _read_vectors(self, cells: np.ndarray) -> dict[str, np.ndarray]:
        """Return the vectors of each group of the model; of one that is not needed the customers have none."""
        vectors = {g: np.full((len(cells), facts["dimensions"]), np.nan, np.float32) for g, facts in self._facts.items()}
        for column, group in enumerate(self.groups):
            if len(cells):
                vectors[group] = np.stack(cells[:, column])
        return vectors


def load_representations(
    root: str, version: str, meta: dict, names: Sequence[str], is_backtest: bool = False
) -> RepresentationEncoder:
    """Return the encoder of a model for representations and other outputs of its graphs; `meta` is its meta.json.

    Raises UserError as load_encoder() does, and where the model has no such representation.
    """
    facts = meta["backtest"] if is_backtest else meta
    for name in names:
        is_learned_with = name.startswith(f"{LEARNED_EMBEDDING}_") or name in (SEQUENCE, JOINT)
        if is_learned_with and not list_groups(name, facts):
            raise UserError(f"models: {version} was trained without what {name} needs; choose another segment.representation")
    files = ("encoder.onnx", models.GROUPS, models.SEQUENCE)
    plain, wide, sequence = (models.BACKTEST, models.BACKTEST_GROUPS, models.BACKTEST_SEQUENCE) if is_backtest else files
    of_wide = [name for name in names if name in (JOINT, *list_learned(facts.get("groups", {})))]
    of_plain = [REPRESENTATIONS.get(name, name) for name in names if name not in (SEQUENCE, *of_wide)]
    return RepresentationEncoder(
        names,
        facts,
        load_encoder(root, version, of_plain, plain) if of_plain else None,
        load_encoder(root, version, of_wide, wide) if of_wide else None,
        partial(models.read, root, version, sequence),
    )


def select_vectors(vectors: Mapping[str, GroupVectors], groups: Mapping[str, dict], n: int, day: date) -> list[np.ndarray]:
    """Return the vectors (n x d) of each of the `groups` of a model for n customers; a row of NaN is none.

    `groups` holds by group what meta.json says of it. Raises UserError where the vectors of `day` are of another model.
    """
    matrices = []
    for group, facts in groups.items():
        if group in vectors:
            require_model(group, {vectors[group].model}, facts, day)
            matrices.append(vectors[group].matrix)
        else:
            matrices.append(np.full((n, facts["dimensions"]), np.nan, np.float32))
    return matrices


def require_model(group: str, names: Collection[str], facts: dict, day: date) -> None:
    """Raise UserError where vectors of a group are of other models than those that a network was trained on."""
    if foreign := sorted(set(names) - {facts["model"]}):
        raise UserError(
            f"models: the {group} vectors of {day} are of {foreign[0]}, the network was trained on those of {facts['model']}; "
            "train again: shoal train --retrain"
        )
