"""What a campaign changed: the difference between treated and held-out customers, and how large one must be to be seen.

Everyone who was in the audience counts on the side on which they were drawn, whatever they did (intention to treat). Customers
of segments with different holdout shares are compared within each share and then put together by size, because such segments
differ. Outcomes are adjusted by what the same customers did before (CUPED: Deng, Xu, Kohavi, Walker, "Improving the Sensitivity
of Online Controlled Experiments by Utilizing Pre-Experiment Data", 2013).

While a campaign runs, people look every day. Each look before the end gets its part of EARLY_ALPHA, so that these intervals hold
all together, whatever the days have to do with each other (Bonferroni). The last look is an ordinary one at ALPHA (Haybittle
1971; Peto and others 1976).
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm, t

ALPHA = 0.05  # false positives of an interval
EARLY_ALPHA = 0.01  # false positives of all looks before the end together
POWER = 0.8


class Estimate(NamedTuple):
    """A difference of means between treated and held-out customers."""

    mean_treated: float  # adjusted, and so is the next: they differ by the difference
    mean_holdout: float
    difference: float
    standard_error: float
    degrees: float  # of freedom
    variance_reduction: float  # share of the variance of the difference that the adjustment took away
    ratio_error: float | None  # standard error of the relative difference; None where the holdout's mean may be 0

    @property
    def p_value(self) -> float:
        """The two-sided p-value of no difference (Welch's t-test)."""
        return float(2 * t.sf(abs(self.difference) / self.standard_error, self.degrees))

    def interval(self, alpha: float = ALPHA) -> tuple[float, float]:
        """Return the ends of the interval that holds the difference with probability 1 - alpha."""
        reach = t.isf(alpha / 2, self.degrees) * self.standard_error
        return float(self.difference - reach), float(self.difference + reach)

    def relative_interval(self, alpha: float = ALPHA) -> tuple[float, float, float] | None:
        """Return the difference as a share of the holdout's mean, and the ends of its interval (delta method)."""
        if self.ratio_error is None:
            return None
        ratio = self.difference / self.mean_holdout
        reach = t.isf(alpha / 2, self.degrees) * self.ratio_error
        return float(ratio), float(ratio - reach), float(ratio + reach)


def estimate_effect(
    outcome: np.ndarray, before: np.ndarray, held_out: np.ndarray, share: np.ndarray, is_early: bool = False
) -> Estimate | None:
    """Return the effect on the outcome of n customers (n), adjusted by what they did before (n).

    `held_out` (n, bool) is the draw and `share` (n) the probability with which it was made. Early in a campaign few customers
    have done anything, and by chance none of a small holdout: with `is_early` a side varies at least as much as both together.
    None where a side has fewer than two customers or nobody differs: nothing can be said then. About 0.1 µs of CPU a customer.
    """
    cells = [(share == value) & (held_out == side) for value in np.unique(share) for side in (False, True)]
    sizes = np.array([cell.sum() for cell in cells])
    if len(sizes) == 0 or sizes.min() < 2:
        return None
    slope = _fit_slope(outcome, before, cells)
    adjusted = outcome - slope * (before - before.mean())
    sizes = sizes.reshape(-1, 2)
    means, variances = _describe_cells(adjusted, cells, sizes, is_early)
    _, raw_variances = _describe_cells(outcome, cells, sizes, is_early)
    weights = sizes.sum(axis=1, keepdims=True) / sizes.sum()
    treated, holdout = (weights * means).sum(axis=0)
    parts = weights**2 * variances / sizes
    variance, raw_variance = parts.sum(), (weights**2 * raw_variances / sizes).sum()
    if variance <= 1e-18 * max(1.0, float(np.square(outcome).mean())):
        return None
    degrees = variance**2 / (parts**2 / (sizes - 1)).sum()
    of_treated, of_holdout = parts.sum(axis=0)
    is_positive = holdout > norm.isf(ALPHA / 2) * np.sqrt(of_holdout)
    ratio_error = float(np.sqrt(of_treated + (treated / holdout) ** 2 * of_holdout) / holdout) if is_positive else None
    return Estimate(
        float(treated), float(holdout), float(treated - holdout), float(np.sqrt(variance)), float(degrees),
        float(1 - variance / raw_variance), ratio_error,
    )  # fmt: skip


def _describe_cells(
    values: np.ndarray, cells: list[np.ndarray], sizes: np.ndarray, is_early: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the means and variances of the cells, in the shape of `sizes`: by share and side."""
    means = np.array([values[cell].mean() for cell in cells]).reshape(sizes.shape)
    variances = np.array([values[cell].var(ddof=1) for cell in cells]).reshape(sizes.shape)
    if is_early:
        pooled = ((sizes - 1) * variances).sum(axis=1, keepdims=True) / (sizes - 1).sum(axis=1, keepdims=True)
        variances = np.maximum(variances, pooled)
    return means, variances


def _fit_slope(outcome: np.ndarray, before: np.ndarray, cells: list[np.ndarray]) -> float:
    """Return the slope of the outcome on what was before, within the cells, so that no effect is part of it."""
    centred = [(outcome[cell] - outcome[cell].mean(), before[cell] - before[cell].mean()) for cell in cells]
    variance = sum(float(x @ x) for _, x in centred)
    return sum(float(y @ x) for y, x in centred) / variance if variance > 0 else 0.0


class Plan(NamedTuple):
    """What a comparison of these sizes can see."""

    detectable: float  # difference that is found with a probability of POWER
    detectable_share: float | None  # of the mean; None, as is the next, where that is not positive
    needed: int | None  # customers for the effect that matters


def plan_effect(
    outcome: np.ndarray, before: np.ndarray, held_out: np.ndarray, share: np.ndarray, smallest_effect: float, alpha: float = ALPHA
) -> Plan | None:
    """Return what can be seen of n customers, were the window the days that ended before the campaign.

    `outcome` is the metric over those days and `before` over the days before them. `smallest_effect` is a share of the mean.
    The variance is that of all customers: nobody was treated yet. None where a side has fewer than two, or nobody differs.
    """
    variance = 0.0
    slope = _fit_slope(outcome, before, [share == value for value in np.unique(share)])
    adjusted = outcome - slope * (before - before.mean())
    for value in np.unique(share):
        is_member = share == value
        n_members, n_held_out = int(is_member.sum()), int(held_out[is_member].sum())
        if min(n_held_out, n_members - n_held_out) < 2:
            return None
        inverse_sizes = 1 / n_held_out + 1 / (n_members - n_held_out)
        variance += (n_members / len(share)) ** 2 * adjusted[is_member].var(ddof=1) * inverse_sizes
    if variance <= 0:
        return None
    return _judge_error(float(np.sqrt(variance)), float(outcome.mean()), len(share), smallest_effect, alpha)


def judge_estimate(estimate: Estimate, n_customers: int, smallest_effect: float, alpha: float = ALPHA) -> Plan:
    """Return what an estimate on n customers could see as it turned out; `smallest_effect` is a share of the holdout's mean."""
    return _judge_error(estimate.standard_error, estimate.mean_holdout, n_customers, smallest_effect, alpha)


def _judge_error(standard_error: float, mean: float, n_customers: int, smallest_effect: float, alpha: float) -> Plan:
    detectable = float((norm.isf(alpha / 2) + norm.ppf(POWER)) * standard_error)
    if mean <= 0:
        return Plan(detectable, None, None)
    return Plan(detectable, detectable / mean, int(np.ceil(n_customers * (detectable / (smallest_effect * mean)) ** 2)))


def part_of_alpha(days_before_end: int, is_over: bool) -> float:
    """Return the false positives that a look may have: its part of EARLY_ALPHA before the end, ALPHA after it.

    >>> part_of_alpha(20, is_over=False), part_of_alpha(20, is_over=True)
    (0.0005, 0.05)
    """
    return ALPHA if is_over else EARLY_ALPHA / days_before_end


def correct_p_values(p_values: list[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979).

    >>> correct_p_values([0.04, 0.01, 0.03])
    [0.06, 0.03, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.minimum(np.maximum.accumulate(np.array(p_values)[order] * factors), 1.0)
    result = np.empty(len(p_values))
    result[order] = corrected
    return result.tolist()
