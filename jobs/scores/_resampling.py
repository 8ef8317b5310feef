"""Bootstrap resamples of customers, by which contestants are compared: the same seed draws the same customers."""

from collections.abc import Iterator

import numpy as np

N_RESAMPLES = 200
INTERVAL = (2.5, 97.5)  # percentiles between which 95 % of the resamples lie


def draw_resamples(n: int, seed: int) -> Iterator[np.ndarray]:
    """Yield N_RESAMPLES resamples of n customers, each as n positions."""
    random = np.random.default_rng(seed)
    return (random.integers(n, size=n) for _ in range(N_RESAMPLES))


def resample_means(values: np.ndarray, seed: int) -> np.ndarray:
    """Return the mean of n values in each resample (N_RESAMPLES)."""
    return np.array([values[rows].mean() for rows in draw_resamples(len(values), seed)])


def is_above_zero(values: np.ndarray, seed: int) -> bool:
    """Return whether the mean of n values is above 0 in 97.5 % of the resamples."""
    return bool(np.percentile(resample_means(values, seed), INTERVAL[0]) > 0)


def find_interval(figures: np.ndarray) -> tuple[float, float]:
    """Return the ends of the 95 % interval of a figure, of which each resample has a value."""
    low, high = np.percentile(figures, INTERVAL)
    return float(low), float(high)
