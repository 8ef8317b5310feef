"""Scaling of a feature's winsorised values: the method follows their shape, the numbers are fitted on training customers.

| method   | centre | scale |
|---|---|---|
| standard | mean | standard deviation |
| range    | middle of [low, high] | such that low and high become -sqrt(3) and sqrt(3) |
| robust   | median | interquartile range / 1.349, the standard deviation of a normal distribution with it |
| quantile | as standard, of the rank: the share of customers with a lower value, interpolated between at most KNOTS quantiles |
| log1p    | as standard, of sign(x) log(1 + abs(x)) |
| common   | mean | the same for all such features: the root of their mean variance |

K-Means and the squared error weigh a feature by its variance, so every method gives a variance of about 1. On [0, 1] a share
would have a twelfth of it; uniform values have a variance of 1 on [-sqrt(3), sqrt(3)]. With robust, the values between the
tails have it, and the tails add to it.

Where features share a unit (pixels, sensors, answers on one scale), their standard deviations are information. Standardised, a
feature that hardly varies would count as much as the others. So they keep their proportions, at a mean variance of 1.
"""

from dataclasses import dataclass

import numpy as np

MIN_SKEWNESS = 1.0  # absolute skewness above which log1p is tried
MAX_SKEWNESS_LEFT = 0.75  # log1p is chosen if it leaves at most this share of the skewness
# Excess kurtosis above which neither standard nor log1p is chosen. Winsorised, Laplace's distribution has 1.7, Student's t(3) 3.
# It is never below the square of the skewness less 2, so a feature that remains very skewed is heavy-tailed, too.
HEAVY_TAILED = 2.5
KNOTS = 33
# Distinct values among the KNOTS quantiles. With fewer, half of the customers share one value, and ranks say less than values.
MIN_KNOTS = 17
MAX_VARIANCE_RATIO = 2.0  # robust and range are chosen if their variance is within this factor of 1
FULL_RANGE = 0.9  # width of [low, high] from which a share counts as using [0, 1]
NORMAL_QUARTILES = 1.349  # interquartile range of a normal distribution, in standard deviations
# Features share a unit if at least MIN_ALIKE_FEATURES vary, ALIKE_SHARE of them have the same lower limit and at least
# ALIKE_RANGE of the largest range, and SAME_UPPER_SHARE have the same upper limit. Equal limits differ by SAME_LIMIT of the
# largest range.
MIN_ALIKE_FEATURES, ALIKE_SHARE, ALIKE_RANGE, SAME_UPPER_SHARE, SAME_LIMIT = 8, 0.75, 0.5, 0.5, 0.01


@dataclass(frozen=True)
class Scaling:
    """(transformed value - mean) / scale; only log1p and quantile transform a value."""

    method: str
    mean: float
    scale: float  # 1 where the values do not vary
    knots: np.ndarray  # (n_knots,) values, ascending, each a float32; empty except for quantile
    ranks: np.ndarray  # (n_knots,) share of customers between the first knot and each

    def scale_values(self, values: np.ndarray) -> np.ndarray:
        """Return values (n,), in the feature's unit and within its limits, in scaled units."""
        return (_transform_values(values, self.method, self.knots, self.ranks) - self.mean) / self.scale


def fit_scaling(values: np.ndarray, low: float, high: float, method: str) -> Scaling:
    """Return the scaling of a feature by its training values (n,), winsorised to [low, high]; `auto` chooses by their shape."""
    if method == "auto":
        method = _choose_method(values, low, high)
    knots, ranks = _rank_quantiles(values) if method == "quantile" else (np.empty(0), np.empty(0))
    transformed = _transform_values(values, method, knots, ranks)
    mean, scale = transformed.mean(), transformed.std()
    if method == "range":
        mean, scale = (low + high) / 2, (high - low) / np.sqrt(12)
    elif method == "robust":
        first, median, third = np.quantile(values, [0.25, 0.5, 0.75])
        if _varies(third - first, median):
            mean, scale = median, (third - first) / NORMAL_QUARTILES
        else:
            method = "standard"  # half of the customers have the same value, only the tails vary
    return Scaling(method, mean, scale if _varies(scale, mean) else 1.0, knots, ranks)


def share_a_unit(low: np.ndarray, high: np.ndarray) -> bool:
    """Return whether features with these limits (n_features,) are readings on one scale.

    >>> share_a_unit(np.zeros(8), np.array([255, 255, 250, 255, 200, 255, 9, 0]))  # only seven of them vary
    False
    >>> share_a_unit(np.zeros(9), np.array([255, 255, 250, 255, 200, 255, 9, 0, 240]))
    True
    """
    varying = high > low
    if varying.sum() < MIN_ALIKE_FEATURES:
        return False
    low, high = low[varying], high[varying]
    ranges = high - low
    has_same_low, has_same_high = (np.abs(limit - np.median(limit)) <= SAME_LIMIT * ranges.max() for limit in (low, high))
    is_alike = has_same_low & (ranges >= ALIKE_RANGE * ranges.max())
    return bool(is_alike.mean() >= ALIKE_SHARE and has_same_high.mean() >= SAME_UPPER_SHARE)


def _choose_method(values: np.ndarray, low: float, high: float) -> str:
    if not _varies(values.std(), values.mean()):
        return "standard"
    method = "standard"
    skewness, kurtosis = _skewness_and_kurtosis(values)
    is_skewed = abs(skewness) > MIN_SKEWNESS
    if is_skewed:
        log_skewness, log_kurtosis = _skewness_and_kurtosis(_signed_log1p(values))
        if abs(log_skewness) <= MAX_SKEWNESS_LEFT * abs(skewness):
            method, kurtosis = "log1p", log_kurtosis
    if kurtosis > HEAVY_TAILED:
        if not is_skewed and _has_unit_variance(values, low, high, "robust"):
            return "robust"
        return "quantile" if len(_rank_quantiles(values)[0]) >= MIN_KNOTS else method
    is_share = low >= 0 and high <= 1 and high - low >= FULL_RANGE
    return "range" if is_share and not is_skewed and _has_unit_variance(values, low, high, "range") else method


def _has_unit_variance(values: np.ndarray, low: float, high: float, method: str) -> bool:
    variance = fit_scaling(values, low, high, method).scale_values(values).var()
    return 1 / MAX_VARIANCE_RATIO <= variance <= MAX_VARIANCE_RATIO


def _varies(scatter: float, centre: float) -> bool:
    """Return whether float32 can represent a difference between values with this scatter around this centre."""
    return bool(scatter > max(1e-6 * abs(centre), np.finfo(np.float32).tiny))


def _skewness_and_kurtosis(values: np.ndarray) -> tuple[float, float]:
    """Return skewness and excess kurtosis."""
    standardised = values - values.mean()
    standardised /= standardised.std()
    cubed = standardised**3
    return float(cubed.mean()), float((cubed * standardised).mean()) - 3


def _transform_values(values: np.ndarray, method: str, knots: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    if method == "log1p":
        return _signed_log1p(values)
    return np.interp(values, knots, ranks) if method == "quantile" else values


def _signed_log1p(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values))


def _rank_quantiles(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct quantiles of values (n,), and the share of values between the first and each, counting equal ones half.

    >>> _rank_quantiles(np.array([5.0, 0, 0, 1]))
    (array([0., 1., 5.]), array([0.   , 0.375, 0.625]))
    """
    ordered = np.sort(values.astype(np.float32)).astype(np.float64)  # as the network receives them
    knots = np.unique(ordered[np.linspace(0, len(ordered) - 1, KNOTS).round().astype(int)])
    n_below, n_up_to = (np.searchsorted(ordered, knots, side) for side in ("left", "right"))
    return knots, (n_below + n_up_to - n_up_to[0]) / (2 * len(ordered))
