"""How often the name that was opened is among the first, and whether one model finds more than another."""

import numpy as np
import pytest

from jobs.autoencoder.text_tuning.pairs import PRODUCT, SEARCH, build_pairs
from jobs.autoencoder.text_tuning.retrieval import Retrieval, compare, measure_retrieval

NAMES = np.array(["mug", "pan", "pot"], object)
VECTORS = {"red": (1.0, 0.0), "mug": (1.0, 0.0), "pan": (0.8, 0.6), "pot": (0.0, 1.0)}


def embed(texts):
    return np.array([VECTORS[text] for text in texts], np.float32)


def test_a_query_has_the_mean_of_the_reciprocal_ranks_of_its_clicks():
    pairs = build_pairs(SEARCH, {("red", "mug"): 3, ("red", "pot"): 3})
    retrieval = measure_retrieval(embed, pairs, NAMES)
    assert retrieval.reciprocal_rank == pytest.approx([(1 + 1 / 3) / 2])
    assert retrieval.recall == pytest.approx([1.0])


def test_a_click_on_what_everybody_opens_counts_less():
    counts = {("red", "mug"): 2, ("red", "pot"): 2, ("pan", "pot"): 6}
    retrieval = measure_retrieval(embed, build_pairs(SEARCH, counts), NAMES)
    red = retrieval.reciprocal_rank[1]
    assert red == pytest.approx((1.0 * 1 + 0.25 / 3) / 1.25)


def test_names_of_equal_vectors_share_their_ranks():
    retrieval = measure_retrieval(
        lambda texts: np.ones((len(texts), 2), np.float32), build_pairs(SEARCH, {("red", "pan"): 1}), NAMES
    )
    assert retrieval.reciprocal_rank == pytest.approx([1 / 2])


def test_a_product_is_no_answer_to_itself():
    retrieval = measure_retrieval(embed, build_pairs(PRODUCT, {("mug", "pan"): 1}), NAMES)
    assert retrieval.reciprocal_rank == pytest.approx([1.0])


def test_a_name_behind_the_first_ten_is_not_found():
    names = np.array([f"n{place:02}" for place in range(20)], object)
    vectors = {name: (np.cos(place / 20), np.sin(place / 20)) for place, name in enumerate(names)} | {"red": (1.0, 0.0)}
    pairs = build_pairs(SEARCH, {("red", "n09"): 1, ("red", "n10"): 1})
    retrieval = measure_retrieval(lambda texts: np.array([vectors[text] for text in texts]), pairs, names)
    assert retrieval.recall == pytest.approx([0.5])


def test_a_model_is_better_only_where_both_figures_are_and_beyond_chance():
    random = np.random.default_rng(1)
    base = Retrieval(random.random(200), random.random(200))
    better = Retrieval(base.recall + 0.1, base.reciprocal_rank + 0.1)
    assert compare(better, base, seed=1).is_better
    assert not compare(Retrieval(base.recall - 0.1, better.reciprocal_rank), base, seed=1).is_better
    assert not compare(base, base, seed=1).is_better
    chance = Retrieval(better.recall, base.reciprocal_rank + random.normal(0.01, 1, 200))
    assert not compare(chance, base, seed=1).is_better
