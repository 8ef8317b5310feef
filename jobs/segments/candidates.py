"""One row per model and number of clusters that was tried: the evidence for the number that was chosen.

Input: encoded.customers of the day the model is first clustered on; at most `segment.sample` active customers, chosen
by a hash of their id, so that the choice does not depend on order or partitions. Only written once per model.
"""

from collections.abc import Iterator
from datetime import date

from pyspark.ml.evaluation import ClusteringEvaluator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.errors import UserError
from jobs.lake import Lake, Table
from jobs.segments import _clustering, _inputs
from jobs.settings import Segment, Settings

CUSTOMERS_PER_CLUSTER = 10  # k is tried with at least this many active customers for each cluster

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


def candidates(active: DataFrame, version: str, day: date, segment: Segment) -> DataFrame:
    """(customer_id, vector) of the active customers of `day` -> segments.candidates of the model `version`.

    Raises UserError where there are too few customers, or too few that differ, for the smallest k.
    """
    n_active, n_distinct = active.agg(F.count("*"), F.countDistinct("vector")).first()
    ks = _tried(n_active, n_distinct, day, segment)
    sample = active.orderBy(F.xxhash64("customer_id"), "customer_id").limit(segment.sample)
    points = _clustering.points(sample).persist()
    try:
        curve = list(_curve(points, ks, segment))
    finally:
        points.unpersist()
    accepted = [row for row in curve if row["refused_by"] is None]
    if not accepted:
        raise UserError(
            f"segment: the customers active on {day} cannot be clustered: {len(ks)} values of k tried, none gave as "
            "many clusters as asked; the vectors differ too little, train again: shoal train --retrain"
        )
    chosen = max(accepted, key=lambda row: (row["silhouette"], -row["k"]))["k"]
    facts = {"model_version": version, "day": day, "n_customers": min(n_active, segment.sample)}
    rows = [facts | row | {"chosen": row["k"] == chosen} for row in curve]
    return active.sparkSession.createDataFrame(rows, SCHEMA)


def _tried(n_active: int, n_distinct: int, day: date, segment: Segment) -> list[int]:
    if not 2 <= segment.k_min <= segment.k_max:
        raise UserError(
            f"settings: segment.k_min = {segment.k_min} and segment.k_max = {segment.k_max}: "
            "k_min must be at least 2 and at most k_max"
        )
    most = min(segment.k_max, n_active // CUSTOMERS_PER_CLUSTER, n_distinct - 1)
    if most < segment.k_min:
        raise UserError(
            f"segment: too few customers to cluster on {day}: {n_active} active with {n_distinct} different vectors; "
            f"segment.k_min = {segment.k_min} needs {segment.k_min * CUSTOMERS_PER_CLUSTER} active customers and "
            f"{segment.k_min + 1} different vectors; take a later day or lower the setting"
        )
    return list(range(segment.k_min, most + 1))


def _curve(points: DataFrame, ks: list[int], segment: Segment) -> Iterator[dict]:
    evaluator = ClusteringEvaluator(featuresCol="vector", metricName="silhouette", distanceMeasure="squaredEuclidean")
    for k in ks:
        fit = _clustering.best_fit(points, k, segment)
        sizes = fit.model.summary.clusterSizes
        complete = len(fit.centres) == k and min(sizes) > 0
        yield {
            "k": k,
            "wss": fit.wss,
            "silhouette": evaluator.evaluate(fit.model.transform(points)),
            "smallest_share": min(sizes) / sum(sizes),
            "refused_by": None if complete else "fewer clusters than asked",
        }


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Try the numbers of clusters for the day's champion; a model that was tried before is left as it is."""
    version = _inputs.champion_version(settings, day)
    if not lake.read(TABLE).where(F.col("model_version") == version).isEmpty():
        return
    active = _inputs.known_customers(lake, version, day).where("is_active")
    curve = candidates(active.select("customer_id", "vector"), version, day, settings.segment)
    lake.replace(TABLE, curve, f"model_version = {_inputs.text(version)}")
