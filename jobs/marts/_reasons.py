"""Why a customer is in the segment rather than in the runner-up: by what would have to change for the segment to change.

Features that say the same, as orders of 90 and of 365 days, are one reason, a family: an encoder that sees both is not
swayed by one of them, nor does a customer have one without the other. Which families matter is found for each pair of
segment and runner-up on a sample of customers: those that, set to what is typical of the runner-up, bring most customers
over to another segment. A customer's reasons are the first of them that differ and help, until the segment changes; a family
goes by its feature in which the customer differs most.
"""

import functools
from dataclasses import dataclass

import numpy as np

from jobs import catalogue
from jobs.encoder import Encoder
from jobs.report.formatting import format_feature_value

REASONS = 3
FAMILY_R = (0.7, 0.5, 0.3)  # mean rank correlation of a family's features: the first for which reasons hold
HOLD = 0.9  # for this share of the customers tried; where no families reach it, the last are taken
TRIED = 2000  # customers at most
PART = 10_000  # customers encoded at once
DIFFERS_SDS = 0.25  # a feature nearer than this to what is typical of the runner-up is no reason
ASIDE = 0.1  # how much a difference counts that is not the one between the two segments
KNOWN_SHARE = 0.5  # of a segment's customers: of a feature known for fewer, being unknown is typical
PAIR_CUSTOMERS = 50  # tried for a pair at most
PAIR_FAMILIES = 6  # ranked for a pair at most
ROUNDING = 1e-6  # of a distance: to come nearer by less is not to come nearer
ENOUGH = 0.99  # of the customers tried for a pair: once so many change sides no further family is ranked


@dataclass(frozen=True)
class Contrasts:
    """What tells k segments apart by d features, and by attributes that never change."""

    encoder: Encoder
    features: list[str]  # d
    units: list[str]  # d
    ids: np.ndarray  # k, ascending
    centres: np.ndarray  # k x latent
    families: list[np.ndarray]  # of columns
    typical: np.ndarray  # k x d float32: medians, NaN where being unknown is typical
    spread: np.ndarray  # d
    ranked: np.ndarray  # k x k x PAIR_FAMILIES: by segment and runner-up the families, -1 from where there are no more


def contrasts(
    encoder: Encoder,
    features: list[str],
    units: list[str],
    ids: np.ndarray,
    centres: np.ndarray,
    values: np.ndarray,
    attributes: np.ndarray,
    segments: np.ndarray,
) -> Contrasts:
    """From a sample of n active customers: values (n x d float32, NaN = unknown), attributes (n x a text), segment ids (n).

    Families are as narrow as they can be for reasons to hold: found on every other customer and tried on the rest.
    """
    rows = np.searchsorted(ids, segments)
    known = np.isfinite(values)
    typical = np.full((len(ids), len(features)), np.nan, dtype=np.float32)
    for row in np.unique(rows):
        mine, is_known = values[rows == row], known[rows == row]
        for column in np.flatnonzero(is_known.mean(axis=0) >= KNOWN_SHARE):
            typical[row, column] = np.median(mine[is_known[:, column], column])
    spread = np.array([column[here].std() if here.any() else 0.0 for column, here in zip(values.T, known.T, strict=True)])
    parts = np.array_split(np.arange(len(values)), len(values) // PART + 1)
    distances = [_distances(encoder, values[part], attributes[part], centres, rows[part]) for part in parts]
    from_own, from_others = (np.concatenate(part) for part in zip(*distances, strict=True))
    runners_up, towards = from_others.argmin(axis=1), from_own - from_others.min(axis=1)
    tried = slice(1, 2 * TRIED, 2)
    for r in FAMILY_R:
        ranked = np.full((len(ids), len(ids), PAIR_FAMILIES), -1)
        found = Contrasts(encoder, features, units, ids, centres, families(values, r), typical, spread, ranked)
        for row in np.unique(rows):
            others, counts = np.unique(runners_up[rows == row], return_counts=True)
            for other in others:
                of_pair = np.flatnonzero((rows == row) & (runners_up == other))
                fitted = of_pair[of_pair % 2 == 0]
                of_pair = (fitted if len(fitted) else of_pair)[:PAIR_CUSTOMERS]
                order = _ranking(found, values[of_pair], attributes[of_pair], row, other)
                ranked[row, other, : len(order)] = order
            # A runner-up that no customer of the sample has is treated as the commonest.
            ranked[row, np.isin(np.arange(len(ids)), others, invert=True)] = ranked[row, others[counts.argmax()]]
        _, hold = reasons(found, values[tried], attributes[tried], segments[tried], ids[runners_up[tried]], towards[tried])
        if hold.mean() >= HOLD:
            break
    return found


def families(values: np.ndarray, r: float) -> list[np.ndarray]:
    """The columns of n x d values in groups that go together, by a mean rank correlation of at least r; unknown ranks below all
    values.

    >>> a = np.array([1.0, 2.0, 3.0, 4.0])
    >>> [one.tolist() for one in families(np.stack([a, [5.0, 5.0, 5.0, 5.0], -a, [2.0, 1.0, 1.0, 2.0]], axis=1), 0.6)]
    [[0, 2], [1], [3]]
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # here: Spark's workers need none of it
    from scipy.spatial.distance import squareform
    from scipy.stats import rankdata

    if values.shape[1] < 2:
        return [np.array([0])]
    ranks = rankdata(np.where(np.isfinite(values), values, -np.inf), axis=0)
    centred = ranks - ranks.mean(axis=0)
    lengths = np.sqrt((centred**2).sum(axis=0))
    scaled = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
    apart = np.clip(1 - np.abs(scaled.T @ scaled), 0, 1)
    np.fill_diagonal(apart, 0)
    numbers = fcluster(linkage(squareform(apart, checks=False), "average"), 1 - r, "distance")
    groups = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    return sorted(groups, key=lambda columns: columns[0])


def reasons(
    contrasts: Contrasts,
    values: np.ndarray,
    attributes: np.ndarray,
    segments: np.ndarray,
    runners_up: np.ndarray,
    towards: np.ndarray,
) -> tuple[list[list[str]], np.ndarray]:
    """Of n active customers the reasons, and whether they hold: with their families as typical of the runner-up, the customer
    would be in another segment. `towards` is by how much the centre of the runner-up is nearer than the own: not at all, so
    below 0.
    """
    own, other = (np.searchsorted(contrasts.ids, ids) for ids in (segments, runners_up))
    typical = contrasts.typical[other]
    differs = _differs(contrasts, values, contrasts.typical[own], typical)
    texts: list[list[str]] = [[] for _ in values]
    n_texts = np.zeros(len(values), dtype=int)
    changed, towards = values.copy(), towards.copy()
    for place in range(contrasts.ranked.shape[2]):
        family = contrasts.ranked[own, other, place]
        rows = np.flatnonzero((family >= 0) & (towards <= 0) & (n_texts < REASONS))
        strongest = _strongest(contrasts, differs[rows], family[rows])
        rows, strongest = rows[strongest >= 0], strongest[strongest >= 0]
        if len(rows) == 0:
            continue
        tried = changed[rows]
        for number in np.unique(family[rows]):
            _swap(tried, np.flatnonzero(family[rows] == number), contrasts.families[number], typical[rows])
        now = _towards(contrasts, tried, attributes[rows], own[rows])
        helps = now > towards[rows] + ROUNDING * np.abs(towards[rows])
        rows, columns = rows[helps], strongest[helps]
        changed[rows], towards[rows] = tried[helps], now[helps]
        n_texts[rows] += 1
        told = (rows, columns, values[rows, columns], typical[rows, columns])
        for row, column, here, there in zip(*(part.tolist() for part in told), strict=True):
            texts[row].append(_text(contrasts.features[column], contrasts.units[column], here, there))
    return texts, towards > 0


def towards_runner_up(
    contrasts: Contrasts, segments: np.ndarray, runners_up: np.ndarray, distances: np.ndarray, margins: np.ndarray
) -> np.ndarray:
    """By how much the centre of the runner-up is nearer than the own, of n customers of segments.assignments.

    A margin of 1 says how far the own centre is, which is not at all, but not how far the other: as far as the centres are apart.
    """
    own, other = (contrasts.centres[np.searchsorted(contrasts.ids, ids)] for ids in (segments, runners_up))
    apart = np.linalg.norm(own - other, axis=1)
    shares = np.where(margins < 1, 1 - margins, 1.0)
    return np.where(margins < 1, distances - distances / shares, distances - apart)


@functools.lru_cache(maxsize=100_000)  # most customers share their reasons with many
def _text(feature: str, unit: str, here: float, there: float) -> str:
    """
    >>> _text("orders_90d", "count", 11.0, 2.0)
    '11 orders in 90 days, typical of the runner-up 2'
    """
    own, typical = (format_feature_value(value, unit) for value in (here, there))
    return f"{catalogue.describe_feature(feature, own)}, typical of the runner-up {typical}"


def _ranking(contrasts: Contrasts, values: np.ndarray, attributes: np.ndarray, row: int, other: int) -> list[int]:
    """The families in the order in which, each on top of those before, they bring most customers over."""
    changed, typical = values.copy(), np.broadcast_to(contrasts.typical[other], values.shape)
    own, everyone = np.full(len(values), row), np.arange(len(values))
    found: list[int] = []
    share = 0.0
    while len(found) < min(PAIR_FAMILIES, len(contrasts.families)) and share < ENOUGH:
        best = None
        for number in set(range(len(contrasts.families))) - set(found):
            tried = changed.copy()
            _swap(tried, everyone, contrasts.families[number], typical)
            towards = _towards(contrasts, tried, attributes, own)
            outcome = ((towards > 0).mean(), towards.mean(), -number)
            if best is None or outcome > best[0]:
                best = outcome, tried
        (share, _, number), changed = best
        found.append(-number)
    return found


def _swap(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, typical: np.ndarray) -> None:
    values[np.ix_(rows, columns)] = typical[np.ix_(rows, columns)]


def _differs(contrasts: Contrasts, values: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """By how many standard deviations the values differ from what is typical `there` (n x d), at most as what is typical `here`
    does; 0 where one is unknown. Where the value lies to the other side than the segment it is not what makes the segment: there
    it counts for little.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        own, segment = (values - there) / contrasts.spread, (here - there) / contrasts.spread
    counts = np.where(own * segment > 0, np.minimum(np.abs(own), np.abs(segment)), 0.0)
    return np.where(np.isfinite(own), counts + ASIDE * np.abs(own), 0.0)


def _strongest(contrasts: Contrasts, differs: np.ndarray, family: np.ndarray) -> np.ndarray:
    """Of each of n customers the column of the family in which it differs most, -1 where it differs too little."""
    columns = np.full(len(family), -1)
    for number in np.unique(family):
        rows, members = np.flatnonzero(family == number), contrasts.families[number]
        of_family = differs[np.ix_(rows, members)]
        columns[rows] = np.where(of_family.max(axis=1) >= DIFFERS_SDS, members[of_family.argmax(axis=1)], -1)
    return columns


def _towards(contrasts: Contrasts, values: np.ndarray, attributes: np.ndarray, own: np.ndarray) -> np.ndarray:
    """How much nearer another centre is than the own one; positive: the customer is in another segment."""
    mine, others = _distances(contrasts.encoder, values, attributes, contrasts.centres, own)
    return mine - others.min(axis=1)


def _distances(
    encoder: Encoder, values: np.ndarray, attributes: np.ndarray, centres: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distances from the own centre (n), and from all centres (n x k) with the own endless."""
    (vectors,) = encoder.run(np.ascontiguousarray(values, dtype=np.float32), attributes)
    found = np.stack([np.linalg.norm(vectors - centre, axis=1) for centre in centres], axis=1)
    every = np.arange(len(found))
    mine = found[every, own].copy()
    found[every, own] = np.inf
    return mine, found
