"""Imputation of missing values by regression on the other features, in scaled units: a single one, or chained equations.

Multiple imputation by chained equations follows van Buuren and Groothuis-Oudshoorn, "mice: Multivariate Imputation by
Chained Equations in R", Journal of Statistical Software 45(3), 2011, with Bayesian linear regression for each column.
"""

from dataclasses import dataclass

import numpy as np

N_IMPUTATIONS = 5
N_SWEEPS = 5  # of the chained equations, in fitting and in encoding
RIDGE, RIDGE_PER_ROW = 10.0, 0.01  # penalty: correlated features share a weight instead of cancelling each other
MAX_ROWS = 20_000  # customers that a regression is fitted on

Limits = tuple[np.ndarray, np.ndarray]
"""The lowest and the highest value that may be imputed, (n_features,) each."""


@dataclass
class Regressions:
    """Feature j is predicted by `scaled @ weights[:, j] + bias[j]`; a feature is not used to predict itself."""

    weights: np.ndarray  # (n_features, n_features)
    bias: np.ndarray  # (n_features,)
    imputations: list[np.ndarray]  # (n_customers, n_features) each, they differ in the chained features; none without these


def fit_regressions(
    scaled: np.ndarray, missing: np.ndarray, limits: Limits, single: np.ndarray, chained: np.ndarray, seed: int
) -> Regressions:
    """Return regressions for the features that `single` and `chained` (n_features,) mark.

    `scaled` (n_customers, n_features) has missing values filled in; `missing` marks them. A feature that is missing for all
    customers gets no regression.
    """
    random = np.random.default_rng(seed)
    n_features = scaled.shape[1]
    regressions = Regressions(np.zeros((n_features, n_features)), np.zeros(n_features), [])
    completed = scaled.astype(np.float64)
    for j in np.flatnonzero(single & ~missing.all(axis=0)):
        regressions.weights[:, j], regressions.bias[j] = _BayesianRidge(scaled, missing, j, random).estimate()
        predicted = scaled[missing[:, j]] @ regressions.weights[:, j] + regressions.bias[j]
        completed[missing[:, j], j] = np.clip(predicted, limits[0][j], limits[1][j])
    features = np.flatnonzero(chained & ~missing.all(axis=0))
    features = features[np.argsort(missing[:, features].sum(axis=0), kind="stable")]  # fewest missing values first, as in mice
    for _ in range(N_IMPUTATIONS if len(features) else 0):
        regressions.imputations.append(_draw_imputation(completed, missing, limits, features, regressions, random))
    return regressions


def _draw_imputation(
    start: np.ndarray,
    missing: np.ndarray,
    limits: Limits,
    features: np.ndarray,
    regressions: Regressions,
    random: np.random.Generator,
) -> np.ndarray:
    """Return one imputation, and add the estimates of its last sweep to `regressions`, which has their mean in the end."""
    completed = start.copy()
    for j in features:
        completed[missing[:, j], j] = random.choice(completed[~missing[:, j], j], missing[:, j].sum())
    for sweep in range(N_SWEEPS):
        for j in features:
            ridge = _BayesianRidge(completed, missing, j, random)
            if sweep == N_SWEEPS - 1:
                weights, bias = ridge.estimate()
                regressions.weights[:, j] += weights / N_IMPUTATIONS
                regressions.bias[j] += bias / N_IMPUTATIONS
            rows = missing[:, j]
            completed[rows, j] = np.clip(ridge.draw_values(completed[rows]), limits[0][j], limits[1][j])
    return completed


class _BayesianRidge:
    """The regression of feature j on all others, over the customers (n_customers, n_features) who have feature j."""

    def __init__(self, completed: np.ndarray, missing: np.ndarray, j: int, random: np.random.Generator):
        rows = np.flatnonzero(~missing[:, j])
        if len(rows) > MAX_ROWS:
            rows = np.sort(random.choice(rows, MAX_ROWS, replace=False))
        predictors = completed[rows].astype(np.float64)
        target = predictors[:, j].copy()
        predictors[:, j] = 0  # its own weight is then 0
        self.random, self.j, self.n_rows = random, j, len(rows)
        self.means, self.target_mean = predictors.mean(axis=0), target.mean()
        centred = predictors - self.means
        self.gram = centred.T @ centred + (RIDGE + RIDGE_PER_ROW * self.n_rows) * np.eye(predictors.shape[1])
        self.weights = np.linalg.solve(self.gram, centred.T @ (target - self.target_mean))
        self.squared_error = ((target - self.target_mean - centred @ self.weights) ** 2).sum()

    def estimate(self) -> tuple[np.ndarray, float]:
        """Return weights (n_features,) and bias."""
        return self.weights, float(self.target_mean - self.means @ self.weights)

    def draw_values(self, rows: np.ndarray) -> np.ndarray:
        """Return values (n_rows,) for customers (n_rows, n_features): weights and noise are drawn from the posterior."""
        random = self.random
        standard_deviation = np.sqrt(self.squared_error / random.chisquare(max(self.n_rows - 1, 1)))
        root = np.linalg.cholesky(self.gram)
        weights = self.weights + standard_deviation * np.linalg.solve(root.T, random.normal(size=len(self.weights)))
        mean = self.target_mean + standard_deviation * random.normal() / np.sqrt(self.n_rows)
        weights[self.j] = 0
        return mean + (rows - self.means) @ weights + standard_deviation * random.normal(size=len(rows))
