"""A fitted recommender: what it knows of products, and the ten products it gives each customer.

A product has a score from each component: `als`, the product of the factors; `co_purchase` and `content`, the mean similarity to
what the customer did, weighted; and a prior, how popular it is in the segment or in the whole shop. The scores are scaled to a
maximum of about 1 and added (CombSUM: Fox, Shaw, "Combination of Multiple Searches", 1994).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import sparse

from jobs.scores._factors import fold_in
from jobs.scores._interactions import MOST_PRODUCTS

LENGTH = 10  # of a customer's list
ALS, CO_PURCHASE, CONTENT = "als", "co_purchase", "content"
SEGMENT_POPULARITY, POPULARITY = "segment_popularity", "popularity"
PERSONAL = (CO_PURCHASE, CONTENT, ALS)  # components, the simplest first
BLEND = "blend"
PRIOR_PRODUCTS = 2.0  # a customer with so many products counts as much as the prior
_CUSTOMERS_AT_ONCE = 4_000
_SCORES_AT_ONCE = 2_000_000  # of customers by products, 4 bytes each
_GROUP = 32  # products of which the largest score is looked at first
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
        parts = [
            self._recommend_some(_select_customers(interactions, rows), segments[rows])
            for rows in _list_slices(len(segments), _CUSTOMERS_AT_ONCE)
        ]
        return Lists(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _recommend_some(self, interactions: Interactions, segments: np.ndarray) -> Lists:
        n = len(segments)
        counts = np.bincount(interactions.customers, minlength=n)
        evidence = counts / (counts + PRIOR_PRODUCTS)
        prior_rows = self._find_prior_rows(segments)
        left = np.zeros((n, len(self._right)), np.float32)
        left[np.arange(n), prior_rows] = 1 - evidence if self.is_personal else 1
        if self.weights.get(ALS):
            left[:, len(self.priors) :] = fold_in(self.factors, *interactions[:3], n) * evidence[:, None]
        similar = {c: self._score_similar(interactions, evidence, c) for c in self.similarities if self.weights.get(c)}
        parts = [
            self._find_best(left[rows], {c: matrix[rows] for c, matrix in similar.items()}, _select_customers(interactions, rows))
            for rows in _list_slices(n, max(1, _SCORES_AT_ONCE // max(1, len(self.offered))))
        ]
        places, is_shown, similar_parts = (np.concatenate(columns, axis=-2) for columns in zip(*parts, strict=True))
        return _sort_lists(places, self._split_scores(places, left, prior_rows, similar_parts), is_shown)

    def _find_best(
        self, left: np.ndarray, similar: Mapping[str, sparse.csr_matrix], interactions: Interactions
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the places of the largest scores of some customers, in no order, which are above 0, and their similar parts.

        The parts are (components x n x LENGTH). So few customers are scored at once that the CPU has their scores near.
        """
        n, m = len(left), len(self.offered)
        scores = left @ self._right
        cells = {
            component: np.repeat(np.arange(n) * m, np.diff(matrix.indptr)) + matrix.indices
            for component, matrix in similar.items()
        }
        for component, matrix in similar.items():
            scores.ravel()[cells[component]] += matrix.data
        self._leave_out(scores.ravel(), interactions)
        places = find_largest(scores, LENGTH)
        is_shown = np.take_along_axis(scores, places, axis=1) > 0
        parts = np.zeros((len(COMPONENTS), *places.shape))
        numbers = np.full(n * m, -1, np.int32)  # of the places, by cell
        numbers[(np.arange(n)[:, None] * m + places).ravel()] = np.arange(places.size)
        for component, matrix in similar.items():
            hits = numbers[cells[component]]
            is_place = hits >= 0
            parts[COMPONENTS.index(component)].ravel()[hits[is_place]] = matrix.data[is_place]
        return places, is_shown, parts

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
        """What the product of a customer's prior and factors with gives the scores: (priors, factors) x offered."""
        rows = [self.priors]
        if self.weights.get(ALS):
            rows.append(self.factors[self.offered].T * (self.weights[ALS] / self.als_scale))
        return np.ascontiguousarray(np.concatenate(rows), np.float32)

    @cached_property
    def _positions_offered(self) -> np.ndarray:
        positions = np.full(len(self.products), -1)
        positions[self.offered] = np.arange(len(self.offered))
        return positions

    def _score_similar(self, interactions: Interactions, evidence: np.ndarray, name: str) -> sparse.csr_matrix:
        """Return the scores by similarity of customers x offered, with the largest of each customer scaled to their evidence."""
        shape = (len(evidence), len(self.products))
        profile = sparse.csr_matrix((interactions.weights, (interactions.customers, interactions.products)), shape, np.float32)
        similar = (profile @ self.similarities[name]).tocsr()
        counts, largest = np.diff(similar.indptr), np.zeros(len(evidence))
        largest[counts > 0] = np.maximum.reduceat(similar.data, similar.indptr[:-1][counts > 0]) if similar.nnz else 0
        factor = np.divide(self.weights[name] * evidence, largest, out=np.zeros(len(evidence)), where=largest > 0)
        similar.data *= np.repeat(factor, counts).astype(np.float32)
        return similar

    def _leave_out(self, flat: np.ndarray, interactions: Interactions) -> None:
        positions = self._positions_offered[interactions.products]
        is_out = interactions.is_done & (positions >= 0)
        flat[interactions.customers[is_out] * len(self.offered) + positions[is_out]] = _LEFT_OUT

    def _split_scores(
        self, places: np.ndarray, left: np.ndarray, prior_rows: np.ndarray, similar_parts: np.ndarray
    ) -> np.ndarray:
        """Return what each component of COMPONENTS adds to the scores at some places: components x n x LENGTH.

        In double precision, so that the order of a list does not depend on the customers that are scored together.
        """
        parts = similar_parts.copy()
        prior = left[np.arange(len(places)), prior_rows][:, None].astype(np.float64) * self.priors[prior_rows[:, None], places]
        is_segment = prior_rows[:, None] > 0
        parts[COMPONENTS.index(SEGMENT_POPULARITY)] = np.where(is_segment, prior, 0)
        parts[COMPONENTS.index(POPULARITY)] = np.where(is_segment, 0, prior)
        if self.weights.get(ALS):
            n_priors = len(self.priors)
            factors = np.ascontiguousarray(self._right[n_priors:].T, np.float64)
            parts[COMPONENTS.index(ALS)] = np.einsum("nf,nlf->nl", left[:, n_priors:], factors[places])
        return parts


def _sort_lists(places: np.ndarray, parts: np.ndarray, is_shown: np.ndarray) -> Lists:
    """Return lists by score, and by product where scores are equal; each place has the component with the largest part."""
    totals = np.where(is_shown, parts.sum(axis=0), -np.inf)
    order = np.lexsort((places, -totals), axis=1)
    products, totals, is_shown = (np.take_along_axis(values, order, axis=1) for values in (places, totals, is_shown))
    components = np.take_along_axis(parts.argmax(axis=0), order, axis=1).astype(np.int8)
    return Lists(np.where(is_shown, products, -1), np.where(is_shown, totals, 0.0), components)


def find_largest(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the columns of the k largest scores of each row of (n x m), in no order; m is at least k.

    Of many columns, the largest of each group is looked at first: the k largest lie in the k groups with the largest.
    """
    n, m = scores.shape
    n_groups = m // _GROUP
    if n_groups <= 2 * k:
        return np.argpartition(scores, m - k, axis=1)[:, m - k :]
    whole = n_groups * _GROUP  # a group is every n_groups-th column, so that groups are compared side by side
    largest = scores[:, :whole].reshape(n, _GROUP, n_groups).max(axis=1)
    groups = np.argpartition(largest, n_groups - k, axis=1)[:, n_groups - k :]
    members = (groups[:, :, None] + np.arange(_GROUP) * n_groups).reshape(n, -1)
    columns = np.concatenate([members, np.broadcast_to(np.arange(whole, m), (n, m - whole))], axis=1)
    best = np.argpartition(np.take_along_axis(scores, columns, axis=1), columns.shape[1] - k, axis=1)[:, -k:]
    return np.take_along_axis(columns, best, axis=1)


def _list_slices(n: int, size: int) -> list[slice]:
    """Return slices of so many rows, at least one."""
    return [slice(start, min(n, start + size)) for start in range(0, max(n, 1), size)]


def _select_customers(interactions: Interactions, rows: slice) -> Interactions:
    """Return the interactions of some customers, who are numbered from 0 on."""
    first, last = np.searchsorted(interactions.customers, [rows.start, rows.stop])
    some = Interactions(*(values[first:last] for values in interactions))
    return some._replace(customers=some.customers - rows.start)


def number_interactions(weighed: pl.DataFrame, customers: pl.Series, products: pl.DataFrame) -> Interactions:
    """Return weigh_signals() rows by the positions of customers and products; others are left out.

    Of a customer, the MOST_PRODUCTS with the largest weights count, and what they bought and is not repeatable: that is done.
    """
    customer_rows = pl.DataFrame({"customer_id": customers}).with_row_index("customer")
    product_rows = products.select("product_id", "is_repeatable").with_row_index("product")
    rows = weighed.join(customer_rows, "customer_id", "inner").join(product_rows, "product_id", "inner")
    rows = rows.sort("customer", "weight", "product", descending=[False, True, False])
    rows = rows.with_columns(
        place=pl.int_range(pl.len()).over("customer"), is_done=(pl.col("bought_days") > 0) & ~pl.col("is_repeatable")
    )
    rows = rows.filter((pl.col("place") < MOST_PRODUCTS) | pl.col("is_done")).sort("customer", "product")
    return Interactions(
        rows["customer"].to_numpy().astype(np.int64),
        rows["product"].to_numpy().astype(np.int64),
        rows["weight"].to_numpy().astype(np.float32),
        rows["is_done"].to_numpy(),
    )
