"""Fit models as a client of a Spark Connect server while garbage is collected inside calls."""

import concurrent.futures.thread as threads
import gc
import sys
import time

import numpy as np
import pyarrow as pa
from pyspark.ml.clustering import KMeans
from pyspark.ml.util import RemoteModelRef

from jobs import watchdog
from jobs.config.settings import Segment
from jobs.engine.fitted_models import fitted_model
from jobs.engine.session import open_session
from jobs.segments import _kmeans


def main() -> None:
    """Print one line after each use of a model: how many models are left, here and on the server."""
    spark = open_session("fits")
    print("signs of a task that prints nothing", count_signs(spark) >= 2)
    collect_garbage_in_submit()
    vectors = np.random.default_rng(1).normal(size=(60, 2)).tolist()
    rows = pa.table({"customer_id": [str(n) for n in range(60)], "vector": pa.array(vectors, pa.list_(pa.float32()))})
    print("centres", _kmeans.fit_best_centres(spark, rows, 3, Segment(seeds=2), 0.0).shape, *remaining_models(spark))
    points = _kmeans.to_points(spark.createDataFrame(rows)).persist()
    try:
        with fitted_model(KMeans(featuresCol="vector", k=2), points):
            raise ValueError
    except ValueError:
        print("after an error", *remaining_models(spark))
    spark.stop()


def count_signs(spark) -> int:
    """Return how often the server, which ends each answer after a second, reports that it still works on one task."""
    signs = []
    watchdog.note_progress = lambda **_: signs.append(1)
    spark.clearProgressHandlers()
    spark.range(1, numPartitions=1).mapInArrow(sleep, "id BIGINT").collect()
    return len(signs)


def sleep(batches):
    time.sleep(4)
    yield from batches


def collect_garbage_in_submit() -> None:
    """Have every submit() of a thread pool collect garbage while it holds its lock, as Python may do at any time."""
    make_item = threads._WorkItem

    def collect_and_make_item(*arguments):
        gc.collect()
        return make_item(*arguments)

    threads._WorkItem = collect_and_make_item


def remaining_models(spark) -> tuple[int, list[str]]:
    """Return the number of models that this client still refers to, and those that the server holds."""
    references = [item for item in gc.get_objects() if isinstance(item, RemoteModelRef) and item._ref_count]
    return len(references), spark.client._get_ml_cache_info()


if __name__ == "__main__":
    sys.exit(main())
