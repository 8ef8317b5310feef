"""`python -m benchmarks.segments`: choosing the number of segments, the fit that is published against scikit-learn's best, and a
day of history against one MERGE.

The MERGE is given the rows that changed, already found and in memory; ours finds them.
"""

import argparse
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin_min

from benchmarks import measure
from jobs.config.settings import Segment
from jobs.engine.session import open_session
from jobs.segments import _sweep, definitions, history
from jobs.storage.lake import Lake

CUSTOMERS, SAMPLE, LATENT, TYPES, CLUSTERS = 1_000_000, 100_000, 16, 12, 8
RESTARTS = 10
DAY = date(2026, 3, 31)
SWEEP_SECONDS, FIT_SECONDS, WORSE, SLOWER = 120.0, 20.0, 1.001, 1.3


def main(arguments: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.segments", description=__doc__.split("\n\n")[0])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    given = parser.parse_args(arguments)
    vectors = _made(given.customers)
    started = time.perf_counter()
    curve = [one.row for one in _sweep.every(vectors[:SAMPLE], DAY, Segment(k_min=2, k_max=15))]
    measure.check_at_most(
        f"segments: k = 2 to 15 tried on {SAMPLE:,} customers, seconds", time.perf_counter() - started, SWEEP_SECONDS
    )
    of_sample = np.array(next(row["centers"] for row in curve if row["k"] == CLUSTERS))
    seconds, centres = _published(vectors, of_sample)
    measure.check_at_most(f"segments: the published fit of {len(vectors):,} customers, seconds", seconds, FIT_SECONDS)
    best = min(KMeans(CLUSTERS, n_init=1, random_state=seed).fit(vectors).inertia_ for seed in range(RESTARTS))
    ours = np.square(pairwise_distances_argmin_min(vectors, centres)[1], dtype=np.float64).sum()
    measure.check_at_most(f"segments: its sum of squares / the best of {RESTARTS} by scikit-learn", ours / best, WORSE)
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        ours, merge = _history(folder, given.customers)
    print(f"a day of history of {given.customers:,} customers, 1 % moved: {ours:.1f} s, a MERGE {merge:.1f} s")
    measure.check_at_most("segments: a day of history / a plain MERGE of the changed rows", ours / merge, SLOWER)
    return 0


def _made(n: int) -> np.ndarray:
    """Vectors (n x LATENT) of types that overlap."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(TYPES, LATENT))
    return (centres[random.integers(TYPES, size=n)] + random.normal(size=(n, LATENT))).astype(np.float32)


def _published(vectors: np.ndarray, of_sample: np.ndarray) -> tuple[float, np.ndarray]:
    """Seconds and centres, in a session that has fitted before."""
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), LATENT).cast(pa.list_(pa.float32()))
        ids = pa.array(np.arange(len(vectors))).cast(pa.string())
        pq.write_table(pa.table({"customer_id": ids, "vector": lists}), Path(folder) / "customers.parquet")
        spark = open_session("benchmark of segments")
        try:
            customers = spark.read.parquet(folder)
            definitions._fitted_centres(customers.limit(SAMPLE // 10), of_sample, None, Segment(seeds=1))
            started = time.perf_counter()
            centres = definitions._fitted_centres(customers, of_sample, None, Segment())
            return time.perf_counter() - started, centres
        finally:
            spark.stop()


def _history(folder: str, n: int) -> tuple[float, float]:
    """Seconds of a day in which one of a hundred customers moved, ours and by MERGE; each in its second run of two days."""
    spark = open_session("benchmark of history")
    try:
        lake = Lake(spark, folder)
        moved = [_assigned(spark, n, number) for number in range(3)]
        lake.replace(history.TABLE, history.history(moved[0]))
        lake.read(history.TABLE).repartition(2).write.format("delta").save(f"{folder}/plain")
        for number in (1, 2):
            day, before, now = DAY + timedelta(days=number), moved[number - 1], moved[number]
            differ = now.join(before.select("customer_id", F.col("segment_id").alias("old")), "customer_id", "inner").where(
                "segment_id <> old"
            )
            changes = differ.withColumn("key", F.col("customer_id")).unionByName(
                differ.withColumn("key", F.lit(None).cast("string"))
            )
            changes.persist().count()
            changes.createOrReplaceTempView("changes")
            started = time.perf_counter()
            step = history.history_around(lake.read(history.TABLE), now, day)
            lake.replace(history.TABLE, step, history.around(day, None), gather=False)
            ours = time.perf_counter() - started
            started = time.perf_counter()
            spark.sql(f"""
                MERGE INTO delta.`{folder}/plain` AS held USING changes
                    ON held.customer_id = changes.key AND held.valid_to IS NULL
                WHEN MATCHED THEN UPDATE SET valid_to = changes.day
                WHEN NOT MATCHED THEN INSERT (customer_id, segment_id, valid_from, valid_to, model_version)
                    VALUES (changes.customer_id, changes.segment_id, changes.day, NULL, changes.model_version)
            """)  # noqa: S608 - a folder of our own
            merge = time.perf_counter() - started
        kept = ["customer_id", "segment_id", "valid_from", "valid_to"]
        theirs = spark.read.format("delta").load(f"{folder}/plain").select(kept)
        if theirs.exceptAll(lake.read(history.TABLE).select(kept)).count():
            raise RuntimeError("the two histories differ")
        return ours, merge
    finally:
        spark.stop()


def _assigned(spark, n: int, number: int) -> DataFrame:
    """segments.assignments, as far as history reads it, of one day; on each day one of a hundred other customers has moved."""
    moves = sum(((F.col("id") % 100 == day).cast("int") for day in range(1, number + 1)), F.lit(0))
    return (
        spark.range(n, numPartitions=2)
        .select(
            F.col("id").cast("string").alias("customer_id"),
            F.lit(DAY + timedelta(days=number)).alias("day"),
            (F.col("id") % 8 + 1 + moves).cast("int").alias("segment_id"),
            F.lit("v1").alias("model_version"),
        )
        .persist()
    )


if __name__ == "__main__":
    sys.exit(main())
