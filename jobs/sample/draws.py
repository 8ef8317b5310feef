"""Random choices, and hashes that give the same value for the same seed whatever else is drawn."""

import numpy as np


def choose_index(u: np.ndarray, cumulative: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Return the index of the interval of `cumulative` that each uniform `u` falls into.

    `cumulative` is one row of cumulative shares, or one row per element. The index is -1 where u lies above a total
    below 1, and outside the mask `among`. A total that is 1 up to rounding leaves nothing above it.
    """
    last = cumulative.shape[-1]
    index = (u[:, None] >= cumulative).sum(1) if cumulative.ndim == 2 else np.searchsorted(cumulative, u, side="right")
    index = np.where(index < last, index, np.where(cumulative[..., -1] > 1 - 1e-9, last - 1, -1))
    return index if among is None else np.where(among, index, -1)


def number_within_groups(counts: np.ndarray) -> np.ndarray:
    """Return 0, 1, .. count - 1 for each count.

    >>> number_within_groups(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def hash_values(seed: int, stream: int, values: np.ndarray) -> np.ndarray:
    """Return 64 well-mixed bits for each value (splitmix64), the same in every run."""
    with np.errstate(over="ignore"):
        x = values.astype("u8") * np.uint64(0x9E3779B97F4A7C15) + np.uint64(
            (seed * 1_000_003 + stream) * 0xD1342543DE82EF95 % 2**64
        )
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def hash_to_uniform(seed: int, stream: int, values: np.ndarray) -> np.ndarray:
    """Return a number from [0, 1) for each value, the same in every run."""
    return (hash_values(seed, stream, values) >> np.uint64(11)) / 2.0**53
