"""What marks a segment: numbers against a plain computation, names that differ."""

import numpy as np
import pytest

from jobs import traits
from jobs.traits import Trait
from tests.jobs import planted


def marks(*effects):
    return [Trait(f.name, f.meaning, 1, 1, e, e, e) for f, e in zip(planted.CATALOGUE, effects, strict=True)]


def test_moments_leave_missing_values_out(spark):
    random = np.random.default_rng(2)
    values = random.normal(1000, 3, (50, 2))
    values[random.random((50, 2)) < 0.3] = np.nan
    ids = random.integers(1, 4, 50)
    rows = [(int(i), [None if np.isnan(v) else float(v) for v in row]) for i, row in zip(ids, values, strict=True)]
    members = spark.createDataFrame(rows, "segment_id INT, vector ARRAY<DOUBLE>").repartition(3)

    found = traits.statistics(members, ["a", "b"])

    assert found.segment_ids == [1, 2, 3]
    for row, segment_id in enumerate(found.segment_ids):
        mine = values[ids == segment_id]
        assert found.known[row] == pytest.approx((~np.isnan(mine)).sum(axis=0))
        assert found.mean[row] == pytest.approx(np.nanmean(mine, axis=0))
        assert found.variance[row] == pytest.approx(np.nanvar(mine, axis=0), rel=1e-6)
    assert found.overall_sd == pytest.approx(np.nanstd(values, axis=0), rel=1e-6)


def test_a_feature_without_spread_is_no_trait(spark):
    members = spark.createDataFrame([(1, [5.0, 1.0]), (2, [5.0, 2.0])], "segment_id INT, vector ARRAY<DOUBLE>")

    found = traits.traits(traits.statistics(members, ["constant", "b"]), planted.CATALOGUE)

    assert [[t.feature for t in found[i]] for i in (1, 2)] == [["b"], ["b"]]


def test_a_feature_known_for_few_of_a_segment_does_not_mark_it(spark):
    rows = [(1, [9.0, 1.0]), (1, [None, 1.0]), (1, [None, 2.0]), (2, [1.0, 4.0]), (2, [2.0, 5.0])]
    members = spark.createDataFrame(rows, "segment_id INT, vector ARRAY<DOUBLE>")

    found = traits.traits(traits.statistics(members, ["a", "b"]), planted.CATALOGUE)

    assert {i: sorted(t.feature for t in found[i]) for i in found} == {1: ["b"], 2: ["a", "b"]}


def test_names_are_short_and_no_two_are_equal():
    same = {1: marks(2.0, -1.0, 0.5), 2: marks(2.0, -1.0, 0.5), 3: marks(2.0, -1.0, 0.5), 4: marks(0.1, 0.1, 0.1)}

    assert traits.names(same, planted.CATALOGUE) == {
        1: "Frequent buyers, few returns",
        2: "Frequent buyers, few returns, by night",
        3: "Frequent buyers, few returns, by night (3)",
        4: "Average customers",
    }
