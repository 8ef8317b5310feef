"""Factors of products and customers by alternating least squares on implicit feedback.

Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", 2008, as MLlib fits it. MLlib gives the factors of
the products. Those of a customer follow from what they did since, by one least squares of their own, without Spark.
"""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

RANK = 32
REGULARIZATION = 0.3  # times the number of a customer's or product's interactions
CONFIDENCE = 1.0  # by which a weight raises the confidence in an interaction
ITERATIONS = 10
# Sums of two addends do not depend on their order, sums of three do: a fit is the same whichever of two tasks ends first.
_BLOCKS = 2
_NUMBERS_AT_ONCE = 4_000_000  # of the factors that are gathered for some customers


def fit_factors(spark: "SparkSession", interactions: pa.Table, n_products: int, seed: int) -> np.ndarray:
    """Return the factors (n_products x RANK) of products, out of (customer INT, product INT, weight FLOAT) of all interactions.

    Products without an interaction have zeros.
    """
    from pyspark.ml.recommendation import ALS

    from jobs.engine.fitted_models import fitted_model

    als = ALS(
        rank=RANK, maxIter=ITERATIONS, regParam=REGULARIZATION, alpha=CONFIDENCE, implicitPrefs=True, seed=seed,
        userCol="customer", itemCol="product", ratingCol="weight", numUserBlocks=_BLOCKS, numItemBlocks=_BLOCKS,
    )  # fmt: skip
    ratings = spark.createDataFrame(interactions).repartition(_BLOCKS, "customer").sortWithinPartitions("customer", "product")
    factors = np.zeros((n_products, RANK), np.float32)
    with fitted_model(als, ratings) as model:
        rows = model.itemFactors.toArrow()
    factors[rows["id"].to_numpy()] = np.array(rows["features"].to_pylist(), np.float32).reshape(-1, RANK)
    return factors


def fold_in(factors: np.ndarray, customers: np.ndarray, products: np.ndarray, weights: np.ndarray, n: int) -> np.ndarray:
    """Return the factors (n x rank) of customers 0 to n - 1 that are best for the factors of the products.

    An interaction is a position of `customers`, sorted, `products` and `weights`, which are above 0. Customers without one have
    zeros. They solve (Y'Y + Y'(C - 1)Y + regularization) x = Y'C 1, where Y are the factors of the products and C their
    confidences. Customers with equally many interactions are solved together.
    """
    rank = factors.shape[1]
    y = factors.astype(np.float64)
    gram = y.T @ y
    counts = np.bincount(customers, minlength=n)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    solved = np.zeros((n, rank), np.float32)
    for count in np.unique(counts[counts > 0]):
        members = np.flatnonzero(counts == count)
        for some in np.array_split(members, -(-len(members) * count * rank // _NUMBERS_AT_ONCE)):
            positions = starts[some, None] + np.arange(count)
            own, extra = y[products[positions]], CONFIDENCE * weights[positions].astype(np.float64)[:, :, None]
            left = gram + (own * extra).transpose(0, 2, 1) @ own + REGULARIZATION * count * np.eye(rank)
            right = (own * (1 + extra)).sum(axis=1)
            solved[some] = np.linalg.solve(left, right[:, :, None])[:, :, 0]
    return solved
