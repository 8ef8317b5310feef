"""One row per model and number of clusters that was tried: the evidence for the number that was chosen.

Input: encoded.customers of the day the model is first clustered on; at most `segment.sample` active customers, chosen
by a hash of their id, so that the choice does not depend on order or partitions. Written once per model. The sweep runs
in the driver: a fit of the sample takes milliseconds there, and a hundred Spark jobs on a cluster; what is published is
then fitted by MLlib on all active customers.
"""

from collections.abc import Iterator
from datetime import date

import numpy as np
import pyarrow.dataset as ds
from pyspark.sql import functions as F
from scipy.cluster.vq import ClusterError, kmeans2

from jobs.errors import UserError
from jobs.lake import Lake, Table, quoted
from jobs.segments import _inputs
from jobs.settings import Segment, Settings

CUSTOMERS_PER_CLUSTER = 10  # k is tried with at least this many customers of the sample for each cluster
ITERATIONS = 30

SCHEMA = """
    model_version STRING COMMENT 'Version of the encoder whose vectors were clustered',
    k INT COMMENT 'Number of clusters',
    day DATE COMMENT 'Day whose active customers were clustered',
    n_customers BIGINT COMMENT 'Customers in the sample',
    wss DOUBLE COMMENT 'Within-cluster sum of squared distances, the best of the seeds',
    silhouette DOUBLE COMMENT 'Mean silhouette on squared Euclidean distances, -1 to 1',
    smallest_share DOUBLE COMMENT 'Share of the sample in the smallest cluster, 0 to 1',
    davies_bouldin DOUBLE COMMENT 'Davies-Bouldin index, lower is better; null where not computed',
    stability DOUBLE COMMENT 'Mean adjusted Rand index over resamples; null where not computed',
    refused_by STRING COMMENT 'The rule that refused this k; null: accepted',
    chosen BOOLEAN COMMENT 'Whether this k was clustered and published'
"""
TABLE = Table(
    "segments.candidates",
    "One row per model and number of clusters tried: the evidence for the number chosen.",
    SCHEMA,
    checks={"k_positive": "k > 0"},
)


def candidates(vectors: np.ndarray, version: str, day: date, segment: Segment) -> list[dict]:
    """Vectors (n x latent) of the sample of `day` -> rows of segments.candidates of the model `version`.

    Raises UserError where there are too few customers, or too few that differ, for the smallest k.
    """
    ks = _tried(len(vectors), len(np.unique(vectors, axis=0)), day, segment)
    curve = list(_curve(vectors, ks, segment))
    accepted = [row for row in curve if row["refused_by"] is None]
    if not accepted:
        raise UserError(
            f"segment: the customers active on {day} cannot be clustered: {len(ks)} values of k tried, none gave as "
            "many clusters as asked; the vectors differ too little, train again: shoal train --retrain"
        )
    chosen = max(accepted, key=lambda row: (row["silhouette"], -row["k"]))["k"]
    facts = {"model_version": version, "day": day, "n_customers": len(vectors)}
    return [facts | row | {"chosen": row["k"] == chosen} for row in curve]


def silhouette(vectors: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Mean silhouette on squared Euclidean distances of vectors (n x latent) in clusters 0..k-1, none empty.

    From the moments of the clusters, in n x k and not n x n steps; a customer alone in a cluster counts 0.

    >>> silhouette(np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([0, 0, 1, 1]), 2).__round__(6)
    0.98995
    """
    centred = vectors - vectors.mean(axis=0)
    squares = np.einsum("ij,ij->i", centred, centred)
    sizes = np.bincount(labels, minlength=k)
    centres = np.stack([np.bincount(labels, column, k) for column in centred.T], axis=1) / sizes[:, None]
    mean_squares = np.bincount(labels, squares, k) / sizes
    to_cluster = squares[:, None] - 2 * centred @ centres.T + mean_squares  # mean squared distance to the members
    every, others = np.arange(len(vectors)), np.maximum(sizes[labels] - 1, 1)
    own = to_cluster[every, labels] * sizes[labels] / others  # to the other members: its own distance is 0
    to_cluster[every, labels] = np.inf
    nearest = to_cluster.min(axis=1)
    larger = np.maximum(own, nearest)
    scores = np.divide(nearest - own, larger, out=np.zeros(len(own)), where=larger > 0)
    return float(np.where(sizes[labels] > 1, scores, 0.0).mean())


def _tried(n: int, n_distinct: int, day: date, segment: Segment) -> list[int]:
    if not 2 <= segment.k_min <= segment.k_max:
        raise UserError(
            f"settings: segment.k_min = {segment.k_min} and segment.k_max = {segment.k_max}: "
            "k_min must be at least 2 and at most k_max"
        )
    most = min(segment.k_max, n // CUSTOMERS_PER_CLUSTER, n_distinct - 1)
    if most < segment.k_min:
        raise UserError(
            f"segment: too few customers to cluster on {day}: {n} active with {n_distinct} different vectors; "
            f"segment.k_min = {segment.k_min} needs {segment.k_min * CUSTOMERS_PER_CLUSTER} active customers and "
            f"{segment.k_min + 1} different vectors; take a later day or lower the setting"
        )
    return list(range(segment.k_min, most + 1))


def _curve(vectors: np.ndarray, ks: list[int], segment: Segment) -> Iterator[dict]:
    for k in ks:
        fits = [fit for i in range(segment.seeds) if (fit := _fit(vectors, k, segment.seed + i)) is not None]
        row = {"k": k, "wss": None, "silhouette": None, "smallest_share": None}
        if not fits:
            yield row | {"refused_by": "fewer clusters than asked"}
            continue
        wss, labels = min(fits, key=lambda fit: fit[0])
        yield row | {
            "wss": wss,
            "silhouette": silhouette(vectors, labels, k),
            "smallest_share": float(np.bincount(labels, minlength=k).min() / len(labels)),
            "refused_by": None,
        }


def _fit(vectors: np.ndarray, k: int, seed: int) -> tuple[float, np.ndarray] | None:
    """(within-cluster sum of squares, cluster of each row), or None where a cluster lost all its members."""
    try:
        centres, labels = kmeans2(vectors, k, iter=ITERATIONS, minit="++", missing="raise", rng=seed)
    except ClusterError:
        return None
    if len(np.unique(labels)) < k:
        return None
    return float(((vectors - centres[labels]) ** 2).sum()), labels


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Try the numbers of clusters for the day's champion; a model that was tried before is left as it is."""
    version = _inputs.champion_version(settings, day)
    if lake.look_up(TABLE, ["k"], ds.field("model_version") == version):
        return
    active = _inputs.known_customers(lake, version, day).where("is_active AND vector IS NOT NULL")
    by_hash = active.orderBy(F.xxhash64("customer_id"), "customer_id").limit(settings.segment.sample)
    sample = by_hash.select("vector").toArrow()["vector"].combine_chunks()
    vectors = sample.flatten().to_numpy().astype(np.float64).reshape(len(sample), -1 if len(sample) else 1)
    rows = candidates(vectors, version, day, settings.segment)
    lake.replace(TABLE, lake.spark.createDataFrame(rows, SCHEMA), f"model_version = {quoted(version)}")
