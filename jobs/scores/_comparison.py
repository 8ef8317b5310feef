"""Which forecast is published: that of a model where it is better than both plain rules, else the better rule.

Forecasts made as of an earlier day are compared with what customers did since. Both measures are deviances, which are lowest for
the true mean: of orders the Poisson deviance, of money the Tweedie deviance of power 1.5, under which many customers spend
nothing and few spend much (Jorgensen, "The Theory of Dispersion Models", 1997). Money below 0 counts as 0.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jobs.scores._forecasts import BASELINES, Forecast
from jobs.scores._resampling import is_above_zero

MIN_LEAD = 0.01  # relative: by less, the model that says more of customers is taken
_POWER = 1.5
_SMALLEST_SHARE = 0.001  # of the mean: a forecast of nothing would be infinitely wrong about one order
_GROUPS = 10


class Figures(NamedTuple):
    """How well a method forecast: deviances by customer, and what people look at."""

    orders_deviance: np.ndarray
    net_deviance: np.ndarray
    orders_error: float  # mean absolute error
    net_error: float
    deciles: list[tuple[float, float]]  # mean forecast and actual net of each tenth of the customers, by forecast, largest first


class Decision(NamedTuple):
    """What is published, and why."""

    method: str
    reason: str


def measure_forecast(forecast: Forecast, actual: Forecast) -> Figures:
    """Return the figures of a forecast of n customers."""
    groups = np.array_split(np.argsort(-forecast.net, kind="stable"), _GROUPS)
    return Figures(
        _poisson_deviance(actual.orders, _floor(forecast.orders, actual.orders)),
        _tweedie_deviance(actual.net, _floor(forecast.net, actual.net)),
        float(np.abs(forecast.orders - actual.orders).mean()),
        float(np.abs(forecast.net - actual.net).mean()),
        [(float(forecast.net[rows].mean()), float(actual.net[rows].mean())) for rows in groups if len(rows)],
    )


def choose_method(figures: Mapping[str, Figures], seed: int) -> Decision:
    """Return which of the measured methods is published.

    A model must have the lower deviance of orders and of money than each of BASELINES in 97.5 % of the resamples. Otherwise the
    baseline with the lower deviance of money is published. Of the models MBG/NBD competes, which does not call everyone who
    bought once active for certain, unless the deviance of orders of BG/NBD is lower by more than MIN_LEAD.
    """
    models = [name for name in figures if name not in BASELINES]
    plain = min(BASELINES, key=lambda name: float(figures[name].net_deviance.mean()))
    if not models:
        return Decision(plain, "no model could be fitted")
    deviances = {name: float(figures[name].orders_deviance.mean()) for name in models}
    best = min(models, key=lambda name: deviances[name] * (1 - MIN_LEAD if name == "mbg_nbd" else 1))
    losses = [
        f"{label} against {baseline}"
        for baseline in BASELINES
        for measure, label in (("orders_deviance", "orders"), ("net_deviance", "money"))
        if not _leads(figures[best], figures[baseline], measure, seed)
    ]
    if losses:
        return Decision(plain, f"{best} is not better in {', '.join(losses)}")
    return Decision(best, f"{best} is better than {' and '.join(BASELINES)} in orders and money")


def _leads(figures: Figures, others: Figures, measure: str, seed: int) -> bool:
    """Return whether a deviance is lower than that of another method in 97.5 % of the resamples."""
    return is_above_zero(getattr(others, measure) - getattr(figures, measure), seed)


def _floor(forecast: np.ndarray, actual: np.ndarray) -> np.ndarray:
    return np.maximum(forecast, max(float(actual.mean()), 1e-9) * _SMALLEST_SHARE)


def _poisson_deviance(actual: np.ndarray, mean: np.ndarray) -> np.ndarray:
    logs = np.where(actual > 0, actual * np.log(np.where(actual > 0, actual, 1) / mean), 0)
    return 2 * (logs - actual + mean)


def _tweedie_deviance(actual: np.ndarray, mean: np.ndarray) -> np.ndarray:
    p = _POWER
    return 2 * (actual ** (2 - p) / ((1 - p) * (2 - p)) - actual * mean ** (1 - p) / (1 - p) + mean ** (2 - p) / (2 - p))
