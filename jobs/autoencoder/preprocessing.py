"""From a customer's features and attributes to the columns the network sees: fitted here, applied here and in ONNX."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from jobs.autoencoder import imputation, scaling
from jobs.config.policy import Column, Selection

OTHER = "other"
MISSING, ROWS_AT_ONCE = -1, 8192


@dataclass(frozen=True)
class Numbers:
    """All fitted numbers: of the d features, in a feature's own unit up to `knots`, then in scaled units; of the q features
    scaled by quantile, in m parts; of the f flags and e categories; and which of these d + f + e columns the network sees."""

    fill: np.ndarray  # d, takes the place of a missing value
    low: np.ndarray  # d
    high: np.ndarray  # d, winsorised to [low, high]
    is_log: np.ndarray  # d bool: sign(x) * log(1 + |x|)
    ranked: np.ndarray  # q int64: features scaled by quantile
    knots: np.ndarray  # q x m, where a part begins
    widths: np.ndarray  # q x m, how far it reaches
    gains: np.ndarray  # q x m, share of customers on it; 0 where a feature has fewer parts
    mean: np.ndarray  # d
    scale: np.ndarray  # d, 1 where the training customers do not differ
    scaled_low: np.ndarray  # d
    scaled_high: np.ndarray  # d, limits of what a regression may impute
    regressed: np.ndarray  # d bool: imputed by regression
    chained: np.ndarray  # d bool: of these, by chained equations, again and again
    weights: np.ndarray  # d x d
    bias: np.ndarray  # d
    flagged: np.ndarray  # f int64: features with a 0/1 column that says where they are missing
    attribute: np.ndarray  # e int64: the attribute of each category
    category: np.ndarray  # e int64: the code of each category
    extra_mean: np.ndarray  # f + e
    extra_scale: np.ndarray  # f + e
    selected: np.ndarray  # int64: columns that the network sees


@dataclass(frozen=True)
class Fitted:
    """Preprocessing of training customers (n), and what was found."""

    numbers: Numbers
    names: list[str]  # of the network's columns: a feature, "<feature> missing" or "<attribute> = <category>"
    scaling: list[str]  # d methods of jobs/autoencoder/scaling.py
    left_out: list[dict]  # {"name", "reason": "constant", "share"} or {"name", "reason": "duplicate", "of", "r"}
    inputs: Tensor  # n x columns
    draws: list[Tensor]  # n x columns each: the same with multiple imputations; none without these


class Preprocess(nn.Module):
    """Impute, winsorise, log or rank, scale, flag, one-hot, select."""

    def __init__(self, numbers: Numbers):
        super().__init__()
        for field in fields(Numbers):
            self.register_buffer(field.name, torch.from_numpy(np.array(getattr(numbers, field.name))))
        self.sweeps = sweeps(numbers)

    def forward(self, features: Tensor, codes: Tensor) -> Tensor:
        """(n x d in the table's units, NaN or infinite = missing; n x attributes, codes as of `codes`) -> n x columns."""
        missing = ~features.isfinite()
        known = torch.where(missing, self.fill, features)
        known = torch.minimum(torch.maximum(known, self.low), self.high)
        parts = (known[:, self.ranked, None] - self.knots) / self.widths
        ranks = (parts.clamp(0, 1) * self.gains).sum(dim=2)
        # log(1 + x) and not log1p: ONNX has only the former, and both sides must give the same.
        known = torch.where(self.is_log, known.sign() * (1 + known.abs()).log(), known)
        known[:, self.ranked] = ranks
        scaled = (known - self.mean) / self.scale
        for sweep in range(self.sweeps):
            predicted = torch.minimum(torch.maximum(scaled @ self.weights + self.bias, self.scaled_low), self.scaled_high)
            scaled = torch.where(missing & (self.chained if sweep else self.regressed), predicted, scaled)
        flags = missing[:, self.flagged]
        one_hot = codes[:, self.attribute] == self.category
        extra = (torch.cat([flags, one_hot], dim=1).float() - self.extra_mean) / self.extra_scale
        return torch.cat([scaled, extra], dim=1)[:, self.selected]


def kinds(numbers: Numbers | Preprocess) -> Tensor:
    """d int64: 0 for a feature kept as it is, 1 for one logged, 2 for one ranked."""
    found = torch.as_tensor(numbers.is_log).long()
    found[torch.as_tensor(numbers.ranked)] = 2
    return found


def sweeps(numbers: Numbers) -> int:
    """How often the regressions are applied: chained ones feed each other."""
    return imputation.SWEEPS if numbers.chained.any() else int(numbers.regressed.any())


def groups(numbers: Numbers) -> list[slice]:
    """Of the network's columns, those that are categories of one attribute, attribute by attribute."""
    first = len(numbers.fill) + len(numbers.flagged)  # the first category's column before the selection
    attributes = np.array([numbers.attribute[column - first] if column >= first else -1 for column in numbers.selected])
    found = (np.flatnonzero(attributes == attribute) for attribute in np.unique(attributes) if attribute >= 0)
    return [slice(int(columns[0]), int(columns[-1]) + 1) for columns in found]


def frequent(texts: pa.Array, most: int) -> list[str]:
    """The `most` most frequent categories, the first in the alphabet where they are equally frequent."""
    counts = pc.value_counts(texts.filter(pc.and_(pc.is_valid(texts), pc.not_equal(texts, ""))))
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    return [text for text, _ in sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:most]]


def codes(texts: Sequence[pa.Array], categories: Sequence[list[str]], n: int) -> np.ndarray:
    """n x attributes int64: the place among the attribute's categories, their number for any other text, MISSING."""
    coded = np.empty((n, len(categories)), dtype=np.int64)
    for column, (text, known) in enumerate(zip(texts, categories, strict=True)):
        place = pc.fill_null(pc.index_in(text, value_set=pa.array(known, pa.string())), len(known))
        is_missing = pc.fill_null(pc.equal(text, ""), True)
        coded[:, column] = pc.if_else(is_missing, pa.scalar(MISSING, pa.int32()), place).to_numpy(zero_copy_only=False)
    return coded


def fit(
    matrix: np.ndarray,
    coded: np.ndarray,
    names: Sequence[str],
    columns: Sequence[Column],
    categories: dict[str, list[str]],
    selection: Selection,
    seed: int,
) -> Fitted:
    """Preprocessing of the customers in `matrix` (n x d, NaN = missing) and `coded` (n x attributes): the training ones."""
    flagged = np.flatnonzero([column.missing == "null" for column in columns])
    every = [(place, code) for place, known in enumerate(categories.values()) for code in range(len(known) + 1)]
    attribute, category = np.array(every, dtype=np.int64).reshape(-1, 2).T
    titles = [*names, *(f"{names[j]} missing" for j in flagged)]
    titles += [f"{name} = {text}" for name, known in categories.items() for text in [*known, OTHER]]
    univariate, methods = _univariate(matrix, columns)
    numbers = univariate | _extra(matrix, coded, flagged, attribute, category)
    fitted = Numbers(**{k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in numbers.items()})
    fitted, draws = _with_regressions(fitted, matrix, coded, columns, seed)
    inputs = apply(Preprocess(fitted), matrix, coded)
    kept, left_out = _selected(inputs.numpy(), titles, selection)
    d = len(names)
    kind = np.append(kinds(fitted), np.full(len(titles) - d, 3))
    kept = kept[np.argsort(kind[kept], stable=True)]  # those treated alike side by side: the encoder need not sort them
    drawn = [torch.cat([torch.from_numpy(draw.astype(np.float32)), inputs[:, d:]], dim=1)[:, kept] for draw in draws]
    return Fitted(replace(fitted, selected=kept), [titles[j] for j in kept], methods, left_out, inputs[:, kept], drawn)


def apply(
    preprocess: Preprocess,
    matrix: np.ndarray,
    coded: np.ndarray,
    rows: np.ndarray | None = None,
    new: Callable[[int, int], Tensor] = torch.empty,
) -> Tensor:
    """The network's columns (m x inputs) of all customers or those in `rows` (m), in an array that `new` makes.

    In parts, so that the steps between need little memory.
    """
    rows = np.arange(len(matrix)) if rows is None else rows
    place = new(len(rows), len(preprocess.selected))
    with torch.no_grad():
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            place[start : start + len(part)] = preprocess(torch.from_numpy(matrix[part]), torch.from_numpy(coded[part]))
    return place


def _univariate(matrix: np.ndarray, columns: Sequence[Column]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The numbers of the features on their own, and their methods of scaling."""
    limits = [_limits(_known(matrix[:, j]), column) for j, column in enumerate(columns)]
    low, high = np.array(limits).T
    methods = np.array([column.scaling for column in columns])
    free = (methods == "auto") & (high > low)
    common = free & scaling.share_a_unit(low[free], high[free])
    fill, scalings = np.empty(len(columns)), []
    for j, column in enumerate(columns):
        fill[j], values = _filled(matrix[:, j], column, *limits[j])
        scalings.append(scaling.fit(values, *limits[j], "common" if common[j] else column.scaling))
    if common.any():
        pooled = np.sqrt(np.mean([one.scale**2 for one in scalings if one.method == "common"]))
        scalings = [replace(one, scale=pooled) if one.method == "common" else one for one in scalings]
    bounds = np.array([one.of(np.array(limit)) for one, limit in zip(scalings, limits, strict=True)])
    return {
        "fill": fill,
        "low": low,
        "high": high,
        "is_log": np.array([one.method == "log1p" for one in scalings]),
        "mean": np.array([one.mean for one in scalings]),
        "scale": np.array([one.scale for one in scalings]),
        "scaled_low": bounds[:, 0],
        "scaled_high": bounds[:, 1],
        **_ranks(scalings),
    }, [one.method for one in scalings]


def _ranks(scalings: list[scaling.Scaling]) -> dict[str, np.ndarray]:
    """Knots as parts with the rank gained on each, for Preprocess."""
    ranked = np.flatnonzero([one.method == "quantile" for one in scalings])
    m = max((len(scalings[j].knots) - 1 for j in ranked), default=0)
    knots, widths, gains = (np.full((len(ranked), m), filler) for filler in (0.0, 1.0, 0.0))
    for row, j in enumerate(ranked):
        parts = slice(len(scalings[j].knots) - 1)
        knots[row, parts] = scalings[j].knots[:-1]
        widths[row, parts], gains[row, parts] = np.diff(scalings[j].knots), np.diff(scalings[j].ranks)
    return {"ranked": ranked, "knots": knots, "widths": widths, "gains": gains}


def _known(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)].astype(np.float64)


def _filled(values: np.ndarray, column: Column, low: float, high: float) -> tuple[float, np.ndarray]:
    """What takes the place of a missing value, and the winsorised values with it, in any order."""
    known = _known(values)
    clipped = np.clip(known, low, high)
    fill = _fill(known, clipped, column)
    if column.missing in ("model", "multiple") and len(known):
        return fill, clipped
    return fill, np.append(clipped, np.full(len(values) - len(known), np.clip(fill, low, high)))


def _limits(known: np.ndarray, column: Column) -> tuple[float, float]:
    if not len(known):
        return 0.0, 0.0
    smallest, largest = known.min(), known.max()
    if column.outliers == "quantile":
        return tuple(np.quantile(known, column.shares))
    first, third = np.quantile(known, [0.25, 0.75])
    if column.outliers == "none" or first == third:
        return smallest, largest
    reach = column.factor * (third - first)
    return max(first - reach, smallest), min(third + reach, largest)


def _fill(known: np.ndarray, clipped: np.ndarray, column: Column) -> float:
    if column.missing in ("zero", "constant"):
        return column.value if column.missing == "constant" else 0.0
    if not len(known):
        return 0.0
    return clipped.mean() if column.missing == "mean" else np.median(known)


def _extra(
    matrix: np.ndarray, coded: np.ndarray, flagged: np.ndarray, attribute: np.ndarray, category: np.ndarray
) -> dict[str, np.ndarray]:
    """Centre and scale of the 0/1 columns: a flag weighs as much as a feature, and so do all of an attribute together."""
    d = matrix.shape[1]
    shares = np.concatenate([(~np.isfinite(matrix[:, flagged])).mean(axis=0), (coded[:, attribute] == category).mean(axis=0)])
    variances = shares * (1 - shares)
    groups = np.concatenate([np.arange(len(flagged)), len(flagged) + attribute])
    totals = np.bincount(groups, variances)[groups] if len(groups) else np.empty(0)
    return {
        "flagged": flagged,
        "attribute": attribute,
        "category": category,
        "extra_mean": shares,
        "extra_scale": np.where(totals > 0, np.sqrt(totals), 1.0),
        "regressed": np.zeros(d, dtype=bool),
        "chained": np.zeros(d, dtype=bool),
        "weights": np.zeros((d, d)),
        "bias": np.zeros(d),
        "selected": np.arange(d + len(groups)),
    }


def _with_regressions(
    numbers: Numbers, matrix: np.ndarray, coded: np.ndarray, columns: Sequence[Column], seed: int
) -> tuple[Numbers, list[np.ndarray]]:
    once, chained = (np.array([column.missing == method for column in columns]) for method in ("model", "multiple"))
    if not (once | chained).any():
        return numbers, []
    scaled = apply(Preprocess(numbers), matrix, coded)[:, : len(columns)].numpy()
    limits = (numbers.scaled_low, numbers.scaled_high)
    found = imputation.fit(scaled, ~np.isfinite(matrix), limits, once, chained, seed)
    weights, bias = found.weights.astype(np.float32), found.bias.astype(np.float32)
    return replace(numbers, regressed=once | chained, chained=chained, weights=weights, bias=bias), found.draws


def _selected(inputs: np.ndarray, titles: list[str], selection: Selection) -> tuple[np.ndarray, list[dict]]:
    """Columns (n x d + f + e) neither near-constant nor like an earlier one that is kept, and why the others are not.

    A column with at least half of its values equal has its median for the most frequent one.
    """
    shares = (inputs == np.median(inputs, axis=0)).mean(axis=0)
    spread = inputs.std(axis=0, dtype=np.float64)
    constant = (shares >= selection.constant_share) | (spread <= 1e-6 * np.abs(inputs.mean(axis=0, dtype=np.float64)))
    left_out = [{"name": titles[j], "reason": "constant", "share": float(shares[j])} for j in np.flatnonzero(constant)]
    varying = np.flatnonzero(~constant)
    standard = (inputs[:, varying] - inputs[:, varying].mean(axis=0, dtype=np.float64)) / spread[varying]
    correlations = standard.T @ standard / len(inputs)
    kept: list[int] = []
    for place, column in enumerate(varying):
        alike = [k for k in kept if abs(correlations[place, k]) > selection.duplicate_correlation]
        if not alike:
            kept.append(place)
            continue
        r = float(correlations[place, alike[0]])
        left_out.append({"name": titles[column], "reason": "duplicate", "of": titles[varying[alike[0]]], "r": r})
    return varying[kept], left_out
