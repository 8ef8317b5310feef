"""Models of when customers buy, and whether they still do: BG/NBD and MBG/NBD.

While active, a customer buys at random with a rate of their own, and after a purchase leaves for good with a probability of
their own. Rates follow a gamma distribution (r, alpha) and these probabilities a beta distribution (a, b).

- BG/NBD: Fader, Hardie, Lee, "Counting Your Customers" the Easy Way, Marketing Science 2005. Nobody leaves before a repeat
  purchase, so everyone who bought once is active for certain.
- MBG/NBD: Batislam, Denizel, Filiztekin, IJRM 2007; Hoppe and Wagner, Marketing JRM 2007. A customer may leave after the first
  purchase too.

A purchase is a day with an order. A history is three numbers: `repeats`, the purchases after the first; `last`, the days from the
first to the last; `age`, the days from the first until the day as of which the model is fitted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammaln, hyp2f1

_DAYS_PER_UNIT = 7.0  # in weeks, the parameters are of one order of magnitude
_LARGEST_LOG = 12.0  # of a parameter: beyond it the likelihood is flat, and there is no estimate
_STARTS = ((0.5, 10.0, 1.0, 3.0), (0.1, 1.0, 0.5, 5.0))


class Histories(NamedTuple):
    """Different purchase histories, and how many customers have each."""

    repeats: np.ndarray  # n
    last: np.ndarray  # n, days
    age: np.ndarray  # n, days
    customers: np.ndarray  # n


@dataclass(frozen=True)
class PurchaseModel:
    """A fitted model: `name` is a key of MODELS; alpha is in weeks."""

    name: str
    r: float
    alpha: float
    a: float
    b: float

    def probability_alive(self, histories: Histories) -> np.ndarray:
        """Return the probability that customers with these histories are still active, n numbers from 0 to 1."""
        return 1 / (1 + np.exp(self._log_odds_of_leaving(histories)))

    def expected_purchases(self, histories: Histories, days: int) -> np.ndarray:
        """Return the purchases that customers with these histories are expected to make in so many days to come."""
        later = MODELS[self.name].may_leave_at_once
        repeats, age, time = histories.repeats, histories.age / _DAYS_PER_UNIT, days / _DAYS_PER_UNIT
        a = self.a if abs(self.a - 1) > 1e-6 else 1 + 1e-6  # the limit at 1 is continuous
        shape, chances = self.r + repeats, a + self.b + repeats - (not later)
        series = hyp2f1(shape, self.b + repeats + later, chances, time / (self.alpha + age + time))
        ratio = np.exp(shape * (np.log(self.alpha + age) - np.log(self.alpha + age + time)))
        return np.maximum(chances / (a - 1) * (1 - ratio * series), 0) * self.probability_alive(histories)

    def log_likelihood(self, histories: Histories) -> float:
        """Return the logarithm of the likelihood of the histories, time in weeks."""
        repeats, age = histories.repeats, histories.age / _DAYS_PER_UNIT
        later = MODELS[self.name].may_leave_at_once
        purchases = gammaln(self.r + repeats) - gammaln(self.r) + self.r * np.log(self.alpha)
        stays = repeats + later
        chances = gammaln(self.a + self.b) - gammaln(self.b) + gammaln(self.b + stays) - gammaln(self.a + self.b + stays)
        silence = -(self.r + repeats) * np.log(self.alpha + age) + np.logaddexp(0, self._log_odds_of_leaving(histories))
        return float(histories.customers @ (purchases + chances + silence))

    def _log_odds_of_leaving(self, histories: Histories) -> np.ndarray:
        repeats, last, age = histories.repeats, histories.last / _DAYS_PER_UNIT, histories.age / _DAYS_PER_UNIT
        silence = (self.r + repeats) * (np.log(self.alpha + age) - np.log(self.alpha + last))
        if MODELS[self.name].may_leave_at_once:
            return np.log(self.a) - np.log(self.b + repeats) + silence
        odds = np.log(self.a) - np.log(self.b + np.maximum(repeats, 1) - 1) + silence
        return np.where(repeats > 0, odds, -np.inf)


class _Kind(NamedTuple):
    may_leave_at_once: bool


MODELS = {"bg_nbd": _Kind(False), "mbg_nbd": _Kind(True)}


def fit_purchases(histories: Histories, name: str) -> PurchaseModel | None:
    """Return the model with the highest likelihood of the histories; None where nobody came back, or it has no maximum.

    The cost grows with the number of different histories, not with that of customers.
    """
    if not histories.repeats.any():
        return None
    fitted = _maximize(lambda values: PurchaseModel(name, *values).log_likelihood(histories), histories.customers.sum(), _STARTS)
    return None if fitted is None else PurchaseModel(name, *fitted)


@dataclass(frozen=True)
class SpendModel:
    """The Gamma-Gamma model of money: Fader, Hardie, "The Gamma-Gamma Model of Monetary Value", 2013.

    What a customer spends on a purchase varies around a mean of their own, and these means follow a distribution over customers.
    They do not depend on how often a customer buys.
    """

    p: float
    q: float
    v: float

    def expected_spend(self, purchases: np.ndarray, mean_spend: np.ndarray) -> np.ndarray:
        """Return the expected money of a purchase of customers, from their number of purchases (n) and their mean spend (n)."""
        return self.p * (self.v + purchases * mean_spend) / (self.p * purchases + self.q - 1)


def fit_spend(purchases: np.ndarray, mean_spend: np.ndarray) -> SpendModel | None:
    """Return the model with the highest likelihood of n customers' purchases and mean spend, which is above 0.

    None where the likelihood has no maximum, because a customer always spends the same, or where the mean of all customers is
    not finite (q is at most 1).
    """
    scale = float(mean_spend.mean())
    mean = mean_spend / scale

    def log_likelihood(values: np.ndarray) -> float:
        p, q, v = values
        shape = p * purchases
        total = gammaln(shape + q) - gammaln(shape) - gammaln(q) + q * np.log(v) + (shape - 1) * np.log(mean)
        return float((total + shape * np.log(purchases) - (shape + q) * np.log(purchases * mean + v)).sum())

    fitted = _maximize(log_likelihood, len(mean), ((2.0, 3.0, 1.0), (6.0, 4.0, 1.0)))
    if fitted is None or fitted[1] <= 1:
        return None
    p, q, v = fitted
    return SpendModel(p, q, v * scale)


def _maximize(
    log_likelihood: Callable[[np.ndarray], float], n: int, starts: tuple[tuple[float, ...], ...]
) -> tuple[float, ...] | None:
    """Return the positive values at the highest log-likelihood of `n` customers; None where it rises without end."""

    def loss(logs: np.ndarray) -> float:
        value = log_likelihood(np.exp(logs)) / n
        return -value if np.isfinite(value) else 1e10

    limits = [(-_LARGEST_LOG, _LARGEST_LOG)] * len(starts[0])
    results = [minimize(loss, np.log(start), method="L-BFGS-B", bounds=limits, options={"ftol": 1e-12}) for start in starts]
    best = min(results, key=lambda result: result.fun)
    if best.fun >= 1e10 or np.abs(best.x).max() > _LARGEST_LOG - 0.01:
        return None
    return tuple(np.exp(best.x).tolist())
