"""What customers are clustered by, and the vectors of groups that it needs."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from jobs import representations
from jobs.encoded.customers import encode_customers
from jobs.encoder import append_vectors
from jobs.errors import UserError
from jobs.input_groups import GroupVectors, align_vectors

DAY = date(2026, 3, 1)
META = {"groups": {"text": {"model": "w@1", "dimensions": 2}, "sequence": {"model": "v1", "dimensions": 3, "mean": [7, 8, 9]}}}
NONE = float("nan")


class Graph:
    """Returns the inputs of the graph that it stands for, by output."""

    def __init__(self, outputs, file):
        self.outputs, self.file = outputs, file

    def run(self, matrix, attributes, groups=None):
        values = {"learned_text": lambda: groups["text"], "learned_all": lambda: np.hstack([*groups.values()])}
        plain = {"vector": lambda: matrix, "reconstruction_error": lambda: matrix[:, 0], "isolation_score": lambda: matrix[:, 1]}
        return tuple((values | plain)[name]() for name in self.outputs)


@pytest.fixture
def load(monkeypatch):
    """A function that returns the encoder of these outputs of a model with texts and sequences."""
    monkeypatch.setattr(representations, "load_encoder", lambda root, version, outputs, file: Graph(outputs, file))
    return lambda *names, meta=META: representations.load_representations("models", "v1", meta, names)


def test_an_encoder_needs_only_the_groups_of_its_outputs_and_hides_the_others(load):
    features, texts = np.ones((2, 2), np.float32), np.full((2, 1), "GB", dtype=object)
    encoder = load("learned_text", "learned", "isolation_score")
    assert list(encoder.groups) == ["text"]
    of_text, learned, score = encoder.run(features, append_vectors(texts, [np.array([[1, 2], [NONE, NONE]], np.float32)]))
    np.testing.assert_array_equal(of_text, [[1, 2], [NONE, NONE]])
    assert learned.tolist() == features.tolist()
    assert score.tolist() == [1, 1]
    assert list(load("learned_all").groups) == ["text", "sequence"]
    assert load("learned", "pca").groups == {}


def test_a_customer_without_events_gets_the_mean_sequence_vector(load):
    cells = append_vectors(np.empty((2, 0), dtype=object), [np.array([[1, 2, 3], [NONE] * 3], np.float32)])
    (vectors,) = load("sequence").run(np.ones((2, 1), np.float32), cells)
    assert vectors.tolist() == [[1, 2, 3], [7, 8, 9]]


def test_a_representation_that_a_model_does_not_give_is_one_clear_line(load):
    with pytest.raises(UserError, match=r"^models: v1 was trained without what learned_own_vectors needs; choose another"):
        load("learned_own_vectors")
    with pytest.raises(UserError, match=r"without what sequence needs"):
        load("sequence", meta={})


def test_vectors_of_another_model_are_refused_and_missing_ones_are_none():
    vectors = {"text": GroupVectors("text", "w@2", np.ones((2, 2), np.float32))}
    with pytest.raises(UserError, match=r"text vectors of 2026-03-01 are of w@2, the network was trained on those of w@1"):
        representations.select_vectors(vectors, {"text": META["groups"]["text"]}, 2, DAY)
    (matrix,) = representations.select_vectors({}, {"text": META["groups"]["text"]}, 2, DAY)
    assert matrix.shape == (2, 2)
    assert np.isnan(matrix).all()


def test_customers_are_encoded_with_the_vectors_of_their_groups_in_any_order(load):
    customers = pa.table({"customer_id": ["a", "b", "c"], "day": [DAY] * 3, "is_active": [True] * 3, "vector": [[1.0, 2.0]] * 3})
    texts = pa.table({"customer_id": ["c", "x", "a"], "model": ["w@1"] * 3, "vector": [[5.0, 6.0], [0.0, 0.0], [3.0, 4.0]]})
    encoder = load("learned_text", "reconstruction_error", "isolation_score")
    aligned = align_vectors(texts, customers["customer_id"].combine_chunks(), 2)
    np.testing.assert_array_equal(aligned, [[3, 4], [NONE, NONE], [5, 6]])
    only = customers.take([0, 2])
    rows = encode_customers({"customers": only, "text": texts}, encoder, "v1", [], "learned_text", {"text": 2})["encoded"]
    assert [(row["customer_id"], row["vector"], row["representation"]) for row in rows.to_pylist()] == [
        ("a", [3.0, 4.0], "learned_text"),
        ("c", [5.0, 6.0], "learned_text"),
    ]
