"""Clustering indices: equal to those of scikit-learn, at once and in slices."""

import numpy as np
import pytest
from sklearn import metrics

from jobs.segments import _cluster_indices
from jobs.storage import vectors as storage_vectors


@pytest.fixture(scope="module")
def points():
    """Three clusters of 1, 29 and 30 far from the origin, where sums of squares would lose digits."""
    places = np.repeat([[0.0, 0.0, 9.0], [0.0, 9.0, 0.0], [9.0, 0.0, 0.0]], (1, 29, 30), axis=0) + 1000
    return (places + np.random.default_rng(3).normal(size=places.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def labels():
    return np.repeat([0, 1, 2], (1, 29, 30))


def assert_same_as_scikit_learn(indices, points, labels):
    """Compare with scikit-learn, to a relative 1e-9."""
    silhouettes = metrics.silhouette_samples(points, labels, metric="sqeuclidean")
    expected = {
        "silhouette": silhouettes.mean(),
        "davies_bouldin": metrics.davies_bouldin_score(points, labels),
        "calinski_harabasz": metrics.calinski_harabasz_score(points, labels),
    }
    assert {name: getattr(indices, name) for name in expected} == pytest.approx(expected, rel=1e-9)
    means = [points[labels == label].mean(axis=0) for label in np.unique(labels)]
    squares = [((points[labels == label] - mean) ** 2).sum() for label, mean in enumerate(means)]
    assert indices.squares == pytest.approx(np.array(squares), rel=1e-9)
    assert indices.silhouettes == pytest.approx(np.array([silhouettes[labels == n].mean() for n in range(len(means))]), rel=1e-9)
    assert indices.sizes.tolist() == np.bincount(labels).tolist()


def test_indices_of_a_sample_equal_those_of_scikit_learn(points, labels):
    assert_same_as_scikit_learn(_cluster_indices.compute_indices(points, labels, 3), points.astype(np.float64), labels)


@pytest.mark.parametrize("rows_per_slice", [7, 60])
def test_indices_in_slices_equal_those_of_scikit_learn_without_empty_clusters(points, labels, rows_per_slice, monkeypatch):
    monkeypatch.setattr(storage_vectors, "_ROWS_PER_SLICE", rows_per_slice)
    centres = np.array([[1000, 1000, 1009], [0, 0, 0], [1000, 1009, 1000], [1009, 1000, 1000]], dtype=np.float64)

    has_members, indices = _cluster_indices.compute_indices_in_slices(points, centres)

    assert has_members.tolist() == [True, False, True, True]
    assert_same_as_scikit_learn(indices, points.astype(np.float64), labels)
