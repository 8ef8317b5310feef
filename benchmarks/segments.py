"""`python -m benchmarks.segments`: the k sweep, the published fit against scikit-learn, and a day of history against a MERGE.

The MERGE starts from the changed rows, in memory; the update of the history finds them itself.
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
from jobs.segments import _kmeans, history
from jobs.segments.model_selection.k_sweep import sweep_k
from jobs.storage.lake import Lake

CUSTOMERS, SAMPLE, LATENT, TYPES, CLUSTERS = 1_000_000, 100_000, 16, 12, 8
RESTARTS = 10
DAY = date(2026, 3, 31)
MAX_SWEEP_SECONDS, MAX_FIT_SECONDS, MAX_INERTIA_RATIO, MAX_TIME_RATIO = 120.0, 20.0, 1.001, 1.3


def main(argv: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.segments", description=__doc__.split("\n\n")[0])
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    arguments = parser.parse_args(argv)
    vectors = _make_vectors(arguments.customers)
    started = time.perf_counter()
    rows = [trial.row for trial in sweep_k(vectors[:SAMPLE], DAY, Segment(k_min=2, k_max=15))]
    measure.check_at_most(
        f"segments: k = 2 to 15 tried on {SAMPLE:,} customers, seconds", time.perf_counter() - started, MAX_SWEEP_SECONDS
    )
    sample_centres = np.array(next(row["centers"] for row in rows if row["k"] == CLUSTERS))
    seconds, centres = _fit_published(vectors, sample_centres)
    measure.check_at_most(f"segments: the published fit of {len(vectors):,} customers, seconds", seconds, MAX_FIT_SECONDS)
    best = min(KMeans(CLUSTERS, n_init=1, random_state=seed).fit(vectors).inertia_ for seed in range(RESTARTS))
    inertia = np.square(pairwise_distances_argmin_min(vectors, centres)[1], dtype=np.float64).sum()
    measure.check_at_most(f"segments: its inertia / the best of {RESTARTS} by scikit-learn", inertia / best, MAX_INERTIA_RATIO)
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        update, merge = _time_history(folder, arguments.customers)
    print(f"a day of history of {arguments.customers:,} customers, 1 % moved: {update:.1f} s, a MERGE {merge:.1f} s")
    measure.check_at_most("segments: a day of history / a plain MERGE of the changed rows", update / merge, MAX_TIME_RATIO)
    return 0


def _make_vectors(n: int) -> np.ndarray:
    """Return vectors (n x LATENT) of types that overlap."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(TYPES, LATENT))
    return (centres[random.integers(TYPES, size=n)] + random.normal(size=(n, LATENT))).astype(np.float32)


def _fit_published(vectors: np.ndarray, sample_centres: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the seconds and the centres of the published fit, in a session that has fitted before."""
    with tempfile.TemporaryDirectory(prefix="shoal_bench_") as folder:
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), LATENT).cast(pa.list_(pa.float32()))
        ids = pa.array(np.arange(len(vectors))).cast(pa.string())
        pq.write_table(pa.table({"customer_id": ids, "vector": lists}), Path(folder) / "customers.parquet")
        spark = open_session("benchmark of segments")
        try:
            customers = spark.read.parquet(folder)
            _kmeans.fit_centres(customers.limit(SAMPLE // 10), sample_centres, None, Segment(seeds=1))
            started = time.perf_counter()
            centres = _kmeans.fit_centres(customers, sample_centres, None, Segment())
            return time.perf_counter() - started, centres
        finally:
            spark.stop()


def _time_history(folder: str, n: int) -> tuple[float, float]:
    """Return the seconds of the update and of a MERGE, each in its second run, for a day on which 1 % of customers moved."""
    spark = open_session("benchmark of history")
    try:
        lake = Lake(spark, folder)
        assignments = [_make_assignments(spark, n, number) for number in range(3)]
        lake.replace(history.TABLE, history.build_history(assignments[0]))
        lake.read(history.TABLE).repartition(2).write.format("delta").save(f"{folder}/plain")
        for number in (1, 2):
            day, before, now = DAY + timedelta(days=number), assignments[number - 1], assignments[number]
            differ = now.join(before.select("customer_id", F.col("segment_id").alias("old")), "customer_id", "inner").where(
                "segment_id <> old"
            )
            changes = differ.withColumn("key", F.col("customer_id")).unionByName(
                differ.withColumn("key", F.lit(None).cast("string"))
            )
            changes.persist().count()
            changes.createOrReplaceTempView("changes")
            started = time.perf_counter()
            intervals = history.update_history(lake.read(history.TABLE), now, day)
            lake.replace(history.TABLE, intervals, history.affected_intervals(day, None), gather=False)
            update = time.perf_counter() - started
            started = time.perf_counter()
            spark.sql(f"""
                MERGE INTO delta.`{folder}/plain` AS history USING changes
                    ON history.customer_id = changes.key AND history.valid_to IS NULL
                WHEN MATCHED THEN UPDATE SET valid_to = changes.day
                WHEN NOT MATCHED THEN INSERT (customer_id, segment_id, valid_from, valid_to, model_version)
                    VALUES (changes.customer_id, changes.segment_id, changes.day, NULL, changes.model_version)
            """)  # noqa: S608 - our own folder
            merge = time.perf_counter() - started
        columns = ["customer_id", "segment_id", "valid_from", "valid_to"]
        theirs = spark.read.format("delta").load(f"{folder}/plain").select(columns)
        if theirs.exceptAll(lake.read(history.TABLE).select(columns)).count():
            raise RuntimeError("the two histories differ")
        return update, merge
    finally:
        spark.stop()


def _make_assignments(spark, n: int, number: int) -> DataFrame:
    """Return the columns of segments.assignments that history reads, of one day; each day another hundredth has moved."""
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
