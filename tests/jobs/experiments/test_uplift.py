"""For whom a campaign works: a planted difference between customers is found, and none is not."""

import numpy as np
import pytest

from jobs.experiments.uplift import estimate_uplift


def draw_campaign(seed: int, n: int, gain: float, share: float = 0.3):
    """Return features, outcome, draw and shares of n customers: `gain` goes to the half of them whose second feature is high.

    The first feature says who spends much, with or without the campaign.
    """
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, 20))
    features[random.random((n, 20)) < 0.05] = np.nan
    held_out = random.random(n) < share
    outcome = random.gamma(1, 10 * np.exp(0.4 * np.nan_to_num(features[:, 0])))
    is_moved = np.nan_to_num(features[:, 1]) > 0
    return features, outcome + gain * (is_moved & ~held_out), held_out, np.full(n, share), is_moved


def test_a_planted_difference_is_found_and_those_it_moves_come_first():
    features, outcome, held_out, share, is_moved = draw_campaign(1, 8000, gain=8.0)
    uplift = estimate_uplift(features, outcome, held_out, share, seed=3)
    assert uplift.holds
    assert uplift.qini == pytest.approx(8 * 0.5 * 0.25, abs=0.35)  # of a perfect order: half of them, a quarter of the square
    first = np.argsort(-uplift.scores)[:2000]
    assert is_moved[first].mean() > 0.85
    assert uplift.curve[-1] == pytest.approx(4.0, abs=1.0)  # treating everyone gains half of 8
    assert uplift.curve[4] > 0.8 * uplift.curve[-1]  # and half of them nearly as much


@pytest.mark.parametrize("gain", ["none", "the same for everyone"])
def test_no_difference_between_customers_is_not_found(gain):
    published = 0
    for seed in range(60):
        features, outcome, held_out, share, _ = draw_campaign(seed, 1500, gain=0.0)
        outcome = outcome + (5.0 if gain == "the same for everyone" else 0.0) * ~held_out
        published += estimate_uplift(features, outcome, held_out, share, seed=3).holds
    assert published <= 6


def test_the_same_inputs_give_the_same_scores_and_too_few_customers_none():
    features, outcome, held_out, share, _ = draw_campaign(1, 400, gain=8.0)
    scores = [estimate_uplift(features, outcome, held_out, share, seed=3).scores for _ in range(2)]
    assert np.array_equal(*scores)
    assert estimate_uplift(features[:100], outcome[:100], held_out[:100], share[:100], seed=3) is None
