import numpy as np
import pytest

from jobs.segments.model_selection.gains import list_gains
from jobs.segments.model_selection.gate import Candidate


def make_candidate(name: str, shares: np.ndarray | None) -> Candidate:
    return Candidate(name, 4, 0.9, 1.5, shares)


def test_a_gain_is_as_sure_as_the_difference_within_each_resample():
    shares = np.random.default_rng(1).normal(0.3, 0.1, 201)  # what a resample explains varies much, the difference hardly
    noise = np.random.default_rng(2).normal(0, 0.001, 201)
    candidates = {
        "learned": make_candidate("learned", shares),
        "learned_text": make_candidate("learned_text", shares + 0.01 + noise),
        "learned_sequence": make_candidate("learned_sequence", shares + noise),
        "features": make_candidate("features", None),
    }
    gains = list_gains(candidates, "learned")
    assert list(gains) == ["learned_text", "learned_sequence"]  # neither the baseline, nor what was not measured
    text, sequence = gains.values()
    assert text["separation_gain"] == pytest.approx(0.01 + noise[0])
    assert 0.005 < text["separation_gain_low"] < text["separation_gain_high"] < 0.015
    assert sequence["separation_gain_low"] < 0 < sequence["separation_gain_high"]


def test_without_the_baseline_nothing_is_gained():
    assert list_gains({"pca": make_candidate("pca", np.zeros(201))}, "learned") == {}
    assert list_gains({name: make_candidate(name, None) for name in ("learned", "pca")}, "learned") == {}
