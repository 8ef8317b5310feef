"""`python -m benchmarks.encoding`: encoding customers as `shoal encode` does, compared with three alternatives.

The alternatives are onnxruntime in one thread, and in Spark a pandas_udf with torch and a Python UDF with torch row by row, on
fewer rows. Each encodes customers like the others, which are cached or lie in buckets; reading and writing Delta is not measured.
`shoal encode` also computes the isolation score. The alternatives with torch give only vectors and errors, so they are compared
with Shoal giving the same. For these alternatives the packages of .venv/train are appended to the path of this environment.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks import measure
from jobs.encoded import customers as encoded
from jobs.encoder import OnnxEncoder, features_table, load_encoder
from jobs.engine.local import LocalRunner
from jobs.engine.runner import count_buckets
from jobs.engine.session import open_session
from jobs.engine.tasks import KEEP
from jobs.storage import models
from jobs.storage.commits import replace_rows
from jobs.storage.rows import Rows
from jobs.storage.vectors import to_lists

FEATURES = 96
MIN_RATIO_TO_PANDAS_UDF, MIN_RATIO_TO_ROW_UDF, MAX_RATIO_OF_ONNXRUNTIME = 4.0, 20.0, 2.0
DAY = date(2026, 3, 31)
ROUNDS = 3
SHOAL = "Shoal, a process per core"
SHOAL_WITHOUT_ISOLATION = "the same, no isolation score"
PANDAS_UDF, ROW_UDF, ONNXRUNTIME = "pandas_udf with torch", "row by row", "onnxruntime alone"
# Runs in the training environment: train a model of this benchmark's size.
TRAIN_MODEL = """
import sys
import onnx.utils
from benchmarks import training
from jobs.autoencoder.pipeline import run
from jobs.config.settings import Settings, Train
lake, root = sys.argv[1:]
training.write(lake, 2_000)
settings = Settings(lake=lake, models=root, reports="", source="", input="", train=Train(hidden=(128, 64), latent=16, epochs=1))
version = run(settings, training.DAY, retrain=True)
graph = f"{root}/autoencoder/{version}/encoder.onnx"
onnx.utils.extract_model(graph, f"{root}/without_isolation.onnx", ["features"], ["vector", "reconstruction_error"])
print(version)
"""


def main(arguments: list[str] | None = None) -> int:
    """Print the figures and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoding", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--row-wise", type=int, default=20_000, help="rows for the UDF that encodes row by row")
    options = parser.parse_args(arguments)
    train = measure.ROOT / ".venv" / "train"
    if not (train / "bin" / "python").exists():
        print(f"encoding: {train} is missing; run: make environments", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        command = [train / "bin" / "python", "-c", TRAIN_MODEL, f"{folder}/lake", f"{folder}/models"]
        training = subprocess.run(command, cwd=measure.ROOT, stdout=subprocess.PIPE, text=True, check=True)
        version = training.stdout.split()[-1]
        spark = open_session("benchmark of encoding")
        try:
            _compare(spark, folder, version, next((train / "lib").glob("python*/site-packages")), options)
        finally:
            spark.stop()
    return 0


class _EncoderWithoutIsolation(OnnxEncoder):
    """An encoder with the outputs of the alternatives, from a graph that computes only these."""

    def run(self, matrix: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        vectors, errors = super().run(matrix, attributes)
        return vectors, errors, np.zeros_like(errors)


def _compare(spark: SparkSession, folder: str, version: str, packages: Path, options: argparse.Namespace) -> None:
    root = f"{folder}/models"
    rows, few_rows = _cache_customers(spark, options)
    encoder = load_encoder(root, version, ["vector", "reconstruction_error", "isolation_score"])
    graph = Path(root, "without_isolation.onnx").read_bytes()
    encoder_without_isolation = _EncoderWithoutIsolation(graph, ["vector", "reconstruction_error"])
    matrix = np.random.default_rng(1).uniform(0, 100, (options.rows, FEATURES)).astype(np.float32)
    no_attributes = np.empty((options.rows, 0), dtype=object)
    weights, meta = models.read(root, version, "weights.safetensors"), models.meta(root, version)
    seconds = {
        **_time_shoal(
            f"{folder}/customers", matrix, {SHOAL: encoder, SHOAL_WITHOUT_ISOLATION: encoder_without_isolation}, version
        ),
        PANDAS_UDF: _least_seconds(lambda: _compute(_encode_by_pandas_udf(rows, weights, meta, str(packages)))),
        ROW_UDF: _least_seconds(lambda: _compute(_encode_by_row_udf(few_rows, weights, meta, str(packages)))),
        ONNXRUNTIME: _least_seconds(lambda: encoder.run(matrix, no_attributes)),
    }
    speed = {name: (options.row_wise if name == ROW_UDF else options.rows) / value for name, value in seconds.items()}
    for name, rows_per_second in speed.items():
        print(f"{name:<30}{rows_per_second / 1e6:8.3f} million customers a second")
    shoal = speed[SHOAL_WITHOUT_ISOLATION]
    measure.check_at_least(
        "encoding: Shoal / pandas_udf with torch, same outputs", shoal / speed[PANDAS_UDF], MIN_RATIO_TO_PANDAS_UDF
    )
    measure.check_at_least("encoding: Shoal / row by row, same outputs", shoal / speed[ROW_UDF], MIN_RATIO_TO_ROW_UDF)
    measure.check_at_most("encoding: onnxruntime alone / Shoal", speed[ONNXRUNTIME] / speed[SHOAL], MAX_RATIO_OF_ONNXRUNTIME)


def _time_shoal(root: str, matrix: np.ndarray, encoders: dict[str, OnnxEncoder], version: str) -> dict[str, float]:
    """Return the seconds that encoding takes by the local runner, whose workers keep what they encode."""
    n = len(matrix)
    ids, is_active = pa.array(np.arange(n)).cast(pa.string()), pa.repeat(True, n)
    days = pa.repeat(pa.scalar(DAY, pa.date32()), n)
    customers = pa.table({"customer_id": ids, "day": days, "is_active": is_active, "vector": to_lists(matrix)})
    replace_rows(root, features_table(), customers)
    runner = LocalRunner(root)
    try:
        buckets = runner.read({"customers": Rows(features_table(), "customer_id", days=[DAY])}, count_buckets(n))
        kernels = {
            name: partial(encoded.encode_customers, encoder=encoder, version=version) for name, encoder in encoders.items()
        }
        return {name: _least_seconds(partial(runner.run, kernel, buckets, {"encoded": KEEP})) for name, kernel in kernels.items()}
    finally:
        runner.close()


def _cache_customers(spark: SparkSession, options: argparse.Namespace) -> tuple[DataFrame, DataFrame]:
    """Return cached customers, all of them and few for the UDF that encodes row by row."""
    n_partitions = spark.sparkContext.defaultParallelism
    vector = F.array(*((100 * F.rand(seed)).cast("float") for seed in range(FEATURES)))
    rows = spark.range(options.rows, numPartitions=n_partitions).select(
        F.col("id").cast("string").alias("customer_id"),
        F.expr("DATE'2026-03-31' AS day"),
        F.lit(True).alias("is_active"),
        vector.alias("vector"),
    )
    rows = rows.cache()
    few_rows = rows.limit(options.row_wise).repartition(n_partitions).cache()
    rows.count(), few_rows.count()
    return rows, few_rows


def _load_network(weights: bytes, meta: dict, packages: str):
    """Return the model in torch, in a worker."""
    if packages not in sys.path:
        sys.path.append(packages)
    import safetensors.torch
    import torch

    from jobs.autoencoder.model import Autoencoder, Sizes
    from jobs.autoencoder.preprocessing import PreprocessingParameters

    torch.set_num_threads(1)
    tensors = safetensors.torch.load(weights)
    names = PreprocessingParameters.__annotations__
    parameters = PreprocessingParameters(**{name: tensors[f"preprocess.{name}"].numpy() for name in names})
    sizes = meta["sizes"]
    model = Autoencoder(Sizes(**sizes | {"hidden": tuple(sizes["hidden"])}), parameters)
    model.load_state_dict(tensors)
    return model.eval()


def _encode_by_pandas_udf(rows: DataFrame, weights: bytes, meta: dict, packages: str) -> DataFrame:
    networks = []  # one per worker process

    @F.pandas_udf("vector ARRAY<FLOAT>, error FLOAT")
    def encode(vectors: pd.Series) -> pd.DataFrame:
        if not networks:
            networks.append(_load_network(weights, meta, packages))
        import torch

        features = torch.from_numpy(np.stack(vectors).astype(np.float32))
        with torch.no_grad():
            latent, errors = networks[0](features, torch.empty(len(vectors), 0, dtype=torch.int64))
        return pd.DataFrame({"vector": list(latent.numpy()), "error": errors.numpy()})

    return rows.select("customer_id", "day", encode("vector").alias("encoded"))


def _encode_by_row_udf(rows: DataFrame, weights: bytes, meta: dict, packages: str) -> DataFrame:
    networks = []  # one per worker process

    @F.udf("STRUCT<vector: ARRAY<FLOAT>, error: FLOAT>")
    def encode(vector):
        if not networks:
            networks.append(_load_network(weights, meta, packages))
        import torch

        with torch.no_grad():
            latent, errors = networks[0](torch.tensor([vector], dtype=torch.float32), torch.empty(1, 0, dtype=torch.int64))
        return latent[0].tolist(), float(errors)

    return rows.select("customer_id", "day", encode("vector").alias("encoded"))


def _compute(frame: DataFrame) -> None:
    """Compute all rows and discard them."""
    frame.write.format("noop").mode("overwrite").save()


def _least_seconds(function: Callable[[], object]) -> float:
    """Return the seconds of the fastest of ROUNDS calls."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    sys.exit(main())
