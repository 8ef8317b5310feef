"""Whether what was learned is worth publishing: it must beat what takes no learning, by figures that can be held side by side.

Three measures, all of the same customers in the same number of clusters. Stability: how alike resamples are clustered.
Separation: the share of the variance of what customers did next that their cluster told before (eta squared, adjusted for
the number of clusters as in R squared; Kelley 1935), by models of before. Compactness: Davies-Bouldin in one common space,
the scaled features, for figures from different latent spaces say nothing of each other; it favours the features
themselves, against what was learned.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LEAD = 0.01  # of stability, and of the Davies-Bouldin index by share: nearer than this is no lead
WINS = 2  # of the three measures, to beat another
RESAMPLES = 200  # of the customers, for the intervals of the separation
INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Contender:
    """One way to represent customers, as they are clustered by it."""

    name: str  # of REPRESENTATIONS, or LIVE
    k: int
    stability: float | None
    davies_bouldin: float | None  # in the common space
    told: np.ndarray | None  # 1 + RESAMPLES: the share told, of the customers and of resamples of them; None: not known

    @property
    def separation(self) -> tuple[float, float, float] | None:
        """The share told, and the ends of its 95 % interval."""
        return None if self.told is None else (float(self.told[0]), *np.percentile(self.told[1:], INTERVAL).tolist())


LIVE = "live"


class Decision(NamedTuple):
    """Which contender is published, LIVE for none of the new, and why."""

    published: str
    reason: str


def told(outcomes: np.ndarray, labels: Sequence[np.ndarray], seed: int) -> list[np.ndarray] | None:
    """Of outcomes (n x m) the share of variance that clusters (n labels each) tell, on average over those that vary.

    One array of 1 + RESAMPLES per clustering, paired: resample i is the same customers for all. None where nothing varies.

    >>> done = np.array([[0.0], [0.0], [1.0], [1.0], [0.0], [1.0]])
    >>> best, none = told(done, [np.array([0, 0, 1, 1, 0, 1]), np.array([0, 1, 0, 1, 0, 1])], 1)
    >>> float(best[0].round(2)), float(none[0].round(2))
    (1.0, -0.11)
    """
    varying = outcomes[:, outcomes.std(axis=0) > 0]
    if not varying.shape[1]:
        return None
    random = np.random.default_rng(seed)
    n = len(outcomes)
    weights = [np.ones(n), *(np.bincount(random.integers(n, size=n), minlength=n).astype(float) for _ in range(RESAMPLES))]
    return [np.array([_share(varying, w, one) for w in weights]) for one in labels]


def _share(outcomes: np.ndarray, weights: np.ndarray, labels: np.ndarray) -> float:
    n = weights.sum()
    sizes = np.bincount(labels, weights)
    k = np.count_nonzero(sizes)
    centred = outcomes - weights @ outcomes / n
    total = weights @ centred**2
    sums = np.stack([np.bincount(labels, weights * column) for column in centred.T], axis=1)
    between = (sums**2 / np.maximum(sizes, 1)[:, None]).sum(axis=0)
    varies = total > 0
    share = between[varies] / total[varies]
    return float(np.mean(1 - (1 - share) * (n - 1) / max(n - k, 1))) if varies.any() else 0.0


def wins(one: Contender, other: Contender) -> list[str]:
    """The measures in which `one` is better than `other` by more than chance or a trifle."""
    found = []
    if one.stability is not None and one.stability > (other.stability or 0) + LEAD:
        found.append("stability")
    if one.told is not None and other.told is not None and np.percentile((one.told - other.told)[1:], INTERVAL[0]) > 0:
        found.append("separation")
    if one.davies_bouldin is not None and (
        other.davies_bouldin is None or one.davies_bouldin < other.davies_bouldin * (1 - LEAD)
    ):
        found.append("compactness")
    return found


def decided(learned: Contender | None, plain: Sequence[Contender], live: Callable[[], Contender | None]) -> Decision:
    """The learned representation where it beats each plain one; else the best of those, where it beats what is live.

    `plain` in order of simplicity, the simplest last: of equals it is taken. None: what was learned cannot be clustered, or
    nothing is live; that is asked for only where it matters.
    """
    if learned is not None:
        against = {other.name: wins(learned, other) for other in plain}
        if all(len(found) >= WINS for found in against.values()):
            return Decision(learned.name, f"learned beats {_listed(against)}")
        failed = {name: found for name, found in against.items() if len(found) < WINS}
        reason = f"learned does not beat {_listed(failed)}"
    else:
        reason = "what was learned cannot be clustered"
    best = max(reversed(plain), key=lambda one: sum(len(wins(one, other)) for other in plain))
    standing = live()
    if standing is None:
        return Decision(best.name, f"{reason}; {best.name} is the better of the plain ones")
    found = wins(best, standing)
    if len(found) >= WINS:
        return Decision(best.name, f"{reason}; {best.name} beats {_listed({'what is live': found})}")
    return Decision(LIVE, f"{reason}; {best.name} does not beat {_listed({'what is live': found})}, which stays")


def _listed(against: dict[str, list[str]]) -> str:
    """
    >>> _listed({"pca": ["stability", "separation"], "features": []})
    'pca (wins stability, separation) and features (wins nothing)'
    """
    return " and ".join(f"{name} (wins {', '.join(found) or 'nothing'})" for name, found in against.items())
