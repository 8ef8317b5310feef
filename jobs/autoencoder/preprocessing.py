"""From a customer's features and attributes to the inputs of the network: fitted here, applied here and in the ONNX graph."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from jobs.autoencoder import imputation, scaling
from jobs.autoencoder.array_storage import Allocate
from jobs.config.policy import Column, Selection

OTHER = "other"  # the category of all texts that have no category of their own
MISSING = -1  # the code of a missing text
CHUNK_ROWS = 8192  # customers processed at a time
FIT_CUSTOMERS = 200_000  # training customers for the fit: more would not move a quantile by a percent


@dataclass(frozen=True)
class PreprocessingParameters:
    """All fitted numbers; up to `knots` they are in a feature's own unit, then in scaled units.

    Sizes beyond those of the package: n_ranked features scaled by quantile, in n_parts each; n_flags and n_categories 0/1
    columns.
    """

    fill: np.ndarray  # (n_features,) replaces a missing value
    low: np.ndarray  # (n_features,)
    high: np.ndarray  # (n_features,) values are winsorised to [low, high]
    is_log: np.ndarray  # (n_features,) bool: sign(x) * log(1 + |x|)
    ranked: np.ndarray  # (n_ranked,) int64: the features scaled by quantile
    knots: np.ndarray  # (n_ranked, n_parts) where a part begins
    widths: np.ndarray  # (n_ranked, n_parts) how wide it is
    gains: np.ndarray  # (n_ranked, n_parts) share of customers on it; 0 where a feature has fewer parts
    mean: np.ndarray  # (n_features,)
    scale: np.ndarray  # (n_features,) 1 where the training customers do not vary
    scaled_low: np.ndarray  # (n_features,)
    scaled_high: np.ndarray  # (n_features,) a regression imputes within [scaled_low, scaled_high]
    regressed: np.ndarray  # (n_features,) bool: imputed by regression
    chained: np.ndarray  # (n_features,) bool: of these, by chained equations, in several sweeps
    weights: np.ndarray  # (n_features, n_features) of the regressions
    bias: np.ndarray  # (n_features,) of the regressions
    flagged: np.ndarray  # (n_flags,) int64: the features with a 0/1 column for missing
    attribute: np.ndarray  # (n_categories,) int64: the attribute of each category
    category: np.ndarray  # (n_categories,) int64: the code of each category
    extra_mean: np.ndarray  # (n_flags + n_categories,)
    extra_scale: np.ndarray  # (n_flags + n_categories,)
    selected: np.ndarray  # (n_inputs,) int64: the inputs among the n_features + n_flags + n_categories columns


@dataclass(frozen=True)
class FittedPreprocessing:
    """The fitted parameters, what was decided by the fit, and the training customers as inputs."""

    parameters: PreprocessingParameters
    input_names: list[str]  # a feature, "<feature> missing" or "<attribute> = <category>"
    scaling_methods: list[str]  # by feature, see jobs/autoencoder/scaling.py
    left_out: list[dict]  # {"name", "reason": "constant", "share"} or {"name", "reason": "duplicate", "of", "r"}
    inputs: Tensor  # (n_customers, n_inputs)
    imputations: list[Tensor]  # (n_customers, n_inputs) each: the inputs with multiple imputations; none without these


class Preprocessor(nn.Module):
    """Impute, winsorise, take logarithms or ranks, scale, flag missing values, one-hot encode, select."""

    def __init__(self, parameters: PreprocessingParameters):
        super().__init__()
        for field in fields(PreprocessingParameters):
            self.register_buffer(field.name, torch.from_numpy(np.array(getattr(parameters, field.name))))
        self.n_sweeps = count_sweeps(parameters)

    def forward(self, features: Tensor, codes: Tensor) -> Tensor:
        """(n_rows, n_features), (n_rows, n_attributes) -> inputs (n_rows, n_inputs).

        Features are in the table's units, NaN or infinite = missing; codes are those of encode_categories.
        """
        missing = ~features.isfinite()
        values = torch.where(missing, self.fill, features)
        values = torch.minimum(torch.maximum(values, self.low), self.high)
        parts = (values[:, self.ranked, None] - self.knots) / self.widths
        ranks = (parts.clamp(0, 1) * self.gains).sum(dim=2)
        # log(1 + x) and not log1p: ONNX has only the former, and the graph must give the same numbers
        values = torch.where(self.is_log, values.sign() * (1 + values.abs()).log(), values)
        values[:, self.ranked] = ranks
        scaled = (values - self.mean) / self.scale
        for sweep in range(self.n_sweeps):
            predicted = torch.minimum(torch.maximum(scaled @ self.weights + self.bias, self.scaled_low), self.scaled_high)
            scaled = torch.where(missing & (self.chained if sweep else self.regressed), predicted, scaled)
        flags = missing[:, self.flagged]
        one_hot = codes[:, self.attribute] == self.category
        extra = (torch.cat([flags, one_hot], dim=1).float() - self.extra_mean) / self.extra_scale
        return torch.cat([scaled, extra], dim=1)[:, self.selected]


def count_sweeps(parameters: PreprocessingParameters) -> int:
    """Return how often the regressions are applied: chained equations use each other's results."""
    return imputation.N_SWEEPS if parameters.chained.any() else int(parameters.regressed.any())


def transform_kinds(parameters: PreprocessingParameters | Preprocessor) -> Tensor:
    """Return 0 for each feature (n_features,) that is not transformed, 1 for a logarithm, 2 for ranks."""
    kinds = torch.as_tensor(parameters.is_log).long()
    kinds[torch.as_tensor(parameters.ranked)] = 2
    return kinds


def category_slices(parameters: PreprocessingParameters) -> list[slice]:
    """Return the inputs that are categories of the same attribute, a slice for each attribute."""
    first_category = len(parameters.fill) + len(parameters.flagged)  # before the selection
    attributes = np.array(
        [parameters.attribute[column - first_category] if column >= first_category else -1 for column in parameters.selected]
    )
    inputs = (np.flatnonzero(attributes == attribute) for attribute in np.unique(attributes) if attribute >= 0)
    return [slice(int(columns[0]), int(columns[-1]) + 1) for columns in inputs]


def most_frequent_categories(texts: pa.Array, n: int) -> list[str]:
    """Return the n most frequent texts; equally frequent ones are in alphabetical order."""
    counts = pc.value_counts(texts.filter(pc.and_(pc.is_valid(texts), pc.not_equal(texts, ""))))
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    return [text for text, _ in sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:n]]


def encode_categories(texts: Sequence[pa.Array], categories: Sequence[list[str]], n_customers: int) -> np.ndarray:
    """Return codes (n_customers, n_attributes) int64 of the texts of each attribute.

    A code is the index among the attribute's categories, their number for any other text, MISSING for null or empty.
    """
    codes = np.empty((n_customers, len(categories)), dtype=np.int64)
    for column, (values, names) in enumerate(zip(texts, categories, strict=True)):
        places = pc.fill_null(pc.index_in(values, value_set=pa.array(names, pa.string())), len(names))
        is_missing = pc.fill_null(pc.equal(values, ""), True)
        codes[:, column] = pc.if_else(is_missing, pa.scalar(MISSING, pa.int32()), places).to_numpy(zero_copy_only=False)
    return codes


def fit_preprocessing(
    features: np.ndarray,
    codes: np.ndarray,
    feature_names: Sequence[str],
    columns: Sequence[Column],
    categories: dict[str, list[str]],
    selection: Selection,
    seed: int,
) -> FittedPreprocessing:
    """Fit on training customers, `features` (n_customers, n_features), NaN = missing, and `codes` (n_customers, n_attributes).

    `columns` are the policy's treatment of each feature, `categories` those of each attribute.
    """
    flagged = np.flatnonzero([column.missing == "null" for column in columns])
    pairs = [(index, code) for index, names in enumerate(categories.values()) for code in range(len(names) + 1)]
    attribute, category = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    column_names = [*feature_names, *(f"{feature_names[j]} missing" for j in flagged)]
    column_names += [f"{name} = {text}" for name, texts in categories.items() for text in [*texts, OTHER]]
    arrays, scaling_methods = _fit_features(features, columns)
    arrays |= _fit_extra(features, codes, flagged, attribute, category)
    arrays = {name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in arrays.items()}
    parameters, imputations = _fit_regressions(PreprocessingParameters(**arrays), features, codes, columns, seed)
    inputs = preprocess_customers(Preprocessor(parameters), features, codes)
    selected, left_out = _select_columns(inputs.numpy(), column_names, selection)
    n_features = len(feature_names)
    kinds = np.append(transform_kinds(parameters), np.full(len(column_names) - n_features, 3))
    selected = selected[np.argsort(kinds[selected], stable=True)]  # grouped by transform, so the graph need not reorder them
    extra = inputs[:, n_features:]
    imputed_inputs = [
        torch.cat([torch.from_numpy(scaled.astype(np.float32)), extra], dim=1)[:, selected] for scaled in imputations
    ]
    names = [column_names[j] for j in selected]
    parameters = replace(parameters, selected=selected)
    return FittedPreprocessing(parameters, names, scaling_methods, left_out, inputs[:, selected], imputed_inputs)


def preprocess_customers(
    preprocessor: Preprocessor,
    features: np.ndarray,
    codes: np.ndarray,
    rows: np.ndarray | None = None,
    allocate: Allocate = torch.empty,
) -> Tensor:
    """Return the inputs (n_rows, n_inputs) of all customers or of `rows` (n_rows,), in an array of `allocate`.

    They are computed chunk by chunk, so that the intermediate arrays need little memory.
    """
    rows = np.arange(len(features)) if rows is None else rows
    inputs = allocate(len(rows), len(preprocessor.selected))
    with torch.no_grad():
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[start : start + CHUNK_ROWS]
            inputs[start : start + len(chunk)] = preprocessor(torch.from_numpy(features[chunk]), torch.from_numpy(codes[chunk]))
    return inputs


def _fit_features(features: np.ndarray, columns: Sequence[Column]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the parameters of each feature without the others', and the scaling methods."""
    limits = [_winsorising_limits(_observed_values(features[:, j]), column) for j, column in enumerate(columns)]
    low, high = np.array(limits).T
    methods = np.array([column.scaling for column in columns])
    is_auto = (methods == "auto") & (high > low)
    is_common = is_auto & scaling.share_a_unit(low[is_auto], high[is_auto])
    fill, scalings = np.empty(len(columns)), []
    for j, column in enumerate(columns):
        fill[j], values = _fill_and_winsorise(features[:, j], column, *limits[j])
        scalings.append(scaling.fit_scaling(values, *limits[j], "common" if is_common[j] else column.scaling))
    if is_common.any():
        common_scale = np.sqrt(np.mean([fitted.scale**2 for fitted in scalings if fitted.method == "common"]))
        scalings = [replace(fitted, scale=common_scale) if fitted.method == "common" else fitted for fitted in scalings]
    scaled_limits = np.array([fitted.scale_values(np.array(pair)) for fitted, pair in zip(scalings, limits, strict=True)])
    return {
        "fill": fill,
        "low": low,
        "high": high,
        "is_log": np.array([fitted.method == "log1p" for fitted in scalings]),
        "mean": np.array([fitted.mean for fitted in scalings]),
        "scale": np.array([fitted.scale for fitted in scalings]),
        "scaled_low": scaled_limits[:, 0],
        "scaled_high": scaled_limits[:, 1],
        **_rank_parameters(scalings),
    }, [fitted.method for fitted in scalings]


def _rank_parameters(scalings: list[scaling.Scaling]) -> dict[str, np.ndarray]:
    """Return the knots of the features scaled by quantile as parts, with the rank gained on each."""
    ranked = np.flatnonzero([fitted.method == "quantile" for fitted in scalings])
    n_parts = max((len(scalings[j].knots) - 1 for j in ranked), default=0)
    knots, widths, gains = (np.full((len(ranked), n_parts), default) for default in (0.0, 1.0, 0.0))
    for row, j in enumerate(ranked):
        parts = slice(len(scalings[j].knots) - 1)
        knots[row, parts] = scalings[j].knots[:-1]
        widths[row, parts], gains[row, parts] = np.diff(scalings[j].knots), np.diff(scalings[j].ranks)
    return {"ranked": ranked, "knots": knots, "widths": widths, "gains": gains}


def _observed_values(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)].astype(np.float64)


def _fill_and_winsorise(values: np.ndarray, column: Column, low: float, high: float) -> tuple[float, np.ndarray]:
    """Return the value that replaces a missing one, and the winsorised values of all customers, in any order.

    Where a regression imputes, they are only those of customers who have the feature.
    """
    observed = _observed_values(values)
    winsorised = np.clip(observed, low, high)
    fill = _fill_value(observed, winsorised, column)
    if column.missing in ("model", "multiple") and len(observed):
        return fill, winsorised
    return fill, np.append(winsorised, np.full(len(values) - len(observed), np.clip(fill, low, high)))


def _winsorising_limits(observed: np.ndarray, column: Column) -> tuple[float, float]:
    if not len(observed):
        return 0.0, 0.0
    smallest, largest = observed.min(), observed.max()
    if column.outliers == "quantile":
        return tuple(np.quantile(observed, column.shares))
    first_quartile, third_quartile = np.quantile(observed, [0.25, 0.75])
    if column.outliers == "none" or first_quartile == third_quartile:
        return smallest, largest
    whisker = column.factor * (third_quartile - first_quartile)
    return max(first_quartile - whisker, smallest), min(third_quartile + whisker, largest)


def _fill_value(observed: np.ndarray, winsorised: np.ndarray, column: Column) -> float:
    if column.missing in ("zero", "constant"):
        return column.value if column.missing == "constant" else 0.0
    if not len(observed):
        return 0.0
    return winsorised.mean() if column.missing == "mean" else np.median(observed)


def _fit_extra(
    features: np.ndarray, codes: np.ndarray, flagged: np.ndarray, attribute: np.ndarray, category: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the parameters of the 0/1 columns, and those of the regressions and the selection before these are fitted.

    A flag has the variance of a feature, and so have all categories of an attribute together.
    """
    n_features = features.shape[1]
    flag_shares = (~np.isfinite(features[:, flagged])).mean(axis=0)
    shares = np.concatenate([flag_shares, (codes[:, attribute] == category).mean(axis=0)])
    variances = shares * (1 - shares)
    groups = np.concatenate([np.arange(len(flagged)), len(flagged) + attribute])
    group_variances = np.bincount(groups, variances)[groups] if len(groups) else np.empty(0)
    return {
        "flagged": flagged,
        "attribute": attribute,
        "category": category,
        "extra_mean": shares,
        "extra_scale": np.where(group_variances > 0, np.sqrt(group_variances), 1.0),
        "regressed": np.zeros(n_features, dtype=bool),
        "chained": np.zeros(n_features, dtype=bool),
        "weights": np.zeros((n_features, n_features)),
        "bias": np.zeros(n_features),
        "selected": np.arange(n_features + len(groups)),
    }


def _fit_regressions(
    parameters: PreprocessingParameters, features: np.ndarray, codes: np.ndarray, columns: Sequence[Column], seed: int
) -> tuple[PreprocessingParameters, list[np.ndarray]]:
    """Return the parameters with regressions where the policy asks for them, and the imputations (n_customers, n_features)."""
    single, chained = (np.array([column.missing == method for column in columns]) for method in ("model", "multiple"))
    if not (single | chained).any():
        return parameters, []
    scaled = preprocess_customers(Preprocessor(parameters), features, codes)[:, : len(columns)].numpy()
    limits = (parameters.scaled_low, parameters.scaled_high)
    regressions = imputation.fit_regressions(scaled, ~np.isfinite(features), limits, single, chained, seed)
    weights, bias = regressions.weights.astype(np.float32), regressions.bias.astype(np.float32)
    parameters = replace(parameters, regressed=single | chained, chained=chained, weights=weights, bias=bias)
    return parameters, regressions.imputations


def _select_columns(inputs: np.ndarray, names: list[str], selection: Selection) -> tuple[np.ndarray, list[dict]]:
    """Return the columns that are neither near-constant nor a duplicate of an earlier one, and why the others are left out.

    `inputs` (n_customers, n_columns) and `names` are those before the selection. The median of a column is its most frequent
    value if at least half of its values are equal.
    """
    shares = (inputs == np.median(inputs, axis=0)).mean(axis=0)
    standard_deviation = inputs.std(axis=0, dtype=np.float64)
    is_flat = standard_deviation <= 1e-6 * np.abs(inputs.mean(axis=0, dtype=np.float64))
    is_constant = (shares >= selection.constant_share) | is_flat
    left_out = [{"name": names[j], "reason": "constant", "share": float(shares[j])} for j in np.flatnonzero(is_constant)]
    varying = np.flatnonzero(~is_constant)
    standardised = (inputs[:, varying] - inputs[:, varying].mean(axis=0, dtype=np.float64)) / standard_deviation[varying]
    correlations = standardised.T @ standardised / len(inputs)
    selected: list[int] = []
    for index, column in enumerate(varying):
        duplicates = [k for k in selected if abs(correlations[index, k]) > selection.duplicate_correlation]
        if not duplicates:
            selected.append(index)
            continue
        r = float(correlations[index, duplicates[0]])
        left_out.append({"name": names[column], "reason": "duplicate", "of": names[varying[duplicates[0]]], "r": r})
    return varying[selected], left_out
