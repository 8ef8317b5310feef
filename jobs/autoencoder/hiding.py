"""How much of what the vector was not shown its clusters tell: one yardstick for vectors of any size and scaling.

Every value of a validation customer is hidden once, a fifth of them at a time, behind another customer's. He is encoded
like that, and the hidden values are guessed by the mean of the cluster of training customers that he falls into. Values
are compared as shares of the training customers who have less, whatever the vector's scaling is. One number of clusters would
add the luck of K-Means to the score, so it is the mean over several.
"""

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.cluster import KMeans

PARTS = 5
RESTARTS = 5  # of K-Means


class Hidden:
    """Training customers (n x d, NaN = missing) and validation customers (m x d), and what is hidden of these."""

    def __init__(self, train: np.ndarray, validation: np.ndarray, seed: int):
        random = np.random.default_rng(seed)
        self._validation, self._seed = validation, seed
        self._shares, self._truth = _shares(train, train), _shares(train, validation)
        self._usual = np.zeros(train.shape[1])
        self._usual = self._mean(np.ones(len(train), bool))
        self._part = random.permuted(np.broadcast_to(np.arange(train.shape[1]) % PARTS, validation.shape), axis=1)
        self._strangers = random.permuted(validation, axis=0)

    def unexplained(self, vectors: np.ndarray, encode: Callable[[np.ndarray], np.ndarray], clusters: Sequence[int]) -> float:
        """The share of the hidden values' variance that clusters do not tell, the mean over several numbers of `clusters`.

        0 is all, 1 as good as the mean of all customers. `vectors` are the training customers' (n x latent); `encode` makes those
        of the validation customers (m x d).
        """
        parts = [self._part == part for part in range(PARTS)]
        seen = [encode(np.where(hidden, self._strangers, self._validation)) for hidden in parts]
        found = []
        for n_clusters in clusters:
            k_means = KMeans(min(n_clusters, len(vectors)), n_init=RESTARTS, random_state=self._seed).fit(vectors)
            means = np.stack([self._mean(k_means.labels_ == cluster) for cluster in range(k_means.n_clusters)])
            missed = usual = 0.0
            for hidden, rows in zip(parts, seen, strict=True):
                counted = hidden & np.isfinite(self._truth)
                missed += float(np.square(means[k_means.predict(rows)] - self._truth)[counted].sum())
                usual += float(np.square(self._usual - self._truth)[counted].sum())
            found.append(missed / max(usual, 1e-12))
        return float(np.mean(found))

    def _mean(self, rows: np.ndarray) -> np.ndarray:
        """Of the training customers' known values (d), of all customers where these have none."""
        known = np.isfinite(self._shares[rows])
        n = known.sum(axis=0)
        return np.where(n, np.where(known, self._shares[rows], 0).sum(axis=0) / n.clip(min=1), self._usual)


def _shares(train: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of each value the share of training customers who have less, of equal ones half; NaN where it is missing.

    >>> _shares(np.array([[0.0], [0.0], [1.0], [np.nan]]), np.array([[0.0], [9.0], [np.nan]])).ravel()
    array([0.33333334, 1.        ,        nan], dtype=float32)
    """
    found = np.full(values.shape, np.nan, dtype=np.float32)
    for j in range(values.shape[1]):
        ordered, known = np.sort(train[np.isfinite(train[:, j]), j]), np.isfinite(values[:, j])
        if len(ordered):
            below, up_to = (np.searchsorted(ordered, values[known, j], side) for side in ("left", "right"))
            found[known, j] = (below + up_to) / (2 * len(ordered))
    return found
