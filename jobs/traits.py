"""What marks a segment: its features compared with those of the average active customer, in numbers and in words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from jobs import catalogue as catalogues
from jobs.catalogue import Feature
from jobs.report.formatting import format_feature_value

DORMANT = 0  # the segment of the customers who are not active; it is given by rule
INTERVAL_STANDARD_ERRORS = 1.96  # half a 95 % interval
NAMING_EFFECT = 0.2  # a trait weaker than this (in standard deviations) gives no name
NAME_TRAITS = 2  # traits in a name, one more where two segments would share it
NAME_WORDS = 6  # a name is made of the words of the strongest traits, so many at most
FACTS = 3  # traits that a name rests on
KNOWN_SHARE = 0.5  # a feature known for a smaller share of a segment's customers does not mark it
DECIMALS = 6

_CHUNK_ROWS = 65_536


class Trait(NamedTuple):
    """One feature of one segment.

    `typical` and `overall` are the means of the segment and of all active customers, of those for whom the feature is known.
    `effect` is their difference in standard deviations of all active customers; `low` and `high` are its 95 % interval.
    """

    feature: str
    meaning: str
    typical: float
    overall: float
    effect: float
    low: float
    high: float


@dataclass(frozen=True)
class Statistics:
    """Moments of d features in k segments; NaN where no customer of a segment has a value."""

    features: list[str]
    segment_ids: list[int]  # k, ascending
    n_known: np.ndarray  # k x d: customers with a value
    mean: np.ndarray  # k x d
    variance: np.ndarray  # k x d
    overall_mean: np.ndarray  # d, of the active customers
    overall_standard_deviation: np.ndarray  # d


def feature_statistics(vectors: np.ndarray, segments: np.ndarray, features: list[str]) -> Statistics:
    """Return the moments by segment of the active customers' vectors (n x d, NaN where missing); segments holds n segment ids.

    Rows are added in their order, so equal rows in the same order give the same figures bit for bit.
    """
    ids, rows = np.unique(segments, return_inverse=True)
    sums = np.zeros((3, len(ids), len(features)))
    for start in range(0, len(vectors), _CHUNK_ROWS):
        _add_sums(sums, vectors[start : start + _CHUNK_ROWS], rows[start : start + _CHUNK_ROWS])
    n_known, total, squares = sums
    mean, variance = _moments(n_known, total, squares)
    overall_mean, overall_variance = _moments(n_known.sum(0), total.sum(0), squares.sum(0))
    return Statistics(features, ids.tolist(), n_known, mean, variance, overall_mean, np.sqrt(overall_variance))


def rank_traits(statistics: Statistics, catalogue: Sequence[Feature]) -> dict[int, list[Trait]]:
    """Return, by segment id, how it differs from the average active customer, the strongest trait first.

    Features that are constant, or known for less than half of a segment, are left out: the latter mark only a part of it.
    """
    meanings = {feature.name: feature.meaning for feature in catalogue}
    with np.errstate(divide="ignore", invalid="ignore"):
        effects = (statistics.mean - statistics.overall_mean) / statistics.overall_standard_deviation
        standard_errors = np.sqrt(statistics.variance / statistics.n_known)
        halves = INTERVAL_STANDARD_ERRORS * standard_errors / statistics.overall_standard_deviation
    ranked: dict[int, list[Trait]] = {}
    is_known = statistics.n_known >= statistics.n_known.max(1, keepdims=True) * KNOWN_SHARE
    effects = np.where(is_known, effects, np.nan)
    for segment_id, mean, effect, half in zip(statistics.segment_ids, statistics.mean, effects, halves, strict=True):
        figures = np.stack([mean, statistics.overall_mean, effect, effect - half, effect + half], axis=1)
        rows = zip(statistics.features, figures.round(DECIMALS).tolist(), strict=True)
        traits = [Trait(name, meanings.get(name, name), *row) for name, row in rows if np.isfinite(row).all()]
        ranked[segment_id] = sorted(traits, key=lambda trait: (-abs(trait.effect), trait.feature))
    return ranked


def name_segments(
    traits: dict[int, list[Trait]], catalogue: Sequence[Feature], kept: Mapping[int, str] | None = None
) -> dict[int, str]:
    """Return a short name by segment id: the one it has `kept`, or the catalogue's words for its strongest traits.

    No two names are equal. Where the two strongest words name another segment already, the next pair is tried, then three
    words, and last the segment id is added.
    """
    names: dict[int, str] = {}
    for segment_id, name in sorted((kept or {}).items()):
        if _is_unused(name, names):
            names[segment_id] = name
    for segment_id in sorted(traits.keys() - names):
        words = [word for word, _ in _words(traits[segment_id], catalogue)][:NAME_WORDS] or ["average customers"]
        sizes = (NAME_TRAITS, NAME_TRAITS + 1)
        tries = [_capitalise(group) for n in sizes for group in combinations(words, min(n, len(words)))]
        names[segment_id] = next(name for name in [*tries, f"{tries[0]} ({segment_id})"] if _is_unused(name, names))
    return names


def select_facts(traits: Sequence[Trait], catalogue: Sequence[Feature]) -> list[Trait]:
    """Return the FACTS traits that a name rests on: the strongest trait of each word, then the strongest of the others."""
    with_words = [trait for _, trait in _words(traits, catalogue)]
    return [*with_words, *(trait for trait in traits if trait not in with_words)][:FACTS]


def describe_trait(trait: Trait, catalogue: Sequence[Feature]) -> str:
    """Return a trait in words: the mean of the segment, and that of the average active customer."""
    units = {feature.name: feature.unit for feature in catalogue}
    typical, overall = (format_feature_value(value, units[trait.feature]) for value in (trait.typical, trait.overall))
    return f"{catalogues.describe_feature(trait.feature, typical)} (average {overall})"


def _words(traits: Iterable[Trait], catalogue: Sequence[Feature]) -> Iterator[tuple[str, Trait]]:
    """Yield each word that the traits have, once, with the strongest trait that has it."""
    high = {feature.name: feature.high for feature in catalogue}
    low = {feature.name: feature.low for feature in catalogue}
    seen = set()
    for trait in traits:
        word = (high if trait.effect > 0 else low).get(trait.feature, "")
        if word and word not in seen and abs(trait.effect) >= NAMING_EFFECT:
            seen.add(word)
            yield word, trait


def _is_unused(name: str, names: Mapping[int, str]) -> bool:
    """Return whether no segment has a name of these words, in any order.

    >>> names = {1: "Frequent buyers, by day"}
    >>> _is_unused("By day, frequent buyers", names), _is_unused("By day", names)
    (False, True)
    """
    return set(name.lower().split(", ")) not in [set(used.lower().split(", ")) for used in names.values()]


def _capitalise(words: Iterable[str]) -> str:
    text = ", ".join(words)
    return text[0].upper() + text[1:]


def _add_sums(sums: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> None:
    """Add to `sums` (3 x k x d) the numbers, the sums and the sums of squares of known values; rows of n vectors: 0..k-1."""
    order = np.argsort(rows, kind="stable")
    present, starts = np.unique(rows[order], return_index=True)
    values = vectors[order].astype(np.float64)
    is_known = np.isfinite(values)
    values[~is_known] = 0.0
    for number, addends in enumerate((is_known, values, values**2)):
        sums[number, present] += np.add.reduceat(addends, starts, axis=0, dtype=np.float64)


def _moments(n_known: np.ndarray, total: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / n_known
        variance = squares / n_known - mean**2
    # A variance below the precision of the vectors is a rounding error.
    return mean, np.where(variance > 1e-12 * mean**2, variance, np.where(np.isnan(variance), np.nan, 0.0))
