import numpy as np
import pytest

from jobs.segments.model_selection.gains import list_gains
from jobs.segments.model_selection.gate import Candidate

NAMES = ["learned_text", "learned_sequence", "learned_all"]


def make_candidates(shares: dict[str, np.ndarray | None]) -> dict[str, Candidate]:
    return {name: Candidate(name, 4, 0.9, 1.5, of_name) for name, of_name in shares.items()}


def test_a_gain_is_as_sure_as_the_difference_within_each_resample():
    without = np.random.default_rng(1).normal(0.3, 0.1, 201)  # what a resample explains varies much, the difference hardly
    noise = np.random.default_rng(2).normal(0, 0.001, 201)
    candidates = make_candidates(
        {
            "learned": without - 0.2,
            "learned_text": without + 0.01 + noise,
            "learned_sequence": without + noise,
            "learned_all": None,
        }
    )
    gains = list_gains(candidates, NAMES, without)
    assert list(gains) == ["learned_text", "learned_sequence"]  # neither what has no groups, nor what was not measured
    text, sequence = gains.values()
    assert text["separation_gain"] == pytest.approx(0.01 + noise[0])
    assert 0.005 < text["separation_gain_low"] < text["separation_gain_high"] < 0.015
    assert sequence["separation_gain_low"] < 0 < sequence["separation_gain_high"]


def test_without_a_baseline_nothing_is_gained():
    assert list_gains(make_candidates({"learned_text": np.zeros(201)}), NAMES, None) == {}
