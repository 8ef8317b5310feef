"""`python -m benchmarks.encoding`: encoding customers inside Spark, as `shoal encode` does and in three other ways.

The others: plain onnxruntime outside Spark, a pandas_udf with torch, and a Python UDF row by row with torch, on fewer rows.
Each reads the same cached customers and counts what comes out; reading and writing Delta is not in the figures.
The ways with torch give vectors and errors, so they are compared with ours giving these; what `shoal encode` writes has the
isolation score besides.
It needs torch in this environment's reach: the packages of .venv/train are put behind its own for the two ways with torch.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks import measure
from jobs.encoded import customers as encoded
from jobs.encoder import OnnxEncoder, load_encoder
from jobs.engine.session import open_session
from jobs.storage import models

FEATURES = 96
TORCH_FASTER, ROWS_FASTER, PLAIN = 2.3, 20.0, 8.0
ROUNDS = 3
FULL = "mapInArrow with onnxruntime"
SAME = "the same, no isolation score"
# Runs in the training environment: a model of this benchmark's size, as training leaves it.
MADE = """
import sys
from datetime import date
import onnx.utils
from benchmarks import training
from jobs import autoencoder
from jobs.config.settings import Settings, Train
lake, root = sys.argv[1:]
training.write(lake, 2_000)
settings = Settings(lake=lake, models=root, reports="", source="", input="", train=Train(hidden=(128, 64), latent=16, epochs=1))
version = autoencoder.run(settings, training.DAY, retrain=True)
graph = f"{root}/autoencoder/{version}/encoder.onnx"
onnx.utils.extract_model(graph, f"{root}/same.onnx", ["features"], ["vector", "reconstruction_error"])
print(version)
"""


def main(arguments: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoding", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--row-wise", type=int, default=20_000, help="rows for the way that takes one at a time")
    given = parser.parse_args(arguments)
    train = measure.ROOT / ".venv" / "train"
    if not (train / "bin" / "python").exists():
        print(f"encoding: {train} is missing; run: make environments", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        command = [train / "bin" / "python", "-c", MADE, f"{folder}/lake", f"{folder}/models"]
        made = subprocess.run(command, cwd=measure.ROOT, stdout=subprocess.PIPE, text=True, check=True)
        version = made.stdout.split()[-1]
        spark = open_session("benchmark of encoding")
        try:
            _compare(spark, f"{folder}/models", version, next((train / "lib").glob("python*/site-packages")), given)
        finally:
            spark.stop()
    return 0


class _WithoutIsolation(OnnxEncoder):
    """An encoder that answers what the ways with torch do, from a graph that computes nothing else."""

    def run(self, matrix: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        vectors, errors = super().run(matrix, attributes)
        return vectors, errors, np.zeros_like(errors)


def _compare(spark, root: str, version: str, packages: Path, given: argparse.Namespace) -> None:
    columns = [(100 * F.rand(seed)).cast("float") for seed in range(FEATURES)]
    rows = spark.range(given.rows, numPartitions=spark.sparkContext.defaultParallelism).select(
        F.col("id").cast("string").alias("customer_id"), F.expr("DATE'2026-03-31' AS day"), F.lit(True).alias("is_active"),
        F.array(*columns).alias("vector"),
    ).cache()  # fmt: skip
    few = rows.limit(given.row_wise).repartition(spark.sparkContext.defaultParallelism).cache()
    rows.count(), few.count()
    encoder = load_encoder(root, version, ["vector", "reconstruction_error", "isolation_score"])
    same = _WithoutIsolation(Path(root, "same.onnx").read_bytes(), ["vector", "reconstruction_error"])
    matrix = np.random.default_rng(1).uniform(0, 100, (given.rows, FEATURES)).astype(np.float32)
    no_attributes = np.empty((given.rows, 0), dtype=object)
    weights = models.read(root, version, "weights.safetensors")
    told = models.meta(root, version)
    pace = {
        FULL: given.rows / _best(lambda: _drain(encoded.encode_customers(rows, encoder, version))),
        SAME: given.rows / _best(lambda: _drain(encoded.encode_customers(rows, same, version))),
        "pandas_udf with torch": given.rows / _best(lambda: _drain(_by_pandas(rows, weights, told, str(packages)))),
        "row by row": given.row_wise / _best(lambda: _drain(_by_row(few, weights, told, str(packages)))),
        "onnxruntime alone": given.rows / _best(lambda: encoder.run(matrix, no_attributes)),
    }
    for name, rate in pace.items():
        print(f"{name:<30}{rate / 1e6:8.3f} million customers a second")
    measure.check_at_least(
        "encoding: ours / pandas_udf with torch, same outputs", pace[SAME] / pace["pandas_udf with torch"], TORCH_FASTER
    )
    measure.check_at_least("encoding: ours / row by row, same outputs", pace[SAME] / pace["row by row"], ROWS_FASTER)
    measure.check_at_most("encoding: onnxruntime alone / ours", pace["onnxruntime alone"] / pace[FULL], PLAIN)


def _network(weights: bytes, told: dict, packages: str):
    """The model in torch, in a worker."""
    if packages not in sys.path:
        sys.path.append(packages)
    import safetensors.torch
    import torch

    from jobs.autoencoder.model import Autoencoder, Sizes
    from jobs.autoencoder.preprocessing import Numbers

    torch.set_num_threads(1)
    tensors = safetensors.torch.load(weights)
    numbers = Numbers(**{name: tensors[f"preprocess.{name}"].numpy() for name in Numbers.__annotations__})
    sizes = told["sizes"]
    model = Autoencoder(Sizes(**sizes | {"hidden": tuple(sizes["hidden"])}), numbers)
    model.load_state_dict(tensors)
    return model.eval()


def _by_pandas(rows: DataFrame, weights: bytes, told: dict, packages: str) -> DataFrame:
    kept = []

    @F.pandas_udf("vector ARRAY<FLOAT>, error FLOAT")
    def encode(vectors: pd.Series) -> pd.DataFrame:
        if not kept:
            kept.append(_network(weights, told, packages))
        import torch

        with torch.no_grad():
            found = kept[0](
                torch.from_numpy(np.stack(vectors).astype(np.float32)), torch.empty(len(vectors), 0, dtype=torch.int64)
            )
        return pd.DataFrame({"vector": list(found[0].numpy()), "error": found[1].numpy()})

    return rows.select("customer_id", "day", encode("vector").alias("encoded"))


def _by_row(rows: DataFrame, weights: bytes, told: dict, packages: str) -> DataFrame:
    kept = []

    @F.udf("STRUCT<vector: ARRAY<FLOAT>, error: FLOAT>")
    def encode(vector):
        if not kept:
            kept.append(_network(weights, told, packages))
        import torch

        with torch.no_grad():
            found = kept[0](torch.tensor([vector], dtype=torch.float32), torch.empty(1, 0, dtype=torch.int64))
        return found[0][0].tolist(), float(found[1])

    return rows.select("customer_id", "day", encode("vector").alias("encoded"))


def _drain(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()


def _best(work) -> float:
    """Seconds of the fastest of some rounds."""
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


if __name__ == "__main__":
    sys.exit(main())
