"""From a feature's winsorised values to a column for the network: chosen by shape and fitted on the training customers.

| method   | centre | scale |
|---|---|---|
| standard | mean | standard deviation |
| range    | middle of [low, high] | such that low and high become -sqrt(3) and sqrt(3) |
| robust   | median | interquartile range / 1.349, which is the standard deviation of a normal distribution |
| quantile | standard, of the share of customers with less, linear between at most KNOTS quantiles |
| log1p    | standard, of sign(x) log(1 + abs(x)) |
| common   | mean | one for all columns: the root of their mean variance |

K-Means and the squared error weigh a column by its variance. On [0, 1] a share would count a twelfth of a standardised
count, so every method gives a variance of about 1: evenly spread values have it on [-sqrt(3), sqrt(3)], and robust gives it
to the values between the tails, which come on top.

Where the columns share a unit (pixels, sensors, answers on one scale) a column's spread is information: divided by its
own, one that hardly varies would count as much as the rest. They keep their spreads, at a variance of 1 on average.
"""

from dataclasses import dataclass

import numpy as np

SKEWED = 1.0  # absolute skewness from which log1p is tried
LOG_GAIN = 0.75  # log1p is taken where it leaves at most this share of the skewness
# Excess kurtosis that is not left to standard and log1p. Winsorised, Laplace's distribution has 1.7, Student's t(3) 3. It is
# never below the square of the skewness less 2, so what stays very skewed is heavy-tailed, too.
HEAVY_TAILED = 2.5
KNOTS = 33
MANY = 17  # different values of the KNOTS quantiles: with fewer, half of the customers have one value, and ranks say less
EVEN = 2.0  # robust and range are taken where they leave a variance within this factor of 1
FULL = 0.9  # of [0, 1], from which shares are taken to use it
NORMAL_QUARTILES = 1.349  # interquartile range of a normal distribution, in standard deviations
SAME_LIMIT = 0.01  # of the largest range: limits that differ by less are the same
ALIKE_RANGE, ALIKE_SHARE, FULL_SHARE, ALIKE_COLUMNS = 0.5, 0.75, 0.5, 8  # see share_a_unit


@dataclass(frozen=True)
class Scaling:
    """(bent value - mean) / scale; values are bent by log1p and quantile alone."""

    method: str
    mean: float
    scale: float  # 1 where the values do not differ
    knots: np.ndarray  # k values, ascending, each a float32; none but for quantile
    ranks: np.ndarray  # k shares of customers between the first and each

    def of(self, values: np.ndarray) -> np.ndarray:
        """Values (n, in the feature's unit, within its limits) in scaled units."""
        return (_bent(values, self.method, self.knots, self.ranks) - self.mean) / self.scale


def fit(values: np.ndarray, low: float, high: float, method: str) -> Scaling:
    """The scaling of a feature by its training values (n, winsorised to [low, high]); `auto` goes by their shape."""
    if method == "auto":
        method = _by_shape(values, low, high)
    knots, ranks = _quantiles(values) if method == "quantile" else (np.empty(0), np.empty(0))
    bent = _bent(values, method, knots, ranks)
    mean, scale = bent.mean(), bent.std()
    if method == "range":
        mean, scale = (low + high) / 2, (high - low) / np.sqrt(12)
    elif method == "robust":
        first, median, third = np.quantile(values, [0.25, 0.5, 0.75])
        if _differs(third - first, median):
            mean, scale = median, (third - first) / NORMAL_QUARTILES
        else:
            method = "standard"  # half of the customers have one value, the tails are all there is
    return Scaling(method, mean, scale if _differs(scale, mean) else 1.0, knots, ranks)


def share_a_unit(low: np.ndarray, high: np.ndarray) -> bool:
    """Whether features (limits, d each) are readings on one scale: ALIKE_SHARE of them have the same lower limit and at least
    ALIKE_RANGE of the largest range, FULL_SHARE of them the same upper limit, too.

    >>> share_a_unit(np.zeros(8), np.array([255, 255, 250, 255, 200, 255, 9, 0]))  # seven of them differ
    False
    >>> share_a_unit(np.zeros(9), np.array([255, 255, 250, 255, 200, 255, 9, 0, 240]))
    True
    """
    varying = high > low
    if varying.sum() < ALIKE_COLUMNS:
        return False
    low, high = low[varying], high[varying]
    ranges = high - low
    starts_alike, ends_alike = (np.abs(limit - np.median(limit)) <= SAME_LIMIT * ranges.max() for limit in (low, high))
    alike = starts_alike & (ranges >= ALIKE_RANGE * ranges.max())
    return bool(alike.mean() >= ALIKE_SHARE and ends_alike.mean() >= FULL_SHARE)


def _by_shape(values: np.ndarray, low: float, high: float) -> str:
    if not _differs(values.std(), values.mean()):
        return "standard"
    method = "standard"
    skewness, kurtosis = _shape(values)
    is_skewed = abs(skewness) > SKEWED
    if is_skewed:
        logged_skewness, logged_kurtosis = _shape(_logged(values))
        if abs(logged_skewness) <= LOG_GAIN * abs(skewness):
            method, kurtosis = "log1p", logged_kurtosis
    if kurtosis > HEAVY_TAILED:
        if not is_skewed and _is_even(values, low, high, "robust"):
            return "robust"
        return "quantile" if len(_quantiles(values)[0]) >= MANY else method
    is_share = low >= 0 and high <= 1 and high - low >= FULL
    return "range" if is_share and not is_skewed and _is_even(values, low, high, "range") else method


def _is_even(values: np.ndarray, low: float, high: float, method: str) -> bool:
    return 1 / EVEN <= fit(values, low, high, method).of(values).var() <= EVEN


def _differs(spread: float, centre: float) -> bool:
    """Whether float32 sees that values differ."""
    return bool(spread > max(1e-6 * abs(centre), np.finfo(np.float32).tiny))


def _shape(values: np.ndarray) -> tuple[float, float]:
    """Skewness and excess kurtosis."""
    centred = values - values.mean()
    centred /= centred.std()
    cubed = centred**3
    return float(cubed.mean()), float((cubed * centred).mean()) - 3


def _bent(values: np.ndarray, method: str, knots: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    if method == "log1p":
        return _logged(values)
    return np.interp(values, knots, ranks) if method == "quantile" else values


def _logged(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values))


def _quantiles(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different quantiles of n values, and the share of values between the first and each, of equal ones half.

    >>> _quantiles(np.array([5.0, 0, 0, 1]))
    (array([0., 1., 5.]), array([0.   , 0.375, 0.625]))
    """
    ordered = np.sort(values.astype(np.float32)).astype(np.float64)  # as the network gets them
    knots = np.unique(ordered[np.linspace(0, len(ordered) - 1, KNOTS).round().astype(int)])
    below, up_to = (np.searchsorted(ordered, knots, side) for side in ("left", "right"))
    return knots, (below + up_to - up_to[0]) / (2 * len(ordered))
