"""What outcomes are learned from: customers as of earlier days as a matrix, what became of them, and who is fitted or tested on.

The training environment and that of the scores read the same cases, so that what one fits the other may compare.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.config.outcomes import Outcome
from jobs.encoder import OnnxEncoder, features_table, load_encoder, to_inputs
from jobs.errors import UserError
from jobs.input_groups import GROUPS, SEQUENCE, GroupVectors
from jobs.outcome_groups import Reduction, SequenceModel, read_groups
from jobs.progress import log
from jobs.storage import models
from jobs.storage.rows import Rows, list_files, read_rows
from jobs.storage.table import Table

LABELS = Table(
    "features.outcomes",
    "Whether an outcome came true after a day.",
    "customer_id STRING, day DATE, outcome STRING, label BOOLEAN",
)
RECENCIES = ("recency_days", "order_recency_days")  # plain rules
_NEVER_DAYS = 3650.0  # since an order, of a customer who never ordered
MIN_CASES = 40  # customers of a day with the rarer label: with fewer, chance decides
_MIN_CASES_OF_PART = 5
_FIT_TENTHS = 6  # of the customers, by a hash; the others calibrate and test
_TEST_TENTHS = 8  # from which on customers test, where one day has to do for both
MAX_SEPARATION = 0.999  # area under the ROC curve of one input alone: above it the input knows the outcome


@dataclass(frozen=True)
class Inputs:
    """What customers are scored by: the inputs of an encoder, its learned vector, logarithms of RECENCIES, and reduced groups.

    The columns are in this order. Those of the vector are 0 where `has_vector` is false: to encode takes most of the time.
    """

    version: str  # of the encoder
    encoder: OnnxEncoder
    features: tuple[str, ...]  # of features.customers, in the order of its vector
    attributes: tuple[str, ...]
    names: tuple[str, ...]  # of the encoder's inputs
    latent: int
    has_vector: bool = True
    reductions: tuple[Reduction, ...] = ()  # of the groups
    sequences: SequenceModel | None = None  # where encoded.sequences has none of its vectors

    @property
    def recency_columns(self) -> dict[str, int]:
        """The columns of RECENCIES."""
        return {name: len(self.names) + self.latent + n for n, name in enumerate(RECENCIES)}

    @property
    def group_columns(self) -> dict[str, range]:
        """The columns of each group."""
        ends = np.cumsum([len(self.names) + self.latent + len(RECENCIES), *(len(r.names) for r in self.reductions)]).tolist()
        return {r.group: range(*columns) for r, columns in zip(self.reductions, pairwise(ends), strict=True)}

    @property
    def column_names(self) -> list[str]:
        """The names of all columns of a matrix."""
        groups = (name for reduction in self.reductions for name in reduction.names)
        return [*self.names, *(f"learned vector {n + 1}" for n in range(self.latent)), *RECENCIES, *groups]

    @cached_property
    def table(self) -> Table:
        """The columns of features.customers that are read."""
        table = features_table(self.attributes)
        return Table(table.name, table.about, f"{table.schema}, last_seen_day DATE, last_order_day DATE", partition="day")

    def customers_of(self, day: date, only: pa.Array | None = None) -> Rows:
        """Return which rows hold the customers of a day."""
        columns = ("customer_id", "day", "vector", *self.attributes, "last_seen_day", "last_order_day")
        return Rows(self.table, "customer_id", columns, [day], only)

    def make_matrix(
        self, customers: pa.Table, groups: Mapping[str, GroupVectors] = MappingProxyType({})
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the matrix (n x columns, float32) of n customers, and their features (n x d float32, NaN = missing).

        `groups` are their vectors, by group.
        """
        features, attributes = to_inputs(customers, self.attributes)
        if not len(features):
            return np.empty((0, len(self.column_names)), np.float32), features
        inputs, *encoded = self.encoder.run(features, attributes)
        vectors = encoded[0] if self.has_vector else np.zeros((len(features), self.latent), np.float32)
        recencies = features[:, [self.features.index(name) for name in RECENCIES]]
        recencies = np.log1p(np.nan_to_num(np.maximum(recencies, 0), nan=_NEVER_DAYS))
        reduced = (reduction.apply(groups.get(reduction.group), len(features)) for reduction in self.reductions)
        return np.concatenate([inputs, vectors, recencies, *reduced], axis=1, dtype=np.float32), features


def load_inputs(root: str, version: str, has_vector: bool = True) -> Inputs:
    """Return the inputs of the encoder of this version. Raises UserError where its files cannot be used."""
    meta = models.meta(root, version)
    encoder = load_encoder(root, version, ["inputs", "vector"] if has_vector else ["inputs"])
    if missing := set(RECENCIES) - set(meta["features"]):
        raise UserError(f"models: {version} lacks the feature {min(missing)}; train again: shoal train --retrain")
    names, attributes = tuple(meta["inputs"]), tuple(meta["attributes"])
    return Inputs(version, encoder, tuple(meta["features"]), attributes, names, meta["sizes"]["latent"], has_vector)


@dataclass(frozen=True)
class Cases:
    """n customers as of one or more days, and whether an outcome came true for them."""

    matrix: np.ndarray  # n x columns
    labels: np.ndarray  # n, 0 or 1

    @property
    def n_rarer(self) -> int:
        """The number of customers with the rarer label."""
        return int(min(self.labels.sum(), len(self.labels) - self.labels.sum()))

    def without(self, columns: Sequence[int]) -> "Cases":
        """Return the cases with 0 in some columns."""
        return replace(self, matrix=clear_columns(self.matrix, columns))


# Of an outcome: the cases of each earlier day, oldest first, and the tenth of the customers that each is in.
CasesByDay = Mapping[date, tuple[Cases, np.ndarray]]


@dataclass(frozen=True)
class Parts:
    """What contestants are fitted, calibrated and tested on, as of which days, and what the winner is made of."""

    fit: Cases
    calibration: Cases
    test: Cases
    last_fit: Cases
    last_calibration: Cases
    days: dict[str, list[str]]


def read_cases(lake: str, inputs: Inputs, outcomes: Collection[Outcome], day: date) -> dict[str, CasesByDay]:
    """Return the cases of each outcome that are known on a day; an outcome of which none is known has no days."""
    cases: dict[str, dict] = {outcome.name: {} for outcome in outcomes}
    for as_of, of_day in _read_labels(lake, outcomes, day).items():
        customers = read_rows(lake, inputs.customers_of(as_of, pc.unique(of_day["customer_id"])))
        places = customers["customer_id"].combine_chunks()
        groups = read_groups(lake, as_of, places, inputs.sequences) if inputs.reductions else {}
        for reduction in inputs.reductions:
            if reduction.group in groups and groups[reduction.group].model != reduction.model:
                log(f"score the {reduction.group} vectors of {as_of} are not of {reduction.model}: its cases are without them")
        matrix, _ = inputs.make_matrix(customers, groups)
        for outcome in outcomes:
            rows = of_day.filter(pc.equal(of_day["outcome"], outcome.name))
            if len(rows) and as_of in outcome.label_days(day):
                positions = pc.index_in(rows["customer_id"], places).to_numpy()
                of_outcome = Cases(matrix[positions], rows["label"].to_numpy().astype(np.int8))
                cases[outcome.name][as_of] = of_outcome, _hash_to_tenths(rows["customer_id"])
    return cases


def fit_reductions(lake: str, outcomes: Collection[Outcome], day: date, sequences: SequenceModel | None) -> tuple[Reduction, ...]:
    """Return how each group is reduced, fitted on no customer who tests, as of the last earlier day on which it has vectors."""
    for as_of, of_day in reversed(_read_labels(lake, outcomes, day).items()):
        ids = pc.unique(of_day["customer_id"])
        ids = ids.filter(pa.array(_hash_to_tenths(ids) < _FIT_TENTHS))
        groups = read_groups(lake, as_of, ids, sequences)
        if sequences is None:
            groups.pop(SEQUENCE, None)  # of another version of the autoencoder
        reductions = [Reduction.fit(groups[group]) for group in GROUPS if group in groups]
        if any(reductions):
            return tuple(filter(None, reductions))
    return ()


def _read_labels(lake: str, outcomes: Collection[Outcome], day: date) -> dict[date, pa.Table]:
    """Return the labels of the earlier days that are known on a day, by day, oldest first, sorted by customer."""
    days = sorted({label_day for outcome in outcomes for label_day in outcome.label_days(day)})
    columns = ("customer_id", "day", "outcome", "label")
    labels = read_rows(lake, Rows(LABELS, "customer_id", columns, days)).sort_by("customer_id")
    return {as_of: labels.filter(pc.equal(labels["day"], pa.scalar(as_of))) for as_of in days}


def has_labels(lake: str) -> bool:
    """Return whether any outcome is known as of an earlier day."""
    return any(file.n_rows for file in list_files(lake, Rows(LABELS, "customer_id")))


def _hash_to_tenths(ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.array([hashlib.blake2b(id_.encode(), digest_size=8).digest()[0] % 10 for id_ in ids.to_pylist()])


def split_cases(cases: CasesByDay) -> Parts | str:
    """Return what contestants are fitted, calibrated and tested on; in words why not, where there are too few cases.

    Other customers test than those that were fitted, and as of a later day whose window begins after the windows of all labels
    of the fit have ended. With three days the calibration has a day of its own; with one, customers alone are divided.
    """
    days = [as_of for as_of, (of_day, _) in cases.items() if of_day.n_rarer >= MIN_CASES]
    if not days:
        n_rarer = max((of_day.n_rarer for of_day, _ in cases.values()), default=0)
        return f"at most {n_rarer} customers of an earlier day have the rarer outcome, fewer than {MIN_CASES}"
    several = len(days) > 1
    fit_days, calibration_day = days[:-2] or days[:1], days[-2] if several else days[0]
    parts = Parts(
        _select(cases, fit_days, 0, _FIT_TENTHS),
        _select(cases, [calibration_day], _FIT_TENTHS, 10 if several else _TEST_TENTHS),
        _select(cases, days[-1:], _FIT_TENTHS if several else _TEST_TENTHS, 10),
        _select(cases, days, 0, _FIT_TENTHS),
        _select(cases, days[-1:], _FIT_TENTHS, 10),
        {"fit": [*map(str, fit_days)], "calibration": [str(calibration_day)], "test": [str(days[-1])]},
    )
    for name, part in (("fitted", parts.fit), ("calibrated", parts.calibration), ("tested", parts.test)):
        if part.n_rarer < _MIN_CASES_OF_PART:
            return f"{part.n_rarer} customers with the rarer outcome are to be {name} on, fewer than {_MIN_CASES_OF_PART}"
    return parts


def _select(cases: CasesByDay, days: Sequence[date], first: int, end: int) -> Cases:
    chosen = [(cases[day][0], (cases[day][1] >= first) & (cases[day][1] < end)) for day in days]
    return Cases(
        np.concatenate([of_day.matrix[rows] for of_day, rows in chosen]),
        np.concatenate([of_day.labels[rows] for of_day, rows in chosen]),
    )


def find_separators(cases: Cases) -> tuple[int, ...]:
    """Return the columns that alone separate the outcome: a column that knows the future, or the outcome itself, does."""
    areas = [area_under_roc(column, cases.labels) for column in cases.matrix.T]
    return tuple(n for n, area in enumerate(areas) if max(area, 1 - area) > MAX_SEPARATION)


def area_under_roc(values: np.ndarray, labels: np.ndarray) -> float:
    """Return the probability that a customer with label 1 has the higher value than one with 0, ties counted half.

    NaN where a label is missing.
    """
    order = np.argsort(-values, kind="stable")
    v, y = values[order], labels[order].astype(float)
    ends = np.flatnonzero(np.diff(v, append=np.nan))
    true, false = np.cumsum(y)[ends], np.cumsum(1 - y)[ends]
    pairs = y.sum() * (len(y) - y.sum())
    return float(np.trapezoid(np.concatenate([[0], true]), np.concatenate([[0], false])) / pairs) if pairs else float("nan")


def clear_columns(matrix: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """Return a matrix with 0 in some columns."""
    if len(columns):
        matrix = matrix.copy()
        matrix[:, list(columns)] = 0
    return matrix
