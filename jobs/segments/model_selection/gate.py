"""The gate: which representation of the customers is published.

A representation is what customers are clustered by: a learned one, such as the learned embedding of the features, or one of
the two baselines that need no training, PCA and raw features. Each is clustered into the same number of clusters and compared
by three measures:

- stability: mean adjusted Rand index between the clusterings of bootstrap resamples of the customers.
- variance explained (columns `separation*`): how much of what customers did next is explained by the cluster they were in
  before, by models trained before. It is the adjusted R squared of a one-way analysis of variance (epsilon squared; Kelley
  1935).
- compactness: the Davies-Bouldin index in one common space, because indices of different spaces cannot be compared. It is that
  of the raw features, with a block for each group of inputs that the model has (common_space.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.metrics import davies_bouldin_score

MIN_LEAD = 0.01  # a smaller lead does not count; for stability absolute, for the Davies-Bouldin index relative
MIN_WINS = 2  # measures, of three, in which a candidate must be better to beat a baseline
N_RESAMPLES = 200  # bootstrap resamples of the customers, for the interval of the variance explained
INTERVAL = (2.5, 97.5)  # percentiles: a 95 % interval
LIVE = "live"  # the name of the live model as a candidate
LABELS = {
    "learned": "the learned embedding",
    "learned_text": "the learned embedding with text",
    "learned_own_vectors": "the learned embedding with own vectors",
    "learned_sequence": "the learned embedding with sequences",
    "learned_all": "the learned embedding with all groups",
    "sequence": "the sequence embedding",
    "pca": "PCA",
    "features": "raw features",
    LIVE: "the live model",
}


@dataclass(frozen=True)
class Candidate:
    """One representation of the customers, clustered, with its measures; a measure that is not known is None."""

    name: str  # a key of LABELS
    k: int  # number of clusters
    stability: float | None  # up to 1; higher is better
    davies_bouldin: float | None  # in the common space; lower is better
    variance_explained: np.ndarray | None  # 1 + N_RESAMPLES shares: of all customers, then of each resample

    @property
    def variance_explained_interval(self) -> tuple[float, float, float] | None:
        """Return the share of variance explained of all customers, and the ends of its 95 % interval."""
        shares = self.variance_explained
        return None if shares is None else (float(shares[0]), *np.percentile(shares[1:], INTERVAL).tolist())


class Decision(NamedTuple):
    """What is published, and why."""

    published: str  # the name of a candidate; LIVE: the live model is kept
    reason: str  # in words, for a person


def choose_representation(
    learned: Sequence[Candidate], baselines: Sequence[Candidate], evaluate_live: Callable[[], Candidate | None]
) -> Decision:
    """Return which candidate is published, and why.

    1. Of the learned representations that beat every baseline the simplest, or a richer one that beats it too, see
       choose_learned(). `learned` holds those that can be clustered, the simplest first.
    2. Otherwise the better baseline, where it beats the live model or there is none. Of equally good baselines it is the
       simplest, which is the last of `baselines`.
    3. Otherwise LIVE: the live model is kept.

    A candidate beats another where it is better in at least MIN_WINS measures, see compare(). `evaluate_live` returns the live
    model as a candidate, or None where there is none. It is called only where the decision depends on it.
    """
    published, reason = choose_learned(learned, baselines)
    if published:
        return Decision(published, reason)
    best = max(reversed(baselines), key=lambda candidate: sum(len(compare(candidate, baseline)) for baseline in baselines))
    live = evaluate_live()
    if live is None:
        return Decision(best.name, f"{reason}; the better baseline is {LABELS[best.name]}")
    measures = compare(best, live)
    against_live = _list_wins({LIVE: measures}, "and")
    if len(measures) >= MIN_WINS:
        return Decision(best.name, f"{reason}; the better baseline, {LABELS[best.name]}, beats {against_live}")
    return Decision(LIVE, f"{reason}; the better baseline, {LABELS[best.name]}, does not beat {against_live}, which is kept")


def choose_learned(learned: Sequence[Candidate], baselines: Sequence[Candidate]) -> tuple[str | None, str]:
    """Return the name of the learned representation that is published, None where none beats every baseline, and the reason.

    They are taken up from the simplest to the richest. One that beats every baseline takes the place of a simpler one that does
    so only where it beats that one too.
    """
    best, praise, remarks = None, "", []
    for candidate in learned:
        label = LABELS[candidate.name]
        wins = {baseline.name: compare(candidate, baseline) for baseline in baselines}
        losses = {name: measures for name, measures in wins.items() if len(measures) < MIN_WINS}
        if losses:
            remarks.append(f"{label} does not beat {_list_wins(losses, 'or')}")
            continue
        if best:
            against = compare(candidate, best)
            if len(against) < MIN_WINS:
                remarks.append(f"{label} does not beat {_list_wins({best.name: against}, 'or')}")
                continue
            wins[best.name] = against
        best, praise = candidate, f"{label} beats {_list_wins(wins, 'and')}"
    remarks = [praise, *remarks] if best else remarks or [f"{LABELS['learned']} cannot be clustered"]
    reason = "; ".join(remarks)
    return best and best.name, reason[0].upper() + reason[1:]


def compare(candidate: Candidate, baseline: Candidate) -> list[str]:
    """Return the measures in which the candidate is better: of "stability", "variance explained" and "compactness".

    It is better in stability and compactness where it leads by more than MIN_LEAD, and in variance explained where it leads
    in 97.5 % of the resamples. It is never better in a measure that is not known of the candidate. A stability or compactness
    that is not known of the baseline is the worst.
    """
    measures = []
    if candidate.stability is not None and candidate.stability > (baseline.stability or 0) + MIN_LEAD:
        measures.append("stability")
    if candidate.variance_explained is not None and baseline.variance_explained is not None:
        leads = candidate.variance_explained[1:] - baseline.variance_explained[1:]
        if np.percentile(leads, INTERVAL[0]) > 0:
            measures.append("variance explained")
    if candidate.davies_bouldin is not None and (
        baseline.davies_bouldin is None or candidate.davies_bouldin < baseline.davies_bouldin * (1 - MIN_LEAD)
    ):
        measures.append("compactness")
    return measures


def variance_explained(outcomes: np.ndarray, clusterings: Sequence[np.ndarray], seed: int) -> list[np.ndarray] | None:
    """Return, for each clustering, the share of the variance of the outcomes that its clusters explain.

    `outcomes` (n x m) are m figures of what n customers did after they were clustered; the share is the mean over the figures
    that vary. Each of `clusterings` holds n cluster numbers. The result has an array for each clustering, 1 + N_RESAMPLES
    long: the share of all customers, then of each bootstrap resample. Resample i holds the same customers for every
    clustering. Returns None where no figure varies.

    >>> outcomes = np.array([[0.0], [0.0], [1.0], [1.0], [0.0], [1.0]])
    >>> same, unrelated = variance_explained(outcomes, [np.array([0, 0, 1, 1, 0, 1]), np.array([0, 1, 0, 1, 0, 1])], 1)
    >>> float(same[0].round(2)), float(unrelated[0].round(2))
    (1.0, -0.11)
    """
    varying = outcomes[:, outcomes.std(axis=0) > 0]
    if not varying.shape[1]:
        return None
    random = np.random.default_rng(seed)
    n = len(outcomes)
    # How often each customer counts: once each, then as often as drawn into a resample.
    weights = [np.ones(n), *(np.bincount(random.integers(n, size=n), minlength=n).astype(float) for _ in range(N_RESAMPLES))]
    return [np.array([_adjusted_r_squared(varying, counts, labels) for counts in weights]) for labels in clusterings]


def davies_bouldin(common_space: np.ndarray, labels: np.ndarray) -> float | None:
    """Return the Davies-Bouldin index of n cluster numbers in the common space (n x d); None for one cluster."""
    return float(davies_bouldin_score(common_space, labels)) if len(np.unique(labels)) > 1 else None


def _adjusted_r_squared(outcomes: np.ndarray, weights: np.ndarray, labels: np.ndarray) -> float:
    """Return the adjusted R squared of outcomes (n x m) by cluster, the mean over the m; customer i counts weights[i] times."""
    n = weights.sum()
    sizes = np.bincount(labels, weights)
    k = np.count_nonzero(sizes)
    centred = outcomes - weights @ outcomes / n
    total = weights @ centred**2
    sums = np.stack([np.bincount(labels, weights * column) for column in centred.T], axis=1)
    between = (sums**2 / np.maximum(sizes, 1)[:, None]).sum(axis=0)
    varies = total > 0
    r_squared = between[varies] / total[varies]
    return float(np.mean(1 - (1 - r_squared) * (n - 1) / max(n - k, 1))) if varies.any() else 0.0


def _list_wins(wins: dict[str, list[str]], conjunction: str) -> str:
    """Return the measures won against each candidate, in words.

    >>> _list_wins({"pca": ["stability", "variance explained"], "features": []}, "or")
    'PCA (better in: stability, variance explained) or raw features (better in no measure)'
    """
    won = {name: f"better in: {', '.join(measures)}" if measures else "better in no measure" for name, measures in wins.items()}
    return f" {conjunction} ".join(f"{LABELS[name]} ({text})" for name, text in won.items())
