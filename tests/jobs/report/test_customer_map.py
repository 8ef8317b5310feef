"""The map of customers: which customers and which plane it shows."""

import numpy as np
import pytest

from jobs.report import customer_map


def test_the_map_samples_the_same_customers_in_any_order(monkeypatch):
    monkeypatch.setattr(customer_map, "MAP_POINTS", 10)
    ids = [f"customer {i}" for i in range(1000)]

    chosen = {ids[i] for i in customer_map.sample_positions(ids)}

    assert len(chosen) == 10
    assert chosen == {ids[::-1][i] for i in customer_map.sample_positions(ids[::-1])}


def test_the_map_shows_the_plane_of_the_largest_variance():
    random = np.random.default_rng(1)
    vectors = random.normal(size=(500, 4)) * (0.1, 5.0, 0.2, 3.0) + 7

    mean, axes, explained = customer_map.principal_axes(vectors)

    assert np.abs(axes).argmax(axis=0).tolist() == [1, 3]
    assert (axes[[1, 3], [0, 1]] > 0.99).all()
    assert mean == pytest.approx(vectors.mean(axis=0))
    assert 0.99 < explained < 1
