"""What marks a segment: numbers against a plain computation, names that differ."""

import numpy as np
import pytest

from jobs import catalogue, traits
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
    same = {number: marks(2.0, -1.0, 0.5) for number in (1, 2, 3, 5, 6)} | {4: marks(0.1, 0.1, 0.1)}

    assert traits.names(same, planted.CATALOGUE) == {
        1: "Frequent buyers, few returns",
        2: "Frequent buyers, by night",
        3: "Few returns, by night",
        4: "Average customers",
        5: "Frequent buyers, few returns, by night",
        6: "Frequent buyers, few returns (6)",
    }


def test_a_kept_name_is_given_to_no_other_segment():
    same = {1: marks(2.0, -1.0, 0.5), 2: marks(2.0, -1.0, 0.5)}

    assert traits.names(same, planted.CATALOGUE, {2: "Frequent buyers, few returns"}) == {
        1: "Frequent buyers, by night",
        2: "Frequent buyers, few returns",
    }


def test_the_same_words_in_another_order_are_the_same_name():
    found = {1: marks(2.0, -1.0, 0.1), 2: marks(2.0, -1.0, 0.1)[::-1]}

    assert traits.names(found, planted.CATALOGUE) == {
        1: "Frequent buyers, few returns",
        2: "Few returns, frequent buyers (2)",
    }


def test_a_name_rests_on_three_facts_of_different_words_first():
    found = [
        Trait(name, "", 1, 1, e, e, e) for name, e in (("orders_365d", 2.0), ("orders_90d", 1.9), ("night_share_365d", -0.1))
    ]
    words = [f for f in catalogue.FEATURES if f.name in {trait.feature for trait in found}]

    assert [trait.feature for trait in traits.facts(found, words)] == ["orders_365d", "orders_90d", "night_share_365d"]
    found.append(Trait("views_30d", "", 1, 1, 0.5, 0.5, 0.5))
    assert [
        trait.feature for trait in traits.facts(found, [*words, next(f for f in catalogue.FEATURES if f.name == "views_30d")])
    ] == ["orders_365d", "views_30d", "orders_90d"]


def test_every_feature_of_the_vector_can_be_said():
    for feature in (feature for feature in catalogue.FEATURES if feature.in_vector):
        text = traits.in_words(Trait(feature.name, "", 0.25, 3, 1, 1, 1), [feature])
        assert ("25 %" if feature.unit == "share" else "0.25") in text
        assert ("days" in text) == (feature.window > 0 or "days" in feature.name)
