"""The space in which the compactness of clusters is measured."""

import numpy as np

from jobs.segments.model_selection import gate
from jobs.segments.model_selection.common_space import complete_groups

GROUPS = {"sequence": {"components": 1}, "text": {"components": 2}}  # text comes first in the space


def test_a_customer_without_a_group_gets_the_block_of_another_customer():
    space = np.array([[1, 5, 6, 7], [2, 0, 0, 8], [3, 0, 0, 0], [4, 9, 0, 0]], dtype=np.float32)
    completed = complete_groups(space, GROUPS, seed=1)
    assert (completed[[0, 3], 1:3] == space[[0, 3], 1:3]).all()
    assert all(row in [[5, 6], [9, 0]] for row in completed[1:3, 1:3].tolist())
    assert all(value in (7, 8) for value in completed[2:, 3])
    assert (completed[:, 0] == space[:, 0]).all()
    assert (space[1, 1:3] == 0).all()
    np.testing.assert_array_equal(complete_groups(space, GROUPS, seed=1), completed)
    np.testing.assert_array_equal(complete_groups(space[:, :1], {}, seed=1), space[:, :1])


def test_a_cluster_of_those_without_a_group_is_not_compact_for_lying_in_one_place():
    random = np.random.default_rng(2)
    taste = np.arange(600) % 3  # 0: without text; the others lie on either side of its place
    space = np.hstack([random.normal(size=(600, 2)), np.array([0.0, -3.0, 3.0])[taste, None] + random.normal(size=(600, 5))])
    space[taste == 0, 2:] = 0
    completed = complete_groups(space, {"text": {"components": 5}}, seed=1)
    assert gate.davies_bouldin(completed, taste) > 1.5 * gate.davies_bouldin(space, taste)
