"""Missing values by regression on the other features, in scaled units: once, or by chained equations.

Multiple imputation by chained equations follows van Buuren and Groothuis-Oudshoorn, "mice: Multivariate Imputation by
Chained Equations in R", Journal of Statistical Software 45(3), 2011, with Bayesian linear regression for each column.
"""

from dataclasses import dataclass

import numpy as np

DRAWS = 5
SWEEPS = 5  # of the chained equations, in fitting and in encoding
PENALTY, PENALTY_PER_ROW = 10.0, 0.01  # ridge: features that say the same share a weight instead of cancelling each other
MOST_ROWS = 20_000  # a regression is fitted on at most so many customers


@dataclass
class Regressions:
    """Feature j is predicted by `scaled @ weights[:, j] + bias[j]`; no feature predicts itself."""

    weights: np.ndarray  # d x d
    bias: np.ndarray  # d
    draws: list[np.ndarray]  # completed n x d matrices that differ in the columns of chained equations; none without these


def fit(
    scaled: np.ndarray,
    missing: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    once: np.ndarray,
    chained: np.ndarray,
    seed: int,
) -> Regressions:
    """Regressions for the features marked in `once` and `chained` (d bool), on customers (n x d), missing ones filled in.

    `limits` (low, high, d each) hold for what is imputed. A feature that is never known has no regression.
    """
    random = np.random.default_rng(seed)
    features = scaled.shape[1]
    found = Regressions(np.zeros((features, features)), np.zeros(features), [])
    filled = scaled.astype(np.float64)
    for j in np.flatnonzero(once & ~missing.all(axis=0)):
        found.weights[:, j], found.bias[j] = _Ridge(scaled, missing, j, random).estimate()
        predicted = scaled[missing[:, j]] @ found.weights[:, j] + found.bias[j]
        filled[missing[:, j], j] = np.clip(predicted, limits[0][j], limits[1][j])
    columns = np.flatnonzero(chained & ~missing.all(axis=0))
    columns = columns[np.argsort(missing[:, columns].sum(axis=0), kind="stable")]  # the best known first, as mice does
    for _ in range(DRAWS if len(columns) else 0):
        found.draws.append(_draw(filled, missing, limits, columns, found, random))
    return found


def _draw(
    start: np.ndarray,
    missing: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    columns: np.ndarray,
    found: Regressions,
    random: np.random.Generator,
) -> np.ndarray:
    """One completed matrix; the last sweep's estimates are added to `found`, each a share of their mean over the draws."""
    filled = start.copy()
    for j in columns:
        filled[missing[:, j], j] = random.choice(filled[~missing[:, j], j], missing[:, j].sum())
    for sweep in range(SWEEPS):
        for j in columns:
            ridge = _Ridge(filled, missing, j, random)
            if sweep == SWEEPS - 1:
                weights, bias = ridge.estimate()
                found.weights[:, j] += weights / DRAWS
                found.bias[j] += bias / DRAWS
            lacking = missing[:, j]
            filled[lacking, j] = np.clip(ridge.drawn(filled[lacking]), limits[0][j], limits[1][j])
    return filled


class _Ridge:
    """The regression of feature j on the others over the customers (n x d) who have it."""

    def __init__(self, filled: np.ndarray, missing: np.ndarray, j: int, random: np.random.Generator):
        rows = np.flatnonzero(~missing[:, j])
        if len(rows) > MOST_ROWS:
            rows = np.sort(random.choice(rows, MOST_ROWS, replace=False))
        others = filled[rows].astype(np.float64)
        known = others[:, j].copy()
        others[:, j] = 0  # its weight is then 0
        self.random, self.j, self.n = random, j, len(rows)
        self.means, self.mean = others.mean(axis=0), known.mean()
        centred = others - self.means
        self.gram = centred.T @ centred + (PENALTY + PENALTY_PER_ROW * self.n) * np.eye(others.shape[1])
        self.weights = np.linalg.solve(self.gram, centred.T @ (known - self.mean))
        self.squares = ((known - self.mean - centred @ self.weights) ** 2).sum()

    def estimate(self) -> tuple[np.ndarray, float]:
        return self.weights, float(self.mean - self.means @ self.weights)

    def drawn(self, rows: np.ndarray) -> np.ndarray:
        """Values for customers (m x d): weights and noise drawn from their posterior."""
        random = self.random
        spread = np.sqrt(self.squares / random.chisquare(max(self.n - 1, 1)))
        root = np.linalg.cholesky(self.gram)
        weights = self.weights + spread * np.linalg.solve(root.T, random.normal(size=len(self.weights)))
        mean = self.mean + spread * random.normal() / np.sqrt(self.n)
        weights[self.j] = 0
        return mean + (rows - self.means) @ weights + spread * random.normal(size=len(rows))
