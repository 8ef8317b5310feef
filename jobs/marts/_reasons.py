"""Reasons: why a customer is in the segment rather than in the runner-up, by what would have to change to move the customer.

Features that say the same, such as the orders of 90 and of 365 days, are a family and one reason. An encoder that reads both
hardly reacts when only one of them changes, and no customer has one without the other. The families are ranked for each pair of
segment and runner-up, on a sample of customers: first those that move most customers to another segment when they are set to
what is typical of the runner-up. The reasons of a customer are the first families in which the customer differs and which
help, until the segment changes. A family is named by the feature in which the customer differs most.
"""

import functools
from dataclasses import dataclass

import numpy as np
import polars as pl

from jobs import catalogue
from jobs.encoder import Encoder
from jobs.report.formatting import format_feature_value

MAX_REASONS = 3
FAMILY_CORRELATIONS = (0.7, 0.5, 0.3)  # mean rank correlation within a family: the first for which reasons hold is taken
MIN_HOLD = 0.9  # share of the tested customers whose reasons must hold; where no correlation reaches it, the last is taken
MAX_TESTED = 2000  # customers
BATCH_ROWS = 10_000  # customers encoded at once
MIN_DIFFERENCE = 0.25  # standard deviations: a feature nearer than this to what is typical of the runner-up is no reason
OTHER_DIFFERENCE_WEIGHT = 0.1  # of a difference from the runner-up that the customer's own segment does not have
KNOWN_SHARE = 0.5  # a feature known for a smaller share of a segment's customers is typically unknown there
MAX_PAIR_CUSTOMERS = 50  # on which the families of a pair are ranked
MAX_PAIR_FAMILIES = 6  # ranked for a pair
ROUNDING = 1e-6  # relative: a distance that changes by less has not changed
ENOUGH_MOVED = 0.99  # of the customers of a pair: once so many have moved no further family is ranked


@dataclass(frozen=True)
class Explainer:
    """What separates k segments by d features; attributes never change."""

    encoder: Encoder
    features: list[str]  # d
    units: list[str]  # d
    ids: np.ndarray  # k, ascending
    centres: np.ndarray  # k x latent
    families: list[np.ndarray]  # of columns of features
    typical: np.ndarray  # k x d float32: medians, NaN where a feature is typically unknown
    standard_deviation: np.ndarray  # d
    ranked: np.ndarray  # k x k x MAX_PAIR_FAMILIES: by segment and runner-up the families, then -1


def fit_explainer(
    encoder: Encoder,
    features: list[str],
    units: list[str],
    ids: np.ndarray,
    centres: np.ndarray,
    values: np.ndarray,
    attributes: np.ndarray,
    segments: np.ndarray,
) -> Explainer:
    """Fit an explainer on n active customers: values (n x d float32, NaN = unknown), attributes (n x a text), segment ids (n).

    `ids` and `centres` (k x latent) are those of the segments. Families are as narrow as possible for reasons to hold: they are
    ranked on every other customer and tested on the rest.
    """
    rows = np.searchsorted(ids, segments)
    typical, standard_deviation = _describe_features(values, rows, len(ids))
    own, others = _distances_in_batches(encoder, values, attributes, centres, rows)
    runners_up, leads = others.argmin(axis=1), own - others.min(axis=1)
    tested = slice(1, 2 * MAX_TESTED, 2)
    for correlation in FAMILY_CORRELATIONS:
        families = group_features(values, correlation)
        ranked = np.full((len(ids), len(ids), MAX_PAIR_FAMILIES), -1)
        explainer = Explainer(encoder, features, units, ids, centres, families, typical, standard_deviation, ranked)
        _rank_pairs(explainer, values, attributes, rows, runners_up)
        _, hold = explain_against_runner_up(
            explainer, values[tested], attributes[tested], segments[tested], ids[runners_up[tested]], leads[tested]
        )
        if hold.mean() >= MIN_HOLD:
            break
    return explainer


def group_features(values: np.ndarray, correlation: float) -> list[np.ndarray]:
    """Return the columns of values (n x d) in families with a mean rank correlation of at least `correlation`.

    An unknown value ranks below all others.

    >>> a = np.array([1.0, 2.0, 3.0, 4.0])
    >>> values = np.stack([a, [5.0, 5.0, 5.0, 5.0], -a, [2.0, 1.0, 1.0, 2.0]], axis=1)
    >>> [columns.tolist() for columns in group_features(values, 0.6)]
    [[0, 2], [1], [3]]
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # here, because the workers need none of it
    from scipy.spatial.distance import squareform

    if values.shape[1] < 2:
        return [np.array([0])]
    ranked = pl.DataFrame(np.where(np.isfinite(values), values, -np.inf)).select(pl.all().rank("average"))
    ranks = ranked.to_numpy()
    centred = ranks - ranks.mean(axis=0)
    lengths = np.sqrt((centred**2).sum(axis=0))
    scaled = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
    distances = np.clip(1 - np.abs(scaled.T @ scaled), 0, 1)
    np.fill_diagonal(distances, 0)
    numbers = fcluster(linkage(squareform(distances, checks=False), "average"), 1 - correlation, "distance")
    groups = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    return sorted(groups, key=lambda columns: columns[0])


def explain_against_runner_up(
    explainer: Explainer,
    values: np.ndarray,
    attributes: np.ndarray,
    segments: np.ndarray,
    runners_up: np.ndarray,
    leads: np.ndarray,
) -> tuple[list[list[str]], np.ndarray]:
    """Return the reasons of n active customers, and whether they hold (n, bool).

    Reasons hold where the customer would be in another segment with these families as typical of the runner-up. `values` and
    `attributes` are those of fit_explainer(); `leads` are those of lead_of_runner_up().
    """
    own, runner_up = (np.searchsorted(explainer.ids, ids) for ids in (segments, runners_up))
    typical = explainer.typical[runner_up]
    differences = _weigh_differences(explainer, values, explainer.typical[own], typical)
    reasons: list[list[str]] = [[] for _ in values]
    n_reasons = np.zeros(len(values), dtype=int)
    changed, leads = values.copy(), leads.copy()
    for place in range(explainer.ranked.shape[2]):
        family = explainer.ranked[own, runner_up, place]
        rows = np.flatnonzero((family >= 0) & (leads <= 0) & (n_reasons < MAX_REASONS))
        strongest = _select_strongest(explainer, differences[rows], family[rows])
        rows, strongest = rows[strongest >= 0], strongest[strongest >= 0]
        if len(rows) == 0:
            continue
        candidate = changed[rows]
        for number in np.unique(family[rows]):
            _set_typical(candidate, np.flatnonzero(family[rows] == number), explainer.families[number], typical[rows])
        new_leads = _compute_leads(explainer, candidate, attributes[rows], own[rows])
        helps = new_leads > leads[rows] + ROUNDING * np.abs(leads[rows])
        rows, columns = rows[helps], strongest[helps]
        changed[rows], leads[rows] = candidate[helps], new_leads[helps]
        n_reasons[rows] += 1
        parts = (rows, columns, values[rows, columns], typical[rows, columns])
        for row, column, value, typical_value in zip(*(part.tolist() for part in parts), strict=True):
            reasons[row].append(_describe_reason(explainer.features[column], explainer.units[column], value, typical_value))
    return reasons, leads > 0


def lead_of_runner_up(
    explainer: Explainer, segments: np.ndarray, runners_up: np.ndarray, distances: np.ndarray, margins: np.ndarray
) -> np.ndarray:
    """Return by how much the centre of the runner-up is nearer than the own one, for n customers: 0 or less.

    `distances` and `margins` are those of segments.assignments. At a margin of 1 the distance from the runner-up does not follow
    from the margin; it is the distance between the two centres.
    """
    own, runner_up = (explainer.centres[np.searchsorted(explainer.ids, ids)] for ids in (segments, runners_up))
    between_centres = np.linalg.norm(own - runner_up, axis=1)
    shares = np.where(margins < 1, 1 - margins, 1.0)
    return np.where(margins < 1, distances - distances / shares, distances - between_centres)


@functools.lru_cache(maxsize=100_000)  # most customers share their reasons with many
def _describe_reason(feature: str, unit: str, value: float, typical: float) -> str:
    """
    >>> _describe_reason("orders_90d", "count", 11.0, 2.0)
    '11 orders in 90 days, typical of the runner-up 2'
    """
    described = _describe_feature(feature, format_feature_value(value, unit))
    return f"{described}, typical of the runner-up {_format_typical(typical, unit)}"


# Values differ more than their rounded texts, and typical values are few.
_describe_feature = functools.lru_cache(maxsize=100_000)(catalogue.describe_feature)
_format_typical = functools.lru_cache(maxsize=100_000)(format_feature_value)


def _describe_features(values: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the typical values of k segments (k x d) and the standard deviations (d); rows (n) are segment numbers from 0."""
    is_known = np.isfinite(values)
    typical = np.full((k, values.shape[1]), np.nan, dtype=np.float32)
    for row in np.unique(rows):
        members, has_value = values[rows == row], is_known[rows == row]
        for column in np.flatnonzero(has_value.mean(axis=0) >= KNOWN_SHARE):
            typical[row, column] = np.median(members[has_value[:, column], column])
    deviations = [column[mask].std() if mask.any() else 0.0 for column, mask in zip(values.T, is_known.T, strict=True)]
    return typical, np.array(deviations)


def _rank_pairs(
    explainer: Explainer, values: np.ndarray, attributes: np.ndarray, rows: np.ndarray, runners_up: np.ndarray
) -> None:
    """Fill explainer.ranked; rows and runners_up (n) are segment numbers from 0."""
    ranked, numbers = explainer.ranked, np.arange(len(explainer.ids))
    for row in np.unique(rows):
        present, counts = np.unique(runners_up[rows == row], return_counts=True)
        for runner_up in present:
            of_pair = np.flatnonzero((rows == row) & (runners_up == runner_up))
            untested = of_pair[of_pair % 2 == 0]
            of_pair = (untested if len(untested) else of_pair)[:MAX_PAIR_CUSTOMERS]
            order = _rank_families(explainer, values[of_pair], attributes[of_pair], row, runner_up)
            ranked[row, runner_up, : len(order)] = order
        # A runner-up that no customer of the sample has gets the ranking of the commonest one.
        ranked[row, np.isin(numbers, present, invert=True)] = ranked[row, present[counts.argmax()]]


def _rank_families(explainer: Explainer, values: np.ndarray, attributes: np.ndarray, row: int, runner_up: int) -> list[int]:
    """Return the families in the order in which, each on top of the ones before, they move most customers."""
    changed, typical = values, explainer.typical[runner_up]
    order: list[int] = []
    share = 0.0
    while len(order) < min(MAX_PAIR_FAMILIES, len(explainer.families)) and share < ENOUGH_MOVED:
        numbers = sorted(set(range(len(explainer.families))) - set(order))
        candidates = np.repeat(changed[np.newaxis], len(numbers), axis=0)
        for candidate, number in zip(candidates, numbers, strict=True):
            candidate[:, explainer.families[number]] = typical[explainer.families[number]]
        leads = _compute_leads(
            explainer, np.concatenate(candidates), np.tile(attributes, (len(numbers), 1)), np.full(candidates[..., 0].size, row)
        )  # all at once: an encoder takes long for each of many small calls
        outcomes = [((of_family > 0).mean(), of_family.mean()) for of_family in leads.reshape(len(numbers), -1)]
        best = max(range(len(numbers)), key=outcomes.__getitem__)  # of equals the first
        share, changed = outcomes[best][0], candidates[best]
        order.append(numbers[best])
    return order


def _set_typical(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, typical: np.ndarray) -> None:
    values[np.ix_(rows, columns)] = typical[np.ix_(rows, columns)]


def _weigh_differences(explainer: Explainer, values: np.ndarray, own_typical: np.ndarray, typical: np.ndarray) -> np.ndarray:
    """Return by how many standard deviations the values differ from what is `typical` of the runner-up (n x d); 0: unknown.

    A difference counts at most as much as that of the own segment. Where the value lies on the other side than the own
    segment, the difference is not what makes the segment: it counts little.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        customer = (values - typical) / explainer.standard_deviation
        segment = (own_typical - typical) / explainer.standard_deviation
    shared = np.where(customer * segment > 0, np.minimum(np.abs(customer), np.abs(segment)), 0.0)
    return np.where(np.isfinite(customer), shared + OTHER_DIFFERENCE_WEIGHT * np.abs(customer), 0.0)


def _select_strongest(explainer: Explainer, differences: np.ndarray, family: np.ndarray) -> np.ndarray:
    """Return, for each of n customers, the column of the family in which they differ most; -1 where they differ too little."""
    columns = np.full(len(family), -1)
    for number in np.unique(family):
        rows, members = np.flatnonzero(family == number), explainer.families[number]
        of_family = differences[np.ix_(rows, members)]
        columns[rows] = np.where(of_family.max(axis=1) >= MIN_DIFFERENCE, members[of_family.argmax(axis=1)], -1)
    return columns


def _compute_leads(explainer: Explainer, values: np.ndarray, attributes: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return by how much another centre is nearer than the own one (n); above 0 the customer is in another segment."""
    own_distances, others = _compute_distances(explainer.encoder, values, attributes, explainer.centres, own)
    return own_distances - others.min(axis=1)


def _distances_in_batches(
    encoder: Encoder, values: np.ndarray, attributes: np.ndarray, centres: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return _compute_distances() of many customers, so many at once that their vectors fit into memory."""
    parts = np.array_split(np.arange(len(values)), len(values) // BATCH_ROWS + 1)
    distances = [_compute_distances(encoder, values[part], attributes[part], centres, own[part]) for part in parts]
    own_distances, others = (np.concatenate(part) for part in zip(*distances, strict=True))
    return own_distances, others


def _compute_distances(
    encoder: Encoder, values: np.ndarray, attributes: np.ndarray, centres: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances of n customers from their own centre (n), and from all centres (n x k), the own one infinite."""
    (vectors,) = encoder.run(np.ascontiguousarray(values, dtype=np.float32), attributes)
    distances = np.stack([np.linalg.norm(vectors - centre, axis=1) for centre in centres], axis=1)
    rows = np.arange(len(distances))
    own_distances = distances[rows, own].copy()
    distances[rows, own] = np.inf
    return own_distances, distances
