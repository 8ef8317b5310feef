"""How well probabilities foretell labels: the usual measures with bootstrap intervals, curves, and which contestant wins."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jobs.scores._resampling import INTERVAL, draw_resamples

_GROUPS = 10
_CURVE_POINTS = 50

METRICS = ("log_loss", "brier", "roc_auc", "pr_auc", "accuracy", "precision", "recall", "f1")


class Figure(NamedTuple):
    """A measure of the test customers with its 95 % interval."""

    value: float
    low: float
    high: float


def log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the log loss of each of n customers, in nats."""
    return -np.log(np.where(labels > 0, probabilities, 1 - probabilities))


def measure(probabilities: np.ndarray, labels: np.ndarray, threshold: float, seed: int) -> dict[str, Figure]:
    """Return METRICS of n customers. A probability of `threshold` or more counts as a prediction that it comes true."""
    order = np.argsort(-probabilities, kind="stable")
    p, y = probabilities[order], labels[order].astype(float)
    weights = resample(len(y), seed)[:, order]
    rows = [_measure_weighted(p, y, weight, threshold) for weight in (np.ones(len(y)), *weights)]
    intervals = np.nanpercentile(np.array(rows[1:]), INTERVAL, axis=0)
    return {name: Figure(rows[0][n], *map(float, intervals[:, n])) for n, name in enumerate(METRICS)}


def resample(n: int, seed: int) -> np.ndarray:
    """Return how often each of n customers is in each resample (N_RESAMPLES x n)."""
    return np.stack([np.bincount(rows, minlength=n) for rows in draw_resamples(n, seed)]).astype(np.float32)


def resample_areas(scores: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the area under the ROC curve of n customers, then of each resample (1 + N_RESAMPLES); NaN of one label only.

    The same seed draws the same customers, so that areas of two scores can be subtracted.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.inf))  # equal scores are one step of the curve
    y = labels[order].astype(float)
    weights = np.vstack([np.ones(len(y)), resample(len(y), seed)])[:, order]
    true, false = (np.pad(np.cumsum(weights * kind, axis=1)[:, ends], ((0, 0), (1, 0))) for kind in (y, 1 - y))
    pairs = true[:, -1] * false[:, -1]
    areas = np.trapezoid(true, false, axis=1)
    return np.divide(areas, pairs, out=np.full(len(areas), np.nan), where=pairs > 0)


def _measure_weighted(p: np.ndarray, y: np.ndarray, weight: np.ndarray, threshold: float) -> list[float]:
    """Return METRICS of customers in descending order of their probability, each counted `weight` times.

    Equal probabilities are one step of both curves. Area under precision and recall: average precision.
    """
    n, positives = float(weight.sum()), float((weight * y).sum())
    if not 0 < positives < n:
        return [float("nan")] * len(METRICS)  # a resample of one label only
    ends = np.flatnonzero(np.diff(p, append=-1.0))
    true, false = np.cumsum(weight * y)[ends], np.cumsum(weight * (1 - y))[ends]
    roc_auc = float(np.trapezoid(np.concatenate([[0], true]), np.concatenate([[0], false])) / (positives * (n - positives)))
    pr_auc = float((np.diff(true, prepend=0) * true / np.maximum(true + false, 1e-9)).sum() / positives)
    predicted = p >= threshold
    hits, alarms = float((weight * y * predicted).sum()), float((weight * predicted).sum())
    precision, recall = hits / alarms if alarms else 0.0, hits / positives
    accuracy = float((weight * (predicted == y)).sum()) / n
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    losses = float((weight * log_losses(p, y)).sum()) / n, float((weight * (p - y) ** 2).sum()) / n
    return [*losses, roc_auc, pr_auc, accuracy, precision, recall, f1]


def choose_threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the probability from which on a prediction has the highest F1 on these customers."""
    order = np.argsort(-probabilities, kind="stable")
    p, y = probabilities[order], labels[order].astype(float)
    ends = np.flatnonzero(np.diff(p, append=-1.0))
    true = np.cumsum(y)[ends]
    return float(p[ends][np.argmax(2 * true / (ends + 1 + y.sum()))])


def choose_simplest(losses: Mapping[str, np.ndarray], seed: int) -> str:
    """Return the first contestant whose loss is not higher than the lowest in 97.5 % of the resamples of the same customers.

    `losses` has the loss of each test customer by contestant, the simplest contestant first.
    """
    best = min(losses, key=lambda name: float(losses[name].mean()))
    weights = resample(len(losses[best]), seed)

    def is_within(name: str) -> bool:
        leads = weights @ (losses[name] - losses[best]) / len(losses[best])
        return bool(np.percentile(leads, INTERVAL[0]) <= 0)

    return next(name for name in losses if is_within(name))


def trace_roc(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[float, float]]:
    """Return at most _CURVE_POINTS points (false positive rate, true positive rate) of the ROC curve."""
    order = np.argsort(-probabilities, kind="stable")
    p, y = probabilities[order], labels[order].astype(float)
    ends = np.flatnonzero(np.diff(p, append=-1.0))
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, _CURVE_POINTS).astype(int))]
    true, false = np.cumsum(y)[ends] / y.sum(), np.cumsum(1 - y)[ends] / (len(y) - y.sum())
    return [(0.0, 0.0), *zip(false.tolist(), true.tolist(), strict=True)]


def trace_calibration(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[float, float, int]]:
    """Return mean probability, share that came true and number of customers of each tenth by probability, lowest first."""
    groups = np.array_split(np.argsort(probabilities, kind="stable"), _GROUPS)
    return [(float(probabilities[g].mean()), float(labels[g].mean()), len(g)) for g in groups if len(g)]
