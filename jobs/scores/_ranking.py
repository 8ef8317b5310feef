"""How good lists of products are, and which contestant is published.

Lists as of an earlier day are compared with what customers bought since. Precision, recall, average precision and NDCG at
LENGTH take each product that a customer bought as equally relevant (Järvelin, Kekäläinen, "Cumulated Gain-Based Evaluation of
IR Techniques", 2002).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jobs.scores._recommender import ALS, BLEND, CO_PURCHASE, CONTENT, LENGTH, POPULARITY, SEGMENT_POPULARITY
from jobs.scores._resampling import draw_resamples, find_interval, is_above_zero, resample_means

# A contestant is published in the place of those before it only where it is better than them.
CONTESTANTS = (POPULARITY, SEGMENT_POPULARITY, CO_PURCHASE, CONTENT, ALS, BLEND)
MEASURES = ("precision", "recall", "average_precision", "ndcg", "novelty")


class Figures(NamedTuple):
    """The measures of a contestant by customer, and the number of customers to whom it showed each product."""

    precision: np.ndarray
    recall: np.ndarray
    average_precision: np.ndarray
    ndcg: np.ndarray
    novelty: np.ndarray  # mean bits of surprise: -log2 of the share of buyers who bought the product
    lists: np.ndarray  # positions of products, -1 for none
    n_products: int


class Decision(NamedTuple):
    """What is published, and why."""

    method: str
    reason: str


def measure_lists(lists: np.ndarray, bought: np.ndarray, n_bought: np.ndarray, shares: np.ndarray) -> Figures:
    """Return the figures of lists (n x LENGTH) of positions of m products, -1 for none.

    `bought` are customer * m + product of what was bought afterwards, sorted. `n_bought` (n) counts a customer's products, also
    those that could not be shown. `shares` (m) are the shares of buyers who had bought the products before.
    """
    n, m = len(lists), len(shares)
    is_shown = lists >= 0
    is_hit = is_shown & np.isin(np.arange(n)[:, None] * m + lists, bought)
    discounts = 1 / np.log2(np.arange(2, LENGTH + 2))
    most = np.minimum(n_bought, LENGTH)
    hits = is_hit.cumsum(axis=1)
    ideal = np.concatenate([[0], discounts.cumsum()])[most]
    surprise = np.where(is_shown, -np.log2(np.maximum(shares[lists], 1e-9)), 0)
    return Figures(
        hits[:, -1] / LENGTH,
        hits[:, -1] / n_bought,
        (hits / np.arange(1, LENGTH + 1) * is_hit).sum(axis=1) / most,
        (is_hit * discounts).sum(axis=1) / ideal,
        surprise.sum(axis=1) / np.maximum(is_shown.sum(axis=1), 1),
        lists,
        m,
    )


def choose_contestant(figures: Mapping[str, Figures], seed: int) -> Decision:
    """Return which of the measured contestants is published.

    From the simplest on, a contestant takes the place of the one before where its NDCG is higher in 97.5 % of the resamples of
    the customers.
    """
    best, reason = POPULARITY, "nothing is better than popularity in NDCG"
    for name in CONTESTANTS:
        if name in figures and name != best and is_better(figures[name], figures[best], seed):
            best = name
    if best != POPULARITY:
        beaten = [name for name in figures if name != best and is_better(figures[best], figures[name], seed)]
        reason = f"{best} is better than {' and '.join(beaten)} in NDCG"
        if level := [name for name in figures if name not in (best, *beaten)]:
            reason += f"; {' and '.join(level)} {'are' if level[1:] else 'is'} not better than it"
    return Decision(best, reason)


def is_better(figures: Figures, others: Figures, seed: int) -> bool:
    """Return whether the NDCG is higher than that of another contestant in 97.5 % of the resamples."""
    return is_above_zero(figures.ndcg - others.ndcg, seed)


def choose_weights(figures: Mapping[str, Figures], customers: np.ndarray) -> dict[str, float]:
    """Return the weights of a blend, which add up to 1, from the NDCG of these customers.

    A component weighs the square of how much it is above popularity. There are no weights where none is above.
    """
    leads = {
        name: float((figures[name].ndcg - figures[POPULARITY].ndcg)[customers].mean())
        for name in (CO_PURCHASE, CONTENT, ALS)
        if name in figures
    }
    leads = {name: lead**2 for name, lead in leads.items() if lead > 0}
    return {name: lead / sum(leads.values()) for name, lead in leads.items()}


def to_record(figures: Figures, seed: int) -> dict:
    """Return the figures and their 95 % intervals as JSON knows them."""
    record: dict = {}
    for name in MEASURES:
        values = getattr(figures, name)
        record[name] = float(values.mean())
        record[f"{name}_interval"] = find_interval(resample_means(values, seed))
    coverages = [_coverage(figures, rows) for rows in draw_resamples(len(figures.lists), seed)]
    return record | {
        "coverage": _coverage(figures, slice(None)),
        "coverage_interval": find_interval(np.array(coverages)),
    }


def _coverage(figures: Figures, rows: np.ndarray | slice) -> float:
    """Return the share of the products that are in any list of some customers."""
    lists = figures.lists[rows]
    return float(np.bincount(lists[lists >= 0], minlength=figures.n_products).astype(bool).mean())
