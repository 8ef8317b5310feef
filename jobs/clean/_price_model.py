"""Prices predicted out of known ones: a ridge regression of their logarithm on what the products have in common."""

import numpy as np
import polars as pl
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, lsqr

_PENALTY = 0.01


def predict_prices(predictors: pl.DataFrame, is_known: pl.Series, prices: pl.Series) -> pl.Series:
    """Return a price for every row of `predictors`, text columns; `prices` are those of the known rows.

    Every value that a known row has is a feature; a row with a value that none of them has lacks that feature.
    """
    has_price = is_known.to_numpy()
    columns = [_encode_one_hot(predictors[name], is_known) for name in predictors.columns]
    logs = _predict_by_ridge(sparse.hstack(columns).tocsr(), np.log(prices.to_numpy()), has_price)
    return pl.Series(np.exp(logs))


def _encode_one_hot(values: pl.Series, is_known: pl.Series) -> sparse.csr_matrix:
    """Return a column for each value that a known row has, with 1 in the rows that have it."""
    names = values.filter(is_known).unique().sort()
    rows = values.is_in(names.implode()).arg_true()
    codes = names.search_sorted(values.gather(rows))
    return sparse.csr_matrix((np.ones(len(rows)), (rows.to_numpy(), codes.to_numpy())), (len(values), len(names)))


def _predict_by_ridge(features: sparse.csr_matrix, labels: np.ndarray, has_label: np.ndarray) -> np.ndarray:
    """Return the labels of all rows, predicted out of `labels`, those of the known rows.

    The penalty is on features and labels of standard deviation 1; the intercept is free of it.
    """
    mean, deviation = labels.mean(), labels.std()
    if deviation == 0:
        return np.full(features.shape[0], mean)
    share = np.asarray(features[has_label].mean(axis=0)).ravel()
    scatter = np.sqrt(share * (1 - share))
    scale = np.divide(1, scatter, out=np.zeros_like(scatter), where=scatter > 0)
    standard = _center(features[has_label] @ sparse.diags(scale), share * scale)
    damp = np.sqrt(_PENALTY / deviation * len(labels))
    slope = scale * lsqr(standard, (labels - mean) / deviation, damp=damp, atol=1e-12, btol=1e-12, iter_lim=10_000)[0]
    return mean + deviation * (features @ slope - share @ slope)


def _center(features: sparse.csr_matrix, mean: np.ndarray) -> LinearOperator:
    """Return the features less their mean, without a dense matrix."""
    return LinearOperator(
        features.shape,
        matvec=lambda weights: features @ weights - mean @ weights,
        rmatvec=lambda rows: features.T @ rows - mean * rows.sum(),
    )
