"""Who is held out: the same customers every day, as many as the share says, and others in another campaign."""

import numpy as np
import pytest

from jobs.experiments.holdouts import MISMATCH, check_shares, draw_numbers, is_held_out

KEY = "a key of the tests alone"
IDS = [f"c{number}" for number in range(20_000)]


def test_numbers_are_uniform_and_independent_between_campaigns():
    spring, summer = (draw_numbers(name, IDS, KEY) for name in ("spring", "summer"))
    assert np.histogram(spring, bins=10, range=(0, 1))[0] == pytest.approx(np.full(10, 2000), abs=150)
    assert abs(np.corrcoef(spring, summer)[0, 1]) < 0.025
    assert not np.array_equal(spring, draw_numbers("spring", IDS, "another key of the tests"))


def test_a_customer_is_drawn_alike_alone_and_among_others_and_stays_when_the_share_grows():
    numbers = draw_numbers("spring", IDS[:50], KEY)
    assert [is_held_out("spring", customer, 0.2, KEY) for customer in IDS[:50]] == (numbers < 0.2).tolist()
    assert set(np.flatnonzero(numbers < 0.2)) <= set(np.flatnonzero(numbers < 0.3))


def test_a_draw_by_its_shares_is_no_mismatch_and_lost_customers_are():
    share = np.where(np.arange(20_000) % 2 == 0, 0.1, 0.5)
    held_out = draw_numbers("spring", IDS, KEY) < share
    shares = check_shares(held_out, share)
    assert (shares.held_out, shares.p_value > 0.01) == (held_out.sum(), True)
    assert shares.expected == pytest.approx(6000)
    is_kept = held_out | (np.arange(20_000) % 10 > 0)  # a tenth of the treated are gone
    assert check_shares(held_out[is_kept], share[is_kept]).p_value < MISMATCH


def test_fair_draws_are_called_a_mismatch_as_often_as_the_limit_says():
    random = np.random.default_rng(1)
    share = np.where(np.arange(500) % 2 == 0, 0.1, 0.5)
    p_values = np.array([check_shares(random.random(500) < share, share).p_value for _ in range(3000)])
    assert np.mean(p_values < 0.05) == pytest.approx(0.05, abs=0.012)
    assert np.mean(p_values < MISMATCH) < 0.004
