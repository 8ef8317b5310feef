"""What marks a segment: its features against those of the average active customer, in numbers and in words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from jobs import catalogue as catalogues
from jobs.catalogue import Feature
from jobs.report.formatting import format_feature_value

DORMANT = 0  # the segment that is given by rule; its customers are not active
INTERVAL_SDS = 1.96  # half a 95 % interval in standard errors
NAMING_EFFECT = 0.2  # a trait weaker than this (in standard deviations) gives no name
NAME_TRAITS = 2  # traits in a name, one more where two segments would share it
NAME_WORDS = 6  # a name is made of the strongest of them
FACTS = 3  # traits that a name rests on
KNOWN_SHARE = 0.5  # a feature known for fewer of a segment's customers marks none
DECIMALS = 6


class Trait(NamedTuple):
    """One feature of one segment; `typical` and `overall` are means of the customers for whom it is known.

    `effect`, `low` and `high` are the difference in standard deviations of all active customers, with 95 % interval.
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
    """Moments of d features in k segments; NaN where a segment knows no value."""

    features: list[str]
    segment_ids: list[int]  # k, ascending
    known: np.ndarray  # k x d: customers with a value
    mean: np.ndarray  # k x d
    variance: np.ndarray  # k x d
    overall_mean: np.ndarray  # d, over the active customers
    overall_sd: np.ndarray  # d


def statistics(members: DataFrame, features: list[str]) -> Statistics:
    """(segment_id INT, vector ARRAY<FLOAT>) of the active customers -> moments per segment, in one Spark job."""
    schema = "segment_id INT, known ARRAY<DOUBLE>, total ARRAY<DOUBLE>, squares ARRAY<DOUBLE>"
    parts = members.select("segment_id", "vector").mapInArrow(_sums, schema).toArrow()
    ids = sorted(set(parts["segment_id"].to_pylist()))
    rows = np.searchsorted(ids, parts["segment_id"].to_numpy())
    known, total, squares = (_added(parts[name], rows, len(ids), len(features)) for name in parts.column_names[1:])
    mean, variance = _moments(known, total, squares)
    overall_mean, overall_variance = _moments(known.sum(0), total.sum(0), squares.sum(0))
    return Statistics(features, ids, known, mean, variance, overall_mean, np.sqrt(overall_variance))


def traits(statistics: Statistics, catalogue: Sequence[Feature]) -> dict[int, list[Trait]]:
    """Per segment what differs from the average active customer, strongest first.

    Left out are constant features, and those known for fewer than half of a segment: they mark only a part of it.
    """
    meanings = {feature.name: feature.meaning for feature in catalogue}
    with np.errstate(divide="ignore", invalid="ignore"):
        effects = (statistics.mean - statistics.overall_mean) / statistics.overall_sd
        halves = INTERVAL_SDS * np.sqrt(statistics.variance / statistics.known) / statistics.overall_sd
    found: dict[int, list[Trait]] = {}
    known = statistics.known >= statistics.known.max(1, keepdims=True) * KNOWN_SHARE
    effects = np.where(known, effects, np.nan)
    for segment_id, mean, effect, half in zip(statistics.segment_ids, statistics.mean, effects, halves, strict=True):
        numbers = np.stack([mean, statistics.overall_mean, effect, effect - half, effect + half], axis=1)
        rows = zip(statistics.features, numbers.round(DECIMALS).tolist(), strict=True)
        every = [Trait(name, meanings.get(name, name), *row) for name, row in rows if np.isfinite(row).all()]
        found[segment_id] = sorted(every, key=lambda trait: (-abs(trait.effect), trait.feature))
    return found


def names(traits: dict[int, list[Trait]], catalogue: Sequence[Feature], kept: Mapping[int, str] | None = None) -> dict[int, str]:
    """A short name per segment from the catalogue's words for its strongest traits, or the one it has `kept`; no two are equal.

    Where the two strongest words name another segment already, the next pair is taken, then three words, and last the number.
    """
    given: dict[int, str] = {}
    for segment_id, name in sorted((kept or {}).items()):
        if _is_fresh(name, given):
            given[segment_id] = name
    for segment_id in sorted(traits.keys() - given):
        words = [word for word, _ in _words(traits[segment_id], catalogue)][:NAME_WORDS] or ["average customers"]
        tries = [_title(some) for n in (NAME_TRAITS, NAME_TRAITS + 1) for some in combinations(words, min(n, len(words)))]
        fresh = (name for name in [*tries, f"{tries[0]} ({segment_id})"] if _is_fresh(name, given))
        given[segment_id] = next(fresh)
    return given


def facts(traits: Sequence[Trait], catalogue: Sequence[Feature]) -> list[Trait]:
    """The FACTS traits that a name rests on: the strongest of different words, then the strongest of other features."""
    worded = [trait for _, trait in _words(traits, catalogue)]
    return [*worded, *(trait for trait in traits if trait not in worded)][:FACTS]


def in_words(trait: Trait, catalogue: Sequence[Feature]) -> str:
    """A trait as a shop says it: what is typical, and of the average active customer."""
    units = {feature.name: feature.unit for feature in catalogue}
    typical, overall = (format_feature_value(value, units[trait.feature]) for value in (trait.typical, trait.overall))
    return f"{catalogues.describe_feature(trait.feature, typical)} (average {overall})"


def _words(traits: Iterable[Trait], catalogue: Sequence[Feature]) -> Iterator[tuple[str, Trait]]:
    """The words of the traits that have one, each once, with the strongest trait of it."""
    high = {feature.name: feature.high for feature in catalogue}
    low = {feature.name: feature.low for feature in catalogue}
    seen = set()
    for trait in traits:
        word = (high if trait.effect > 0 else low).get(trait.feature, "")
        if word and word not in seen and abs(trait.effect) >= NAMING_EFFECT:
            seen.add(word)
            yield word, trait


def _is_fresh(name: str, given: Mapping[int, str]) -> bool:
    """Whether no segment has a name of these words, in whichever order.

    >>> _is_fresh("By day, frequent buyers", {1: "Frequent buyers, by day"}), _is_fresh("By day", {1: "Frequent buyers, by day"})
    (False, True)
    """
    return set(name.lower().split(", ")) not in [set(other.lower().split(", ")) for other in given.values()]


def _title(words: Iterable[str]) -> str:
    text = ", ".join(words)
    return text[0].upper() + text[1:]


def _sums(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    sums: dict[int, list[np.ndarray]] = {}
    for batch in batches:
        if batch.num_rows == 0:
            continue
        ids = batch["segment_id"].to_numpy(zero_copy_only=False)
        values = batch["vector"].flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(ids), -1)
        is_known = np.isfinite(values)
        values[~is_known] = 0.0
        for segment_id in np.unique(ids):
            mine = ids == segment_id
            part = [is_known[mine].sum(0, dtype=np.float64), values[mine].sum(0), (values[mine] ** 2).sum(0)]
            before = sums.get(int(segment_id))
            sums[int(segment_id)] = part if before is None else [a + b for a, b in zip(before, part, strict=True)]
    if sums:
        columns = [pa.array([part[i].tolist() for part in sums.values()], pa.list_(pa.float64())) for i in range(3)]
        yield pa.RecordBatch.from_arrays(
            [pa.array(list(sums), pa.int32()), *columns], names=["segment_id", "known", "total", "squares"]
        )


def _added(parts: pa.ChunkedArray, rows: np.ndarray, k: int, d: int) -> np.ndarray:
    added = np.zeros((k, d))
    np.add.at(added, rows, parts.combine_chunks().flatten().to_numpy().reshape(-1, d))
    return added


def _moments(known: np.ndarray, total: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / known
        variance = squares / known - mean**2
    # Below the precision of the vectors a spread is a rounding error.
    return mean, np.where(variance > 1e-12 * mean**2, variance, np.where(np.isnan(variance), np.nan, 0.0))
