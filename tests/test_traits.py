"""What marks a segment: figures equal a plain computation, and names are unique."""

import numpy as np
import pytest

from jobs import catalogue, traits
from jobs.traits import Trait
from tests.jobs import planted


def make_traits(*effects):
    return [Trait(f.name, f.meaning, 1, 1, e, e, e) for f, e in zip(planted.CATALOGUE, effects, strict=True)]


def test_moments_leave_missing_values_out(monkeypatch):
    random = np.random.default_rng(2)
    values = random.normal(1000, 3, (50, 2))
    values[random.random((50, 2)) < 0.3] = np.nan
    ids = random.integers(1, 4, 50)
    monkeypatch.setattr(traits, "_CHUNK_ROWS", 7)

    statistics = traits.feature_statistics(values, ids, ["a", "b"])

    assert statistics.segment_ids == [1, 2, 3]
    for row, segment_id in enumerate(statistics.segment_ids):
        members = values[ids == segment_id]
        assert statistics.n_known[row] == pytest.approx((~np.isnan(members)).sum(axis=0))
        assert statistics.mean[row] == pytest.approx(np.nanmean(members, axis=0))
        assert statistics.variance[row] == pytest.approx(np.nanvar(members, axis=0), rel=1e-6)
    assert statistics.overall_standard_deviation == pytest.approx(np.nanstd(values, axis=0), rel=1e-6)


def test_a_constant_feature_is_no_trait():
    statistics = traits.feature_statistics(np.array([[5.0, 1.0], [5.0, 2.0]]), np.array([1, 2]), ["constant", "b"])

    ranked = traits.rank_traits(statistics, planted.CATALOGUE)

    assert [[t.feature for t in ranked[i]] for i in (1, 2)] == [["b"], ["b"]]


def test_a_feature_known_for_few_customers_of_a_segment_does_not_mark_it():
    vectors = np.array([[9.0, 1.0], [np.nan, 1.0], [np.nan, 2.0], [1.0, 4.0], [2.0, 5.0]])
    statistics = traits.feature_statistics(vectors, np.array([1, 1, 1, 2, 2]), ["a", "b"])

    ranked = traits.rank_traits(statistics, planted.CATALOGUE)

    assert {i: sorted(t.feature for t in ranked[i]) for i in ranked} == {1: ["b"], 2: ["a", "b"]}


def test_names_are_short_and_no_two_are_equal():
    same = {number: make_traits(2.0, -1.0, 0.5) for number in (1, 2, 3, 5, 6)} | {4: make_traits(0.1, 0.1, 0.1)}

    assert traits.name_segments(same, planted.CATALOGUE) == {
        1: "Frequent buyers, few returns",
        2: "Frequent buyers, by night",
        3: "Few returns, by night",
        4: "Average customers",
        5: "Frequent buyers, few returns, by night",
        6: "Frequent buyers, few returns (6)",
    }


def test_no_other_segment_gets_a_kept_name():
    same = {1: make_traits(2.0, -1.0, 0.5), 2: make_traits(2.0, -1.0, 0.5)}

    assert traits.name_segments(same, planted.CATALOGUE, {2: "Frequent buyers, few returns"}) == {
        1: "Frequent buyers, by night",
        2: "Frequent buyers, few returns",
    }


def test_the_same_words_in_another_order_are_the_same_name():
    same = {1: make_traits(2.0, -1.0, 0.1), 2: make_traits(2.0, -1.0, 0.1)[::-1]}

    assert traits.name_segments(same, planted.CATALOGUE) == {
        1: "Frequent buyers, few returns",
        2: "Few returns, frequent buyers (2)",
    }


def test_a_name_rests_on_three_facts_of_different_words_first():
    ranked = [
        Trait(name, "", 1, 1, e, e, e) for name, e in (("orders_365d", 2.0), ("orders_90d", 1.9), ("night_share_365d", -0.1))
    ]
    words = [f for f in catalogue.FEATURES if f.name in {trait.feature for trait in ranked}]

    assert [trait.feature for trait in traits.select_facts(ranked, words)] == ["orders_365d", "orders_90d", "night_share_365d"]
    ranked.append(Trait("views_30d", "", 1, 1, 0.5, 0.5, 0.5))
    words.append(next(f for f in catalogue.FEATURES if f.name == "views_30d"))
    assert [trait.feature for trait in traits.select_facts(ranked, words)] == ["orders_365d", "views_30d", "orders_90d"]


def test_every_feature_of_the_vector_can_be_described():
    for feature in (feature for feature in catalogue.FEATURES if feature.in_vector):
        text = traits.describe_trait(Trait(feature.name, "", 0.25, 3, 1, 1, 1), [feature])
        assert ("25 %" if feature.unit == "share" else "0.25") in text
        assert ("days" in text) == (feature.window > 0 or "days" in feature.name)
