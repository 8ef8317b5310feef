"""The score of a search: how well clusters of the vectors predict feature values that the encoder did not see.

Each value of a validation customer is masked once, a fifth of them at a time, by the value of another customer. The customer is
encoded with these values, and the masked values are predicted by the means of the cluster that the customer falls into.

Values are compared as ranks among the training customers, so the score compares vectors of any size and scaling. With a single
number of clusters the luck of K-Means would add to the score, so it is the mean over several.
"""

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.cluster import KMeans

N_PARTS = 5
KMEANS_RESTARTS = 5


class MaskedValues:
    """Training customers (n_train, n_features), validation customers (n_validation, n_features), and the masks of the latter.

    NaN is missing; a missing value is not predicted.
    """

    def __init__(self, train: np.ndarray, validation: np.ndarray, seed: int):
        random = np.random.default_rng(seed)
        self._validation, self._seed = validation, seed
        self._train_ranks, self._validation_ranks = _rank_values(train, train), _rank_values(train, validation)
        self._overall_means = np.zeros(train.shape[1])
        self._overall_means = self._mean_ranks(np.ones(len(train), bool))
        self._part = random.permuted(np.broadcast_to(np.arange(train.shape[1]) % N_PARTS, validation.shape), axis=1)
        self._replacements = random.permuted(validation, axis=0)

    def masked_value_error(
        self, vectors: np.ndarray, encode: Callable[[np.ndarray], np.ndarray], n_clusters: Sequence[int]
    ) -> float:
        """Return the squared error of the predictions relative to that of the overall means, as a mean over `n_clusters`.

        0 is a perfect prediction, 1 is as good as the overall means. `vectors` (n_train, n_latent) are those of the training
        customers; `encode` returns those of validation customers (n_validation, n_features).
        """
        masks = [self._part == part for part in range(N_PARTS)]
        masked_vectors = [encode(np.where(mask, self._replacements, self._validation)) for mask in masks]
        return float(np.mean([self._relative_error(vectors, masks, masked_vectors, k) for k in n_clusters]))

    def _relative_error(
        self, vectors: np.ndarray, masks: list[np.ndarray], masked_vectors: list[np.ndarray], n_clusters: int
    ) -> float:
        k_means = KMeans(min(n_clusters, len(vectors)), n_init=KMEANS_RESTARTS, random_state=self._seed).fit(vectors)
        means = np.stack([self._mean_ranks(k_means.labels_ == cluster) for cluster in range(k_means.n_clusters)])
        error = overall_error = 0.0
        for mask, validation_vectors in zip(masks, masked_vectors, strict=True):
            scored = mask & np.isfinite(self._validation_ranks)
            error += float(np.square(means[k_means.predict(validation_vectors)] - self._validation_ranks)[scored].sum())
            overall_error += float(np.square(self._overall_means - self._validation_ranks)[scored].sum())
        return error / max(overall_error, 1e-12)

    def _mean_ranks(self, rows: np.ndarray) -> np.ndarray:
        """Return the mean ranks (n_features,) of these training customers, the overall mean where all of them lack a value."""
        is_observed = np.isfinite(self._train_ranks[rows])
        n_observed = is_observed.sum(axis=0)
        sums = np.where(is_observed, self._train_ranks[rows], 0).sum(axis=0)
        return np.where(n_observed, sums / n_observed.clip(min=1), self._overall_means)


def _rank_values(train: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the share of training customers with a lower value, counting equal values half; NaN where a value is missing.

    >>> _rank_values(np.array([[0.0], [0.0], [1.0], [np.nan]]), np.array([[0.0], [9.0], [np.nan]])).ravel()
    array([0.33333334, 1.        ,        nan], dtype=float32)
    """
    ranks = np.full(values.shape, np.nan, dtype=np.float32)
    for j in range(values.shape[1]):
        ordered, is_observed = np.sort(train[np.isfinite(train[:, j]), j]), np.isfinite(values[:, j])
        if len(ordered):
            n_below, n_up_to = (np.searchsorted(ordered, values[is_observed, j], side) for side in ("left", "right"))
            ranks[is_observed, j] = (n_below + n_up_to) / (2 * len(ordered))
    return ranks
