"""`python -m benchmarks.segments`: the k sweep, the published fit against scikit-learn, and a day of history against a MERGE.

The MERGE by Spark starts from the changed rows, in memory; the update of the history reads the assignments and finds them itself.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date, timedelta
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin_min

from benchmarks import measure
from jobs.config.settings import Segment, load_settings
from jobs.engine.lazy_session import LazySession
from jobs.segments import _kmeans, assignments, history
from jobs.segments._fit import fit_centres
from jobs.segments._inputs import ActiveCustomers
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
    ids = pa.array(np.arange(len(vectors))).cast(pa.string())
    customers = ActiveCustomers(DAY, ids, vectors, np.full(len(vectors), np.nan), 0, None)
    few = replace(customers, ids=ids[: SAMPLE // 10], vectors=vectors[: SAMPLE // 10])
    with LazySession("benchmark of segments") as session:
        fit = partial(_kmeans.fit_best_centres, session.open())
        fit_centres(few, sample_centres, None, Segment(seeds=1), fit)
        started = time.perf_counter()
        centres = fit_centres(customers, sample_centres, None, Segment(), fit)
        return time.perf_counter() - started, centres


def _time_history(folder: str, n: int) -> tuple[float, float]:
    """Return the seconds of the update and of a MERGE, each in its second run, for a day on which 1 % of customers moved."""
    settings = load_settings({})
    with LazySession("benchmark of history") as session:
        spark, lake = session.open(), Lake(session, folder)
        _write_assignments(lake, n, 0)
        history.run(lake, settings, DAY)
        spark.read.format("delta").load(lake.path(history.TABLE.name)).write.format("delta").save(f"{folder}/plain")
        for number in (1, 2):
            _write_assignments(lake, n, number)
            changes = _find_changes(lake, spark, number)
            started = time.perf_counter()
            history.run(lake, settings, DAY + timedelta(days=number))
            update = time.perf_counter() - started
            started = time.perf_counter()
            _merge(spark, f"{folder}/plain", changes)
            merge = time.perf_counter() - started
        columns = ["customer_id", "segment_id", "valid_from", "valid_to"]
        plain, ours = (
            spark.read.format("delta").load(path).select(columns) for path in (f"{folder}/plain", lake.path(history.TABLE.name))
        )
        if plain.exceptAll(ours).count():
            raise RuntimeError("the two histories differ")
        return update, merge


def _find_changes(lake: Lake, spark: SparkSession, number: int) -> DataFrame:
    """Return what a MERGE needs of the assignments of a day: each customer who has moved, twice, in memory."""
    assigned = spark.read.format("delta").load(lake.path(assignments.TABLE.name))
    now, before = (assigned.where(F.col("day") == DAY + timedelta(days=n)) for n in (number, number - 1))
    old = before.select("customer_id", F.col("segment_id").alias("old"))
    differ = now.join(old, "customer_id", "inner").where("segment_id <> old")
    changes = differ.withColumn("key", F.col("customer_id")).unionByName(differ.withColumn("key", F.lit(None).cast("string")))
    changes.persist().count()
    return changes


def _merge(spark: SparkSession, path: str, changes: DataFrame) -> None:
    changes.createOrReplaceTempView("changes")
    spark.sql(f"""
        MERGE INTO delta.`{path}` AS history USING changes
            ON history.customer_id = changes.key AND history.valid_to IS NULL
        WHEN MATCHED THEN UPDATE SET valid_to = changes.day
        WHEN NOT MATCHED THEN INSERT (customer_id, segment_id, valid_from, valid_to, model_version)
            VALUES (changes.customer_id, changes.segment_id, changes.day, NULL, changes.model_version)
    """)  # noqa: S608 - our own folder


def _write_assignments(lake: Lake, n: int, number: int) -> None:
    """Write the columns of segments.assignments that history reads, of one day; each day another hundredth has moved."""
    ids, day = np.arange(n), DAY + timedelta(days=number)
    moves = sum((ids % 100 == moved for moved in range(1, number + 1)), np.zeros(n, int))
    columns = {"customer_id": pa.array(ids).cast(pa.string()), "segment_id": pa.array(ids % 8 + 1 + moves, pa.int32())}
    columns |= {"day": pa.repeat(pa.scalar(day, pa.date32()), n), "model_version": pa.repeat("v1", n)}
    missing = {f.name: pa.nulls(n, f.type) for f in assignments.TABLE.arrow_schema if f.name not in columns}
    lake.replace_rows(assignments.TABLE, pa.table(columns | missing), [day])


if __name__ == "__main__":
    sys.exit(main())
