"""The gate: what was learned is published only where it beats what takes no learning."""

import numpy as np
import pytest

from jobs.segments import _gate
from jobs.segments._gate import LIVE, Contender

NOTHING = dict.fromkeys(("stability", "davies_bouldin", "told"))


def contender(name, stability, separation, davies_bouldin, spread=0.01):
    """Of the separation the resamples lie evenly within 0.01 of it; with a spread of the other sign in the other order."""
    around = np.linspace(-spread, spread, _gate.RESAMPLES)
    return Contender(name, 4, stability, davies_bouldin, separation + np.array([0.0, *around]))


LEARNED = contender("learned", 0.95, 0.30, 1.0)
PCA = contender("pca", 0.90, 0.25, 1.2)
FEATURES = contender("features", 0.80, 0.20, 1.1)


def decided(learned, pca, features, live=None):
    return _gate.decided(learned, [pca, features], lambda: live)


def test_what_beats_both_plain_ones_in_two_measures_is_published_whatever_is_live():
    learned = contender("learned", 0.95, 0.30, 1.5)
    unbeaten = contender(LIVE, 1.0, 0.9, 0.1)
    found = decided(learned, PCA, FEATURES, unbeaten)
    assert found == ("learned", "learned beats pca (wins stability, separation) and features (wins stability, separation)")


@pytest.mark.parametrize(
    ("learned", "reason"),
    [
        (contender("learned", 0.95, 0.20, 1.5), "learned does not beat pca (wins stability) and features (wins stability)"),
        (contender("learned", 0.905, 0.30, 1.5), "learned does not beat pca (wins separation)"),  # a trifle more stable
        (contender("learned", 0.85, 0.255, 1.0, -0.01), "learned does not beat pca (wins compactness)"),  # more by chance
    ],
)
def test_what_does_not_beat_both_leaves_the_better_of_the_plain_ones(learned, reason):
    assert decided(learned, PCA, FEATURES) == ("pca", f"{reason}; pca is the better of the plain ones")


def test_of_plain_ones_that_are_equal_the_simpler_is_taken():
    same = contender("features", 0.90, 0.25, 1.2)
    assert decided(PCA, PCA, same).published == "features"


def test_what_is_live_stays_where_the_best_plain_one_does_not_beat_it():
    worse = contender("learned", 0.80, 0.20, 1.3)
    assert decided(worse, PCA, FEATURES, contender(LIVE, 0.90, 0.25, 1.3)) == (
        LIVE,
        "learned does not beat pca (wins nothing) and features (wins nothing); "
        "pca does not beat what is live (wins compactness), which stays",
    )
    assert decided(worse, PCA, FEATURES, contender(LIVE, 0.80, 0.2, 1.2)).published == "pca"


def test_what_is_not_known_wins_nothing():
    unknown = Contender("learned", 4, **NOTHING)
    assert _gate.wins(unknown, PCA) == []
    assert _gate.wins(Contender("learned", 4, 0.95, None, None), PCA) == ["stability"]
    assert decided(None, PCA, FEATURES).reason.startswith("what was learned cannot be clustered; pca")


def test_the_share_told_is_that_of_an_analysis_of_variance_adjusted_for_the_number_of_clusters():
    random = np.random.default_rng(3)
    labels = random.integers(4, size=2000)
    outcomes = np.stack([labels + random.normal(size=2000), random.normal(size=2000), np.ones(2000)], axis=1)

    (found,) = _gate.told(outcomes, [labels], seed=5)

    dummies = np.eye(4)[labels]
    shares = []
    for column in outcomes[:, :2].T:  # the third says nothing: all are alike
        left = column - dummies @ np.linalg.lstsq(dummies, column, rcond=None)[0]
        shares.append(1 - left.var() / column.var() * 1999 / 1996)
    assert found[0] == pytest.approx(np.mean(shares), abs=1e-9)
    low, high = np.percentile(found[1:], [2.5, 97.5])
    assert low < found[0] < high
    assert high - low < 0.05


def test_clusters_that_tell_nothing_are_told_to_tell_nothing_however_many_they_are():
    random = np.random.default_rng(4)
    labels = [random.integers(k, size=500) for k in (2, 15)]
    few, many = _gate.told(random.normal(size=(500, 2)), labels, seed=5)
    assert few[0] == pytest.approx(0, abs=0.02)
    assert many[0] == pytest.approx(0, abs=0.02)


def test_where_nothing_differs_afterwards_the_separation_is_not_known():
    assert _gate.told(np.ones((10, 3)), [np.arange(10) % 2], seed=5) is None
