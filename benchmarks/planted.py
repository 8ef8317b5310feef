"""`python -m benchmarks.planted`: how well K-Means finds the planted types of the sample shop, by vectors and by features.

Makes the shop, refreshes it up to the vectors, and prints the adjusted Rand index of K-Means with as many clusters as there are
types: on the encoded vectors, on the scaled features that the network sees, and on their principal components. `--lake`,
`--models` and `--input` name a shop that was refreshed before.
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
LAST = date(2026, 3, 31)
GAIN = 0.1  # of the vectors over the scaled features
STARTS = 5
STEPS = "land,clean,features,train,encode"


def main(arguments: list[str] | None = None) -> int:
    """Print the three figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted", description=__doc__.split("\n\n")[0])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    for root in ("lake", "models", "input"):
        parser.add_argument(f"--{root}", help=f"{root} of a shop that is there")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        roots = {name: getattr(given, name) or f"{folder}/{name}" for name in ("lake", "models", "input")}
        if not given.lake:
            writer.write_shop(Path(roots["input"]), given.customers, DAYS, SEED, LAST)
            environment = {f"SHOAL_{name.upper()}": root for name, root in roots.items()}
            environment |= {"SHOAL_SOURCE": "sample", "SHOAL_SECRET": "a made-up shop has none", "SHOAL_REPORTS": folder}
            command = measure.python_command("-m", "jobs", "refresh", "--steps", STEPS, "--day", str(LAST))
            if subprocess.run(command, cwd=measure.ROOT, env={**os.environ, **environment}, check=False).returncode:
                return 1
        _compare(**roots)
    return 0


def _compare(lake: str, models: str, input: str) -> None:
    day = writer.read_last_day(Path(input))
    inputs, vectors, ids = _seen(lake, models, day)
    with (Path(input) / "truth/customers.csv").open(newline="") as file:
        planted = {row["customer_id"]: row["type"] for row in csv.DictReader(file)}
    is_planted = np.array([id_ in planted for id_ in ids])
    kinds, truth = np.unique([planted[id_] for id_ in ids if id_ in planted], return_inverse=True)
    print(f"{len(ids)} active customers, {is_planted.sum()} of {len(kinds)} types")
    centred = inputs - inputs.mean(axis=0)
    axes = np.linalg.svd(centred[:20_000], full_matrices=False)[2][: vectors.shape[1]]
    found = {}
    spark = open_session("benchmark of planted types")
    try:
        for name, points in {"vectors": vectors, "principal components": centred @ axes.T, "scaled features": inputs}.items():
            found[name] = adjusted_rand_score(truth, _clustered(spark, points, len(kinds))[is_planted])
            print(f"K-Means on {name:<22}adjusted Rand index {found[name]:.3f}")
    finally:
        spark.stop()
    measure.check_at_least("planted: vectors less scaled features", found["vectors"] - found["scaled features"], GAIN)


def _seen(lake: str, root: str, day: date) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The active customers of the day: what the network sees of them (n x inputs), their vectors, their ids."""
    version = models.champion(root, day)["version"]
    told = models.meta(root, version)
    rows = read_arrow(lake, "features.customers", ["customer_id", "is_active", "vector", *told["attributes"]], day)
    rows = rows.filter(pc.field("is_active")).combine_chunks()
    matrix = rows["vector"].combine_chunks().cast(pa.list_(pa.float32())).flatten().to_numpy(zero_copy_only=False)
    asked = {"features": matrix.reshape(rows.num_rows, -1)}
    if told["attributes"]:
        texts = [rows[name].fill_null("").to_numpy() for name in told["attributes"]]
        asked["attributes"] = np.stack(texts, axis=1).astype(object)
    session = onnxruntime.InferenceSession(models.read(root, version, "encoder.onnx"))
    inputs, vectors = session.run(["inputs", "vector"], asked)
    return inputs, vectors, rows["customer_id"].to_pylist()


def _clustered(spark: SparkSession, points: np.ndarray, k: int) -> np.ndarray:
    """The cluster of each point (n x d) by the best of STARTS runs of MLlib."""
    columns = pa.table({"at": np.arange(len(points)), "point": list(points.astype(np.float64))})
    rows = spark.createDataFrame(columns).select("at", array_to_vector("point").alias("features")).cache()
    lowest, clusters = math.inf, np.empty(0)
    for seed in range(STARTS):
        with fitted_model(KMeans(k=k, seed=seed, maxIter=100), rows) as model:
            if (inertia := model.summary.trainingCost) < lowest:
                predicted = model.transform(rows).orderBy("at").select("prediction").collect()
                lowest, clusters = inertia, np.array([row.prediction for row in predicted])
    return clusters


if __name__ == "__main__":
    sys.exit(main())
