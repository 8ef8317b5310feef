"""A fitted recommender: what it knows of products, and the ten products it gives each customer.

A product has a score from each component: `als`, the product of the factors; `co_purchase` and `content`, the mean similarity to
what the customer did, weighted; and a prior, how popular it is in the segment or in the whole shop. The scores are scaled to a
maximum of about 1 and added (CombSUM: Fox, Shaw, "Combination of Multiple Searches", 1994).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import sparse

from jobs.scores._factors import fold_in

LENGTH = 10  # of a customer's list
ALS, CO_PURCHASE, CONTENT = "als", "co_purchase", "content"
SEGMENT_POPULARITY, POPULARITY = "segment_popularity", "popularity"
PERSONAL = (CO_PURCHASE, CONTENT, ALS)  # components, the simplest first
BLEND = "blend"
PRIOR_PRODUCTS = 2.0  # a customer with so many products counts as much as the prior
_SCORES_AT_ONCE = 16_000_000  # of customers by products, 4 bytes each
_GROUP = 128  # products of which the largest score is looked at first
_LEFT_OUT = np.float32(-1.0)  # the score of a product that a customer is not to get


class Interactions(NamedTuple):
    """What customers did: positions of customers, sorted, and of products; weights; whether it is bought and not bought again."""

    customers: np.ndarray
    products: np.ndarray
    weights: np.ndarray
    is_done: np.ndarray


class Lists(NamedTuple):
    """The list of each of n customers (n x LENGTH), best first: positions of offered products, scores, components.

    Places behind the end of a list have the position -1.
    """

    products: np.ndarray
    scores: np.ndarray
    components: np.ndarray  # positions in COMPONENTS


COMPONENTS = (*PERSONAL, SEGMENT_POPULARITY, POPULARITY)


@dataclass(frozen=True)
class Recommender:
    """What lists are made of. Products are numbered as in `products`, and those `offered` are the only ones in lists.

    `priors` has the popularity of each offered product, in all (row 0) and in each of `segments`. `weights` says how much each
    component of PERSONAL counts; without any, lists come from the prior alone.
    """

    products: pl.DataFrame  # product_id, name, category, is_repeatable; sorted by product_id
    offered: np.ndarray
    factors: np.ndarray
    similarities: Mapping[str, sparse.csr_matrix]  # of CO_PURCHASE and CONTENT: products x offered
    segments: tuple[int, ...]
    priors: np.ndarray
    als_scale: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    uses_segments: bool = True

    def recommend(self, interactions: Interactions, segments: np.ndarray) -> Lists:
        """Return the lists of customers in these `segments` (n), -1 where it is not known."""
        n = len(segments)
        size = max(1, _SCORES_AT_ONCE // max(1, len(self.offered)))
        parts = []
        for start in range(0, n, size):
            first, last = np.searchsorted(interactions.customers, [start, min(n, start + size)])
            some = Interactions(*(values[first:last] for values in interactions))
            parts.append(self._recommend_block(some._replace(customers=some.customers - start), segments[start : start + size]))
        if not parts:
            return Lists(*(np.zeros((0, LENGTH), kind) for kind in (np.int64, np.float64, np.int8)))
        return Lists(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _recommend_block(self, interactions: Interactions, segments: np.ndarray) -> Lists:
        n = len(segments)
        counts = np.bincount(interactions.customers, minlength=n)
        evidence = counts / (counts + PRIOR_PRODUCTS)
        prior_rows = self._find_prior_rows(segments)
        prior_weights = 1 - evidence if self.is_personal else np.ones(n)
        left = np.zeros((n, self._right.shape[1]), np.float32)
        left[np.arange(n), prior_rows] = prior_weights
        if self.weights.get(ALS):
            left[:, len(self.priors) :] = self._fold_in(interactions, n) * evidence[:, None]
        sparse_scores = {
            name: self._score_similar(interactions, evidence, name) for name in self.similarities if self.weights.get(name)
        }
        scores = left @ self._right.T
        flat = scores.ravel()
        for of_component in sparse_scores.values():
            rows = np.repeat(np.arange(n), np.diff(of_component.indptr))
            flat[rows * len(self.offered) + of_component.indices] += of_component.data
        self._leave_out(flat, interactions)
        places = find_largest(scores, LENGTH)
        parts = self._split_scores(places, left, sparse_scores, prior_rows)
        is_shown = np.take_along_axis(scores, places, axis=1) > 0
        return _sort_lists(places, parts, is_shown)

    def _find_prior_rows(self, segments: np.ndarray) -> np.ndarray:
        rows = np.zeros(len(segments), np.int64)
        if self.uses_segments:
            for number, segment in enumerate(self.segments):
                rows[segments == segment] = number + 1
        return rows

    @property
    def is_personal(self) -> bool:
        """Whether lists depend on what the customer did."""
        return any(self.weights.values())

    @cached_property
    def _right(self) -> np.ndarray:
        """What the product of a customer's prior and factors with gives the scores: offered x (priors, factors)."""
        columns = [self.priors.T]
        if self.weights.get(ALS):
            columns.append(self.factors[self.offered] * (self.weights[ALS] / self.als_scale))
        return np.ascontiguousarray(np.concatenate(columns, axis=1), np.float32)

    @cached_property
    def _positions_offered(self) -> np.ndarray:
        positions = np.full(len(self.products), -1)
        positions[self.offered] = np.arange(len(self.offered))
        return positions

    def _fold_in(self, interactions: Interactions, n: int) -> np.ndarray:
        return fold_in(self.factors, interactions.customers, interactions.products, interactions.weights, n)

    def _score_similar(self, interactions: Interactions, evidence: np.ndarray, name: str) -> sparse.csr_matrix:
        """Return the scores by similarity of customers x offered, with the largest of each customer scaled to their evidence."""
        shape = (len(evidence), len(self.products))
        profile = sparse.csr_matrix((interactions.weights, (interactions.customers, interactions.products)), shape, np.float32)
        similar = (profile @ self.similarities[name]).tocsr()
        similar.sort_indices()
        largest = similar.max(axis=1).toarray().ravel()
        factor = np.divide(self.weights[name] * evidence, largest, out=np.zeros(len(evidence)), where=largest > 0)
        similar.data *= np.repeat(factor, np.diff(similar.indptr)).astype(np.float32)
        return similar

    def _leave_out(self, flat: np.ndarray, interactions: Interactions) -> None:
        positions = self._positions_offered[interactions.products]
        is_out = interactions.is_done & (positions >= 0)
        flat[interactions.customers[is_out] * len(self.offered) + positions[is_out]] = _LEFT_OUT

    def _split_scores(
        self, places: np.ndarray, left: np.ndarray, sparse_scores: Mapping[str, sparse.csr_matrix], prior_rows: np.ndarray
    ) -> np.ndarray:
        """Return what each component of COMPONENTS adds to the scores at some places: components x n x LENGTH.

        In double precision, so that the order of a list does not depend on the customers that are scored together.
        """
        n, length = places.shape
        parts = np.zeros((len(COMPONENTS), n, length))
        n_priors = len(self.priors)
        prior = left[np.arange(n), prior_rows][:, None].astype(np.float64) * self.priors[prior_rows[:, None], places]
        is_segment = prior_rows[:, None] > 0
        parts[COMPONENTS.index(SEGMENT_POPULARITY)] = np.where(is_segment, prior, 0)
        parts[COMPONENTS.index(POPULARITY)] = np.where(is_segment, 0, prior)
        if self.weights.get(ALS):
            factors = self._right[:, n_priors:].astype(np.float64)
            parts[COMPONENTS.index(ALS)] = np.einsum("nf,nlf->nl", left[:, n_priors:], factors[places])
        for name, of_component in sparse_scores.items():
            parts[COMPONENTS.index(name)] = _look_up(of_component, places)
        return parts


def _look_up(matrix: sparse.csr_matrix, columns: np.ndarray) -> np.ndarray:
    """Return the values of some columns (n x m) of each of n rows of a matrix with sorted indices."""
    n_columns = matrix.shape[1]
    keys = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) * n_columns + matrix.indices
    if not len(keys):
        return np.zeros(columns.shape)
    queries = np.arange(len(columns))[:, None] * n_columns + columns
    positions = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
    return np.where(keys[positions] == queries, matrix.data[positions], 0)


def _sort_lists(places: np.ndarray, parts: np.ndarray, is_shown: np.ndarray) -> Lists:
    """Return lists by score, and by product where scores are equal; each place has the component with the largest part."""
    totals = np.where(is_shown, parts.sum(axis=0), -np.inf)
    order = np.lexsort((places, -totals), axis=1)
    products, totals, is_shown = (np.take_along_axis(values, order, axis=1) for values in (places, totals, is_shown))
    components = np.take_along_axis(parts.argmax(axis=0), order, axis=1).astype(np.int8)
    lists = [products, totals, components]
    if (missing := LENGTH - places.shape[1]) > 0:  # fewer products than places
        lists = [np.pad(values, ((0, 0), (0, missing))) for values in lists]
        is_shown = np.pad(is_shown, ((0, 0), (0, missing)))
    return Lists(np.where(is_shown, lists[0], -1), np.where(is_shown, lists[1], 0.0), lists[2])


def find_largest(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the columns of the k largest scores of each row of (n x m), in no order; all where m is at most k.

    Of many columns, the largest of each group is looked at first: the k largest lie in the k groups with the largest.
    """
    n, m = scores.shape
    if m <= k:
        return np.tile(np.arange(m), (n, 1))
    n_groups = m // _GROUP
    if n_groups <= 2 * k:
        return np.argpartition(scores, m - k, axis=1)[:, m - k :]
    whole = n_groups * _GROUP
    largest = scores[:, :whole].reshape(n, n_groups, _GROUP).max(axis=2)
    groups = np.argpartition(largest, n_groups - k, axis=1)[:, n_groups - k :]
    columns = (groups[:, :, None] * _GROUP + np.arange(_GROUP)).reshape(n, -1)
    rest = np.broadcast_to(np.arange(whole, m), (n, m - whole))
    columns = np.concatenate([columns, rest], axis=1)
    candidates = np.take_along_axis(scores, columns, axis=1)
    best = np.argpartition(candidates, candidates.shape[1] - k, axis=1)[:, -k:]
    return np.take_along_axis(columns, best, axis=1)


def number_interactions(
    weighed: pl.DataFrame, customers: Collection[str] | pl.Series, products: pl.DataFrame, most: int
) -> Interactions:
    """Return weigh_signals() rows by the positions of customers and products; others are left out.

    Of a customer, the `most` with the largest weights count. What a customer bought and the product is not repeatable is done.
    """
    customer_rows = pl.DataFrame({"customer_id": customers}, schema={"customer_id": pl.String}).with_row_index("customer")
    product_rows = products.select("product_id", "is_repeatable").with_row_index("product")
    rows = weighed.join(customer_rows, "customer_id", "inner").join(product_rows, "product_id", "inner")
    rows = rows.sort("customer", pl.col("weight"), "product", descending=[False, True, False])
    rows = rows.with_columns(place=pl.int_range(pl.len()).over("customer"), is_done=(pl.col("bought_days") > 0) & ~pl.col("is_repeatable"))
    rows = rows.filter((pl.col("place") < most) | pl.col("is_done")).sort("customer", "product")
    return Interactions(
        rows["customer"].to_numpy().astype(np.int64),
        rows["product"].to_numpy().astype(np.int64),
        rows["weight"].to_numpy().astype(np.float32),
        rows["is_done"].to_numpy(),
    )
