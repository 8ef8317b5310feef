"""How well a text model finds, for a query, the product names that customers opened after it.

A click is a question with one right answer: the name that was opened. All names are ranked by the cosine of their vectors with
that of the query. A query's figures are means over its clicks, so an answer that many chose counts more than a chance one. A
click on a name that is opened often counts less, by how often it is opened after any query: a model gains nothing by ranking what
is popular first. The figures of a model are means over queries, and two models are compared query by query.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jobs.autoencoder.text_tuning.pairs import PRODUCT, Pairs

TOP = 10  # names that a person looks at
N_RESAMPLES = 1_000
INTERVAL = (2.5, 97.5)  # percentiles between which 95 % of the resamples lie
_QUERIES_TOGETHER = 256  # ranked at a time

Embed = Callable[[list[str]], np.ndarray]  # n texts to vectors (n, n_hidden) of length 1


@dataclass(frozen=True)
class Retrieval:
    """The figures of a model for each query, in the order of the queries."""

    recall: np.ndarray  # (n_queries,) share of the clicks whose name is among the first TOP
    reciprocal_rank: np.ndarray  # (n_queries,) mean of 1 / rank of the name

    def summarize(self) -> dict[str, float]:
        """Return the means over queries, as meta.json has them."""
        return {f"recall_at_{TOP}": float(self.recall.mean()), "mrr": float(self.reciprocal_rank.mean())}


@dataclass(frozen=True)
class Comparison:
    """By how much a candidate is better than a baseline on the same queries."""

    recall: float
    mrr: float
    mrr_interval: tuple[float, float]  # 95 %, over resamples of the queries

    @property
    def is_better(self) -> bool:
        """Whether both figures are higher, and the mean reciprocal rank by more than chance."""
        return self.recall > 0 and self.mrr > 0 and self.mrr_interval[0] > 0


def measure_retrieval(embed: Embed, pairs: Pairs, names: np.ndarray) -> Retrieval:
    """Return the figures for the queries of `pairs` among `names`, which hold every name of the pairs."""
    queries, query_of = np.unique(pairs.queries, return_inverse=True)
    name_of = np.searchsorted(names, pairs.names)
    query_vectors, name_vectors = embed(queries.tolist()), embed(names.tolist())
    ranks = np.empty(len(pairs))
    order = np.argsort(query_of, kind="stable")
    for start in range(0, len(queries), _QUERIES_TOGETHER):
        similarities = query_vectors[start : start + _QUERIES_TOGETHER] @ name_vectors.T
        if pairs.kind == PRODUCT:  # a name is no answer to itself
            same = np.searchsorted(names, queries[start : start + _QUERIES_TOGETHER])
            similarities[np.arange(len(same)), same] = -np.inf
        rows = order[np.searchsorted(query_of[order], start) : np.searchsorted(query_of[order], start + _QUERIES_TOGETHER)]
        ranks[rows] = _find_ranks(similarities, query_of[rows] - start, name_of[rows])
    weights = np.bincount(query_of, pairs.lifts)
    return Retrieval(
        np.bincount(query_of, pairs.lifts * (ranks <= TOP)) / weights, np.bincount(query_of, pairs.lifts / ranks) / weights
    )


def compare(candidate: Retrieval, baseline: Retrieval, seed: int) -> Comparison:
    """Compare two models on the same queries; the resamples follow from the seed."""
    differences = candidate.reciprocal_rank - baseline.reciprocal_rank
    random = np.random.default_rng(seed)
    means = [differences[random.integers(len(differences), size=len(differences))].mean() for _ in range(N_RESAMPLES)]
    low, high = np.percentile(means, INTERVAL)
    recall = float((candidate.recall - baseline.recall).mean())
    return Comparison(recall, float(differences.mean()), (float(low), float(high)))


def _find_ranks(similarities: np.ndarray, queries: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return the rank of each name for its query, 1 for the most similar; equal names share the mean of their ranks."""
    ranks = np.empty(len(queries))
    for row, (query, name) in enumerate(zip(queries, names, strict=True)):
        all_names, own = similarities[query], similarities[query, name]
        ranks[row] = (all_names > own).sum() + ((all_names == own).sum() + 1) / 2
    return ranks
