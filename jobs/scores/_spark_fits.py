"""Classifiers fitted by MLlib, and read into arrays."""

import uuid

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs
from pyspark.ml import Estimator, Model
from pyspark.ml.classification import GBTClassifier, LinearSVC, LogisticRegression, RandomForestClassifier
from pyspark.ml.functions import array_to_vector
from pyspark.sql import SparkSession

from jobs.engine.fitted_models import fitted_model
from jobs.scores._classifiers import Classifier, Forest, Linear
from jobs.storage.files import open_filesystem

# Sums of two addends do not depend on their order, sums of three do: a fit is the same whichever of two tasks ends first. A fit
# runs hundreds of jobs, and a second task for few rows only makes each longer.
_PARTITIONS = 2
_ROWS_OF_ONE_PARTITION = 20_000
_MAX_ITERATIONS = {"logistic_regression": 50, "linear_svm": 20}
_PENALTY = 0.01  # of the squared weights, so that correlated inputs do not grow without bound
_FOREST_TREES, _FOREST_DEPTH = 40, 6
_BOOSTED_TREES, _BOOSTED_DEPTH, _STEP = 20, 4, 0.2
_MIN_LEAF = 10  # customers
_SCRATCH = "_fitted_trees"  # a folder of the lake: Spark's workers and this process both reach it


def make_estimators(seed: int) -> dict[str, Estimator]:
    """Return the estimators by contestant."""
    trees = {"seed": seed, "minInstancesPerNode": _MIN_LEAF, "maxMemoryInMB": 1024}
    return {
        "logistic_regression": LogisticRegression(regParam=_PENALTY, maxIter=_MAX_ITERATIONS["logistic_regression"]),
        "linear_svm": LinearSVC(regParam=_PENALTY, maxIter=_MAX_ITERATIONS["linear_svm"]),
        "random_forest": RandomForestClassifier(numTrees=_FOREST_TREES, maxDepth=_FOREST_DEPTH, **trees),
        "boosted_trees": GBTClassifier(maxIter=_BOOSTED_TREES, maxDepth=_BOOSTED_DEPTH, stepSize=_STEP, **trees),
    }


def fit_classifiers(
    spark: SparkSession, lake: str, names: list[str], matrix: np.ndarray, labels: np.ndarray, seed: int
) -> dict[str, Classifier]:
    """Return the classifiers of these names, fitted on n customers: matrix (n x d float32) and labels (n, 0 or 1)."""
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1]).cast(pa.list_(pa.float32()))
    rows = pa.table({"row": np.arange(len(labels)), "features": vectors, "label": labels.astype(float)})
    n_partitions = 1 if len(labels) <= _ROWS_OF_ONE_PARTITION else _PARTITIONS
    frame = spark.createDataFrame(rows).repartition(n_partitions, "row").sortWithinPartitions("row")
    frame = frame.select(array_to_vector("features").alias("features"), "label").persist()
    estimators, centre = make_estimators(seed), matrix.mean(axis=0, dtype=np.float64)
    try:
        fitted = {}
        for name in names:
            with fitted_model(estimators[name], frame) as model:
                is_linear = name in ("logistic_regression", "linear_svm")
                fitted[name] = _read_linear(model, centre) if is_linear else _read_trees(model, lake, name)
        return fitted
    finally:
        frame.unpersist()


def _read_linear(model: Model, centre: np.ndarray) -> Linear:
    return Linear(np.array(model.coefficients.toArray()), centre)


def _read_trees(model: Model, lake: str, name: str) -> Forest:
    """Return the trees of a model out of what it saves, which is the same on a server, in a cluster and in this process."""
    folder = f"{lake}/{_SCRATCH}/{uuid.uuid4().hex}"
    filesystem, base = open_filesystem(folder)
    try:
        model.write().overwrite().save(folder)
        nodes = _read_rows(f"{base}/data", filesystem).unnest("nodeData").sort("treeID", "id")
        trees = _read_rows(f"{base}/treesMetadata", filesystem).sort("_1")
    finally:
        if filesystem.get_file_info(base).type == fs.FileType.Directory:
            filesystem.delete_dir(base)
    weights = np.array(trees["_3"]) if name == "boosted_trees" else np.full(len(trees), 1 / len(trees))
    value = (
        pl.col("prediction")
        if name == "boosted_trees"
        else pl.col("impurityStats").list.get(1) / pl.col("impurityStats").list.sum()
    )
    return _number_nodes(nodes.with_columns(value=value), weights)


def _read_rows(path: str, filesystem: fs.FileSystem) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(ds.dataset(path, filesystem=filesystem, format="parquet").to_table()))


def _number_nodes(nodes: pl.DataFrame, weights: np.ndarray) -> Forest:
    """Return the trees, the nodes of each of which are numbered from 0, with one numbering; a leaf has no split."""
    tree = nodes["treeID"].to_numpy()
    first = np.searchsorted(tree, np.arange(len(weights)))
    own = np.arange(len(nodes))
    split = nodes["split"].struct
    is_leaf = nodes["leftChild"].to_numpy() < 0
    thresholds = split.field("leftCategoriesOrThreshold").list.get(0, null_on_oob=True).fill_null(0).to_numpy()

    def child(column: str) -> np.ndarray:
        return np.where(is_leaf, own, nodes[column].to_numpy() + first[tree])

    return Forest(
        first,
        np.where(is_leaf, 0, split.field("featureIndex").to_numpy()),
        thresholds,
        child("leftChild"),
        child("rightChild"),
        nodes["value"].to_numpy() * weights[tree],
        max(_FOREST_DEPTH, _BOOSTED_DEPTH),
    )
