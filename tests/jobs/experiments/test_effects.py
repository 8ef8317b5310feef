"""What a campaign changed, against simulated shops whose true effect is known."""

import numpy as np
import pytest
from scipy import stats

from jobs.experiments.effects import (
    ALPHA,
    EARLY_ALPHA,
    correct_p_values,
    estimate_effect,
    part_of_alpha,
    plan_effect,
)

N_RUNS = 1000
N_CUSTOMERS = 2000


def draw_shop(random: np.random.Generator, n: int = N_CUSTOMERS, effect: float = 0.0, n_days: int = 1):
    """Return what n customers spend before and on each of `n_days`, and their draw; treated ones spend `effect` more a day.

    Customers buy at rates of their own, from rarely to often, and spend skewed amounts. The second half of them is held out more.
    """
    rate = random.gamma(0.8, 0.5, n)
    share = np.where(np.arange(n) < n // 2, 0.1, 0.4)
    rate[n // 2 :] *= 2
    held_out = random.random(n) < share
    before = random.poisson(3 * rate) * random.lognormal(3, 0.5, n)
    daily = random.poisson(rate / n_days, (n_days, n)) * random.lognormal(3, 0.5, (n_days, n))
    return before, daily + effect * ~held_out, held_out, share


def test_the_difference_of_a_plain_draw_is_that_of_welch_with_its_p_value_and_interval():
    random = np.random.default_rng(1)
    outcome, held_out = random.gamma(1, 10, 300), np.arange(300) % 5 == 0
    outcome[~held_out] += 2
    estimate = estimate_effect(outcome, np.zeros(300), held_out, np.full(300, 0.2))
    welch = stats.ttest_ind(outcome[~held_out], outcome[held_out], equal_var=False)
    interval = welch.confidence_interval(0.95)
    assert estimate.p_value == pytest.approx(welch.pvalue)
    assert estimate.interval() == pytest.approx((interval.low, interval.high))
    assert (estimate.degrees, estimate.variance_reduction) == (pytest.approx(welch.df), 0)
    assert estimate.mean_treated - estimate.mean_holdout == pytest.approx(estimate.difference)


@pytest.mark.parametrize("effect", [0.0, 3.0])
def test_95_percent_intervals_hold_the_true_effect_in_93_to_97_percent_of_1000_shops(effect):
    random = np.random.default_rng(2)
    covered, false_positives = 0, 0
    for _ in range(N_RUNS):
        before, daily, held_out, share = draw_shop(random, effect=effect)
        estimate = estimate_effect(daily[0], before, held_out, share)
        low, high = estimate.interval()
        covered += low <= effect <= high
        false_positives += effect == 0 and estimate.p_value < ALPHA
    assert 0.93 <= covered / N_RUNS <= 0.97
    assert false_positives / N_RUNS <= 0.07


def test_segments_with_other_holdout_shares_do_not_pass_for_an_effect():
    """The second half buys twice as much and is held out four times as often: without strata the campaign would seem to harm."""
    before, daily, held_out, share = draw_shop(np.random.default_rng(3), n=20_000)
    estimate = estimate_effect(daily[0], np.zeros(len(before)), held_out, share)
    assert estimate.p_value > ALPHA
    assert stats.ttest_ind(daily[0][~held_out], daily[0][held_out]).pvalue < 1e-6


def test_what_customers_did_before_takes_away_variance_and_changes_no_effect():
    random = np.random.default_rng(4)
    differences, reductions = [], []
    for _ in range(200):
        before, daily, held_out, share = draw_shop(random, effect=3.0)
        estimates = [estimate_effect(daily[0], x, held_out, share) for x in (before, np.zeros(N_CUSTOMERS))]
        differences.append([estimate.difference for estimate in estimates])
        reductions.append(estimates[0].variance_reduction)
    adjusted, plain = np.transpose(differences)
    assert adjusted.mean() == pytest.approx(3.0, abs=0.3)
    assert 0.1 < np.mean(reductions) < 0.3
    assert 1 - adjusted.var() / plain.var() == pytest.approx(np.mean(reductions), abs=0.15)


def test_looking_every_day_finds_no_effect_where_there_is_none():
    """Plain intervals would call out one shop in five. All looks together stay near 5 %, and those before the end below 1 %."""
    random = np.random.default_rng(5)
    n_shops, n_days = 400, 14
    alpha = part_of_alpha(n_days - 1, is_over=False)
    early, at_any_time, plain = 0, 0, 0
    for _ in range(n_shops):
        before, daily, held_out, share = draw_shop(random, n=500, n_days=n_days)
        *totals, last = np.cumsum(daily, axis=0)
        is_early = any(estimate_effect(total, before, held_out, share, is_early=True).p_value < alpha for total in totals)
        is_last = estimate_effect(last, before, held_out, share).p_value < ALPHA
        early += is_early
        at_any_time += is_early or is_last
        plain += is_last or any(estimate_effect(total, before, held_out, share).p_value < ALPHA for total in totals)
    assert early / n_shops <= EARLY_ALPHA
    assert at_any_time / n_shops <= 0.075
    assert plain / n_shops > 0.15


def test_an_effect_so_large_that_it_is_plain_early_is_seen_before_the_end():
    before, daily, held_out, share = draw_shop(np.random.default_rng(9), n=4000, n_days=14, effect=3.0)
    alpha = part_of_alpha(13, is_over=False)
    looks = [estimate_effect(total, before, held_out, share, is_early=True) for total in np.cumsum(daily, axis=0)[:-1]]
    first = next(number for number, look in enumerate(looks) if look.p_value < alpha)
    assert first < 10
    assert looks[first].interval(alpha)[0] > 0


def test_an_effect_as_large_as_the_plan_says_is_found_with_a_probability_of_80_percent():
    random = np.random.default_rng(6)
    trial = draw_shop(random, n=20_000)
    plan = plan_effect(trial[1][0], trial[0], trial[2], trial[3], smallest_effect=0.1)
    detections = 0
    for _ in range(200):
        before, daily, held_out, share = draw_shop(random, n=20_000, effect=plan.detectable)
        detections += estimate_effect(daily[0], before, held_out, share).p_value < ALPHA
    assert 0.72 <= detections / 200 <= 0.88
    assert plan.needed == pytest.approx(20_000 * (plan.detectable_share / 0.1) ** 2, abs=1)


def test_nothing_is_said_of_one_customer_on_a_side_or_of_customers_who_do_not_differ():
    held_out, share = np.array([True, False, False]), np.full(3, 0.5)
    values, nothing = np.array([1.0, 2.0, 4.0]), np.zeros(3)
    assert estimate_effect(values, nothing, held_out, share) is None
    assert plan_effect(values, nothing, held_out, share, 0.1) is None
    assert estimate_effect(np.ones(8), np.zeros(8), np.arange(8) < 4, np.full(8, 0.5)) is None
    assert plan_effect(np.zeros(8), np.zeros(8), np.arange(8) < 4, np.full(8, 0.5), 0.1) is None


def test_the_relative_difference_has_an_interval_unless_the_holdout_may_have_nothing():
    random = np.random.default_rng(7)
    held_out, share = np.arange(4000) % 4 == 0, np.full(4000, 0.25)
    covered = 0
    for _ in range(400):
        outcome = random.gamma(2, 5, 4000) + 1.0 * ~held_out
        _, low, high = estimate_effect(outcome, np.zeros(4000), held_out, share).relative_interval()
        covered += low <= 0.1 <= high
    assert 0.92 <= covered / 400 <= 0.98
    rare = np.zeros(4000)
    rare[[0, 1, 2]] = 1
    assert estimate_effect(rare, np.zeros(4000), held_out, share).relative_interval() is None


def test_holm_keeps_false_positives_of_segments_together_at_5_percent():
    p_values = np.random.default_rng(8).random((2000, 6))
    assert np.mean([min(correct_p_values(row.tolist())) < ALPHA for row in p_values]) == pytest.approx(0.05, abs=0.015)
    assert np.mean(p_values.min(axis=1) < ALPHA) > 0.2
