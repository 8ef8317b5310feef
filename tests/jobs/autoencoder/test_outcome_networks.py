"""The networks of outcomes: they learn what a straight line cannot, and give the same weights again."""

import numpy as np

from jobs.autoencoder.outcome_networks import fit_network
from jobs.outcome_cases import Cases, area_under_roc


def score(record: dict, matrix: np.ndarray) -> np.ndarray:
    hidden, bias, output = (np.array(record[name]) for name in ("hidden", "hidden_bias", "output"))
    return np.maximum(matrix[:, : len(hidden)] @ hidden + bias, 0) @ output


def test_a_network_learns_an_interaction_from_the_first_columns_alone():
    random = np.random.default_rng(1)
    matrix = random.normal(size=(3000, 4)).astype(np.float32)
    labels = (matrix[:, 0] * matrix[:, 1] > 0).astype(np.int8)
    matrix[:, 3] = labels  # not one of its inputs
    record = fit_network(Cases(matrix, labels), 3, seed=1)
    unseen = random.normal(size=(1000, 4)).astype(np.float32)
    assert area_under_roc(score(record, unseen), (unseen[:, 0] * unseen[:, 1] > 0).astype(np.int8)) > 0.95
    assert len(record["hidden"]) == len(record["centre"]) == 3
    assert fit_network(Cases(matrix, labels), 3, seed=1) == record
