"""The gate: the learned embedding is published only where it beats the representations that need no training."""

import numpy as np
import pytest

from jobs.segments.model_selection import gate
from jobs.segments.model_selection.gate import LIVE, Candidate

UNKNOWN = dict.fromkeys(("stability", "davies_bouldin", "variance_explained"))


def make_candidate(name, stability, share, davies_bouldin, scatter=0.01):
    """Return a candidate whose resamples explain shares of variance within `scatter` of `share`.

    A negative scatter puts the resamples in reverse order.
    """
    around = np.linspace(-scatter, scatter, gate.N_RESAMPLES)
    return Candidate(name, 4, stability, davies_bouldin, share + np.array([0.0, *around]))


LEARNED = make_candidate("learned", 0.95, 0.30, 1.0)
PCA = make_candidate("pca", 0.90, 0.25, 1.2)
FEATURES = make_candidate("features", 0.80, 0.20, 1.1)


def choose(learned, pca, features, live=None):
    return gate.choose_representation([learned] if learned else [], [pca, features], lambda: live)


def test_a_learned_embedding_that_beats_both_baselines_in_two_measures_is_published_whatever_is_live():
    learned = make_candidate("learned", 0.95, 0.30, 1.5)
    unbeaten = make_candidate(LIVE, 1.0, 0.9, 0.1)
    decision = choose(learned, PCA, FEATURES, unbeaten)
    assert decision == (
        "learned",
        "The learned embedding beats PCA (better in: stability, variance explained) "
        "and raw features (better in: stability, variance explained)",
    )


@pytest.mark.parametrize(
    ("learned", "wins"),
    [
        (
            make_candidate("learned", 0.95, 0.20, 1.5),
            "PCA (better in: stability) or raw features (better in: stability)",
        ),
        (
            make_candidate("learned", 0.905, 0.30, 1.5),
            "PCA (better in: variance explained)",
        ),  # too little more stable
        (
            make_candidate("learned", 0.85, 0.255, 1.0, -0.01),
            "PCA (better in: compactness)",
        ),  # explains more by chance
    ],
)
def test_where_the_learned_embedding_does_not_beat_both_baselines_the_better_one_is_published(learned, wins):
    reason = f"The learned embedding does not beat {wins}; the better baseline is PCA"
    assert choose(learned, PCA, FEATURES) == ("pca", reason)


WITH_TEXT = make_candidate("learned_text", 0.97, 0.35, 0.9)
WITH_ALL = make_candidate("learned_all", 0.99, 0.45, 0.9)


@pytest.mark.parametrize(
    ("candidates", "published", "reason"),
    [
        (
            [LEARNED, WITH_TEXT, WITH_ALL],
            "learned_all",
            "The learned embedding with all groups beats PCA (better in: stability, variance explained, compactness) "
            "and raw features (better in: stability, variance explained, compactness) "
            "and the learned embedding with text (better in: stability, variance explained)",
        ),
        (
            [LEARNED, make_candidate("learned_text", 0.955, 0.35, 1.0)],
            "learned",
            "The learned embedding beats PCA (better in: stability, variance explained, compactness) "
            "and raw features (better in: stability, variance explained, compactness); "
            "the learned embedding with text does not beat the learned embedding (better in: variance explained)",
        ),
        (
            [make_candidate("learned", 0.80, 0.20, 1.3), WITH_TEXT],
            "learned_text",
            "The learned embedding with text beats PCA (better in: stability, variance explained, compactness) "
            "and raw features (better in: stability, variance explained, compactness); "
            "the learned embedding does not beat PCA (better in no measure) or raw features (better in no measure)",
        ),
        (
            [LEARNED, make_candidate("learned_text", 0.97, 0.25, 1.2)],  # beats the learned embedding in nothing but stability
            "learned",
            None,
        ),
    ],
    ids=["the richest", "too little better", "the only", "beaten by a baseline"],
)
def test_a_richer_representation_is_published_only_where_it_beats_the_simpler_one_too(candidates, published, reason):
    decision = gate.choose_representation(candidates, [PCA, FEATURES], lambda: None)
    assert decision.published == published
    assert reason is None or decision.reason == reason


def test_of_two_equal_baselines_the_simpler_is_published():
    same = make_candidate("features", 0.90, 0.25, 1.2)
    assert choose(PCA, PCA, same).published == "features"


def test_the_live_model_is_kept_where_the_better_baseline_does_not_beat_it():
    worse = make_candidate("learned", 0.80, 0.20, 1.3)
    assert choose(worse, PCA, FEATURES, make_candidate(LIVE, 0.90, 0.25, 1.3)) == (
        LIVE,
        "The learned embedding does not beat PCA (better in no measure) or raw features (better in no measure); "
        "the better baseline, PCA, does not beat the live model (better in: compactness), which is kept",
    )
    assert choose(worse, PCA, FEATURES, make_candidate(LIVE, 0.80, 0.2, 1.2)).published == "pca"


def test_a_candidate_is_never_better_in_a_measure_that_is_not_known():
    unknown = Candidate("learned", 4, **UNKNOWN)
    assert gate.compare(unknown, PCA) == []
    assert gate.compare(Candidate("learned", 4, 0.95, None, None), PCA) == ["stability"]
    assert choose(None, PCA, FEATURES).reason.startswith("The learned embedding cannot be clustered; the better baseline is PCA")


def test_variance_explained_is_the_adjusted_r_squared_of_an_analysis_of_variance():
    random = np.random.default_rng(3)
    labels = random.integers(4, size=2000)
    outcomes = np.stack([labels + random.normal(size=2000), random.normal(size=2000), np.ones(2000)], axis=1)

    (shares,) = gate.variance_explained(outcomes, [labels], seed=5)

    dummies = np.eye(4)[labels]
    expected = []
    for column in outcomes[:, :2].T:  # the third does not vary
        residuals = column - dummies @ np.linalg.lstsq(dummies, column, rcond=None)[0]
        expected.append(1 - residuals.var() / column.var() * 1999 / 1996)
    assert shares[0] == pytest.approx(np.mean(expected), abs=1e-9)
    low, high = np.percentile(shares[1:], [2.5, 97.5])
    assert low < shares[0] < high
    assert high - low < 0.05


def test_unrelated_clusters_explain_no_variance_however_many_they_are():
    random = np.random.default_rng(4)
    labels = [random.integers(k, size=500) for k in (2, 15)]
    few, many = gate.variance_explained(random.normal(size=(500, 2)), labels, seed=5)
    assert few[0] == pytest.approx(0, abs=0.02)
    assert many[0] == pytest.approx(0, abs=0.02)


def test_where_no_outcome_varies_the_variance_explained_is_not_known():
    assert gate.variance_explained(np.ones((10, 3)), [np.arange(10) % 2], seed=5) is None
