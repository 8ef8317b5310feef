"""Fitted classifiers as arrays: they need no engine to score customers, and say what each input adds to a score.

A matrix has a row per customer and a column per input; a classifier reads as many of its first columns as it was fitted on. A
score is on a scale of the classifier's own; a calibration turns it into a probability.
"""

from dataclasses import dataclass, fields
from typing import ClassVar, Protocol, Self

import numpy as np
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit

BATCH_ROWS = 20_000  # the intermediate results of so many rows fit into the cache of a core
MIN_ISOTONIC = 1000  # rows, and a tenth of it of the rarer label: an isotonic calibration of fewer follows chance


class Classifier(Protocol):
    """Scores of n customers (n), and the part that each of d inputs has in the difference from the typical score (n x d)."""

    kind: ClassVar[str]

    def score(self, matrix: np.ndarray) -> np.ndarray: ...

    def explain(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class Linear:
    """Weights of d inputs. `centre` is the mean customer, from whom contributions are counted."""

    kind: ClassVar[str] = "linear"
    weights: np.ndarray  # d
    centre: np.ndarray  # d

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Return the weighted sum of each row."""
        return _multiply("nd,d->n", matrix[:, : len(self.weights)], self.weights)

    def explain(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores and (n x d) weight times distance from the mean."""
        distances = matrix[:, : len(self.weights)] - self.centre.astype(np.float32)
        return self.score(matrix), _pad(distances * self.weights.astype(np.float32), matrix)


@dataclass(frozen=True)
class Forest:
    """A sum of trees. Nodes of all trees are numbered through; a row goes left where its input is at most the threshold.

    A leaf is its own child. `values` are what a node adds to the score; of a node that is no leaf, what it would add if it were.
    """

    kind: ClassVar[str] = "forest"
    roots: np.ndarray  # nodes
    inputs: np.ndarray  # of each node
    thresholds: np.ndarray
    left: np.ndarray
    right: np.ndarray
    values: np.ndarray
    depth: int

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Return the sum of the leaves of each row."""
        scores = np.zeros(len(matrix))
        for start in range(0, len(matrix), BATCH_ROWS):
            rows = matrix[start : start + BATCH_ROWS]
            for root in self.roots:
                nodes = np.full(len(rows), root)
                for _ in range(int(self.depth)):
                    nodes = self._descend(rows, nodes)
                scores[start : start + BATCH_ROWS] += self.values[nodes]
        return scores

    def explain(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores and (n x d) the changes of the value along the path of each tree, by the input that decides the way.

        Saabas, "Interpreting random forests", 2014.
        """
        scores, parts = np.zeros(len(matrix)), np.zeros(matrix.shape, np.float32)
        for start in range(0, len(matrix), BATCH_ROWS):
            rows, part = (values[start : start + BATCH_ROWS] for values in (matrix, parts))
            numbers = np.arange(len(rows))
            for root in self.roots:
                nodes = np.full(len(rows), root)
                for _ in range(int(self.depth)):
                    children = self._descend(rows, nodes)
                    part[numbers, self.inputs[nodes]] += self.values[children] - self.values[nodes]
                    nodes = children
                scores[start : start + BATCH_ROWS] += self.values[nodes]
        return scores, parts

    def _descend(self, rows: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        goes_left = rows[np.arange(len(rows)), self.inputs[nodes]] <= self.thresholds[nodes]
        return np.where(goes_left, self.left[nodes], self.right[nodes])


@dataclass(frozen=True)
class Network:
    """A network of one hidden layer with rectified units: d inputs, h units, one score."""

    kind: ClassVar[str] = "network"
    hidden: np.ndarray  # d x h
    hidden_bias: np.ndarray  # h
    output: np.ndarray  # h
    centre: np.ndarray  # d

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Return the output of each row."""
        return _multiply("nh,h->n", np.maximum(self._add_up(matrix), 0), self.output)

    def explain(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores and (n x d) gradient times distance from the mean."""
        gradient = _multiply("nh,dh->nd", (self._add_up(matrix) > 0) * self.output.astype(np.float32), self.hidden)
        distances = matrix[:, : len(self.hidden)] - self.centre.astype(np.float32)
        return self.score(matrix), _pad(distances * gradient, matrix)

    def _add_up(self, matrix: np.ndarray) -> np.ndarray:
        return _multiply("nd,dh->nh", matrix[:, : len(self.hidden)], self.hidden) + self.hidden_bias.astype(np.float32)


def _multiply(subscripts: str, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return products of rows and weights. Unlike with BLAS, the result of a row does not depend on the rows beside it."""
    return np.einsum(subscripts, rows, weights.astype(rows.dtype))


def _pad(contributions: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return contributions with columns of 0 for the other columns of a matrix."""
    return np.pad(contributions, ((0, 0), (0, matrix.shape[1] - contributions.shape[1])))


CLASSIFIERS = {kind.kind: kind for kind in (Linear, Forest, Network)}


@dataclass(frozen=True)
class Calibration:
    """A monotone curve from scores to probabilities: straight lines between points, or a logistic curve where there are none."""

    slope: float = 0.0
    intercept: float = 0.0
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()

    @classmethod
    def fit(cls, scores: np.ndarray, labels: np.ndarray) -> Self:
        """Return the isotonic regression of n labels, 0 or 1, on scores, or of few rows the logistic one of Platt (1999)."""
        n, rarer = len(labels), min(labels.sum(), len(labels) - labels.sum())
        if n >= MIN_ISOTONIC and rarer >= MIN_ISOTONIC / 10:
            order = np.argsort(scores, kind="stable")
            steps = isotonic_regression(labels[order].astype(float))
            ends = np.flatnonzero(np.diff(steps.x, append=np.inf))
            starts = np.concatenate([[0], ends[:-1] + 1])
            middles = [float(scores[order][start : end + 1].mean()) for start, end in zip(starts, ends, strict=True)]
            least = 1 / (n + 2)  # nobody is certain
            return cls(scores=tuple(middles), probabilities=tuple(np.clip(steps.x[ends], least, 1 - least).tolist()))
        centre, width = float(scores.mean()), float(scores.std()) or 1.0
        positives = labels.sum()
        targets = np.where(labels > 0, (positives + 1) / (positives + 2), 1 / (n - positives + 2))
        units = (scores - centre) / width

        def loss(parameters: np.ndarray) -> float:
            logits = parameters[0] * units + parameters[1]
            return float(np.logaddexp(0, logits).sum() - (targets * logits).sum())

        slope, intercept = minimize(loss, np.array([1.0, 0.0]), method="BFGS").x if width else (0.0, 0.0)
        slope = max(slope, 0.0) / width  # a curve that falls would turn the order round
        return cls(float(slope), float(intercept - slope * centre))

    def apply(self, scores: np.ndarray) -> np.ndarray:
        """Return the probability of each score."""
        if self.scores:
            return np.interp(scores, self.scores, self.probabilities)
        return expit(self.slope * scores + self.intercept)


def to_record(classifier: Classifier) -> dict:
    """Return a classifier as JSON knows it."""
    values = {field.name: getattr(classifier, field.name) for field in fields(classifier)}
    return {"kind": classifier.kind} | {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in values.items()}


def from_record(record: dict) -> Classifier:
    """Return the classifier of to_record()."""
    values = {name: np.array(value) if isinstance(value, list) else value for name, value in record.items() if name != "kind"}
    return CLASSIFIERS[record["kind"]](**values)
