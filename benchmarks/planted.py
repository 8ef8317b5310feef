"""`python -m benchmarks.planted`: how well K-Means recovers the planted types of the sample shop from vectors and from features.

It makes the shop, refreshes it up to the vectors, and prints the adjusted Rand index of K-Means with as many clusters as types:
on the encoded vectors, on the scaled features that the network sees, and on their principal components. With `--lake`,
`--models` and `--input` it uses a shop that was refreshed before.
"""

import argparse
import csv
import math
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.ml.clustering import KMeans
from pyspark.ml.functions import array_to_vector
from pyspark.sql import SparkSession
from sklearn.metrics import adjusted_rand_score

from benchmarks import measure
from jobs.engine.fitted_models import fitted_model
from jobs.engine.session import open_session
from jobs.sample import writer
from jobs.storage import models
from jobs.storage.delta import read_arrow

CUSTOMERS, DAYS, SEED = 100_000, 120, 11
LAST_DAY = date(2026, 3, 31)
MIN_GAIN = 0.1  # of the vectors over the scaled features, in adjusted Rand index
KMEANS_RESTARTS = 5
PCA_CUSTOMERS = 20_000  # the principal axes are those of the first customers
STEPS = "land,clean,features,train,encode"


def main(arguments: list[str] | None = None) -> int:
    """Print the three figures and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted", description=__doc__.split("\n\n")[0])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    for root in ("lake", "models", "input"):
        parser.add_argument(f"--{root}", help=f"{root} of a shop that was refreshed before")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        roots = {name: getattr(options, name) or f"{folder}/{name}" for name in ("lake", "models", "input")}
        if not options.lake:
            writer.write_shop(Path(roots["input"]), options.customers, DAYS, SEED, LAST_DAY)
            environment = {f"SHOAL_{name.upper()}": root for name, root in roots.items()}
            environment |= {"SHOAL_SOURCE": "sample", "SHOAL_SECRET": "a made-up shop has none", "SHOAL_REPORTS": folder}
            command = measure.python_command("-m", "jobs", "refresh", "--steps", STEPS, "--day", str(LAST_DAY))
            if subprocess.run(command, cwd=measure.ROOT, env={**os.environ, **environment}, check=False).returncode:
                return 1
        _compare_representations(**roots)
    return 0


def _compare_representations(lake: str, models: str, input: str) -> None:
    day = writer.read_last_day(Path(input))
    inputs, vectors, ids = _encode_customers(lake, models, day)
    with (Path(input) / "truth/customers.csv").open(newline="") as file:
        types = {row["customer_id"]: row["type"] for row in csv.DictReader(file)}
    has_type = np.array([id_ in types for id_ in ids])
    type_names, labels = np.unique([types[id_] for id_ in ids if id_ in types], return_inverse=True)
    print(f"{len(ids)} active customers, {has_type.sum()} of {len(type_names)} types")
    centred = inputs - inputs.mean(axis=0)
    axes = np.linalg.svd(centred[:PCA_CUSTOMERS], full_matrices=False)[2][: vectors.shape[1]]
    representations = {"vectors": vectors, "PCA": centred @ axes.T, "raw features": inputs}
    rand_indices = {}
    spark = open_session("benchmark of planted types")
    try:
        for name, points in representations.items():
            clusters = _assign_clusters(spark, points, len(type_names))
            rand_indices[name] = adjusted_rand_score(labels, clusters[has_type])
            print(f"K-Means on {name:<22}adjusted Rand index {rand_indices[name]:.3f}")
    finally:
        spark.stop()
    gain = rand_indices["vectors"] - rand_indices["raw features"]
    measure.check_at_least("planted: vectors less raw features", gain, MIN_GAIN)


def _encode_customers(lake: str, models_root: str, day: date) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return inputs (n_customers, n_inputs), vectors (n_customers, n_latent) and ids of the active customers of the day."""
    version = models.champion(models_root, day)["version"]
    attributes = list(models.meta(models_root, version)["attributes"])
    rows = read_arrow(lake, "features.customers", ["customer_id", "is_active", "vector", *attributes], day)
    rows = rows.filter(pc.field("is_active")).combine_chunks()
    features = rows["vector"].combine_chunks().cast(pa.list_(pa.float32())).flatten().to_numpy(zero_copy_only=False)
    graph_inputs = {"features": features.reshape(rows.num_rows, -1)}
    if attributes:
        texts = [rows[name].fill_null("").to_numpy() for name in attributes]
        graph_inputs["attributes"] = np.stack(texts, axis=1).astype(object)
    session = onnxruntime.InferenceSession(models.read(models_root, version, "encoder.onnx"))
    inputs, vectors = session.run(["inputs", "vector"], graph_inputs)
    return inputs, vectors, rows["customer_id"].to_pylist()


def _assign_clusters(spark: SparkSession, points: np.ndarray, k: int) -> np.ndarray:
    """Return the cluster of each point (n, d) by the best of KMEANS_RESTARTS runs of MLlib."""
    columns = pa.table({"row": np.arange(len(points)), "point": list(points.astype(np.float64))})
    rows = spark.createDataFrame(columns).select("row", array_to_vector("point").alias("features")).cache()
    lowest_inertia, clusters = math.inf, np.empty(0)
    for seed in range(KMEANS_RESTARTS):
        with fitted_model(KMeans(k=k, seed=seed, maxIter=100), rows) as model:
            if (inertia := model.summary.trainingCost) < lowest_inertia:
                predicted = model.transform(rows).orderBy("row").select("prediction").collect()
                lowest_inertia, clusters = inertia, np.array([row.prediction for row in predicted])
    return clusters


if __name__ == "__main__":
    sys.exit(main())
