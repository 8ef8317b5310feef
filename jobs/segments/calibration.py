"""One row per segment and model: how sure a margin makes one of the segment, and from where on a customer is an outlier.

Input: encoded.customers of the day the model is first segmented on, and its segments.definitions. How sure: the share of
refits on other customers drawn from the same (bootstrap) under which a customer with such a margin is in the same segment,
as a curve that never falls. A refit is the best of the published centres taken further and of new starts; its clusters go by
the segments they share most customers with. At most SAMPLE customers are refitted, so that a larger shop is told a little
too low rather than too high. Isolation: as for distances, `segment.outlier_sigmas` standard deviations above the mean.
"""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import numpy as np
import pyarrow.dataset as ds
from pyspark.sql import functions as F
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.isotonic import isotonic_regression
from sklearn.metrics import pairwise_distances_argmin
from sklearn.metrics.cluster import contingency_matrix
from threadpoolctl import threadpool_limits

from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.segments import _centres, _customers, _inputs, definitions
from jobs.storage.lake import Lake
from jobs.storage.table import Table, quote_sql

SAMPLE = 10_000
REFITS = 50
STARTS = 3  # of a refit, besides the published centres
ITERATIONS = 100
POINTS = 10  # of a curve at most, each half as many customers as the next: what is doubtful lies at the smallest margins

SCHEMA = """
    segment_id INT COMMENT 'Segment',
    model_version STRING COMMENT 'Version of the encoder',
    day DATE COMMENT 'Day whose customers were refitted',
    n_customers BIGINT COMMENT 'Customers of the segment in the sample',
    margins ARRAY<DOUBLE> COMMENT 'Margins, ascending',
    shares ARRAY<DOUBLE> COMMENT 'By margin: share of refits under which such a customer is in the same segment, 0 to 1',
    outlier_isolation DOUBLE COMMENT 'A customer with a higher isolation score is an outlier; null: scores are not known'
"""
TABLE = Table(
    "segments.calibration",
    "One row per segment and model: how sure a margin is, and from which isolation score on a customer is an outlier.",
    SCHEMA,
    checks={"segment_positive": "segment_id > 0"},
)


def curves(vectors: np.ndarray, centres: np.ndarray, seed: int, refits: int = REFITS) -> list[tuple[list, list]]:
    """Vectors (n x latent) of a sample, k centres -> per centre the margins and the shares of refits; both empty where no
    customer of the sample is nearest to it."""
    segment, margin = _margins(vectors, centres)
    stayed = stays(vectors, centres, seed, refits).mean(axis=0)
    return [_curve(margin[segment == number], stayed[segment == number]) for number in range(len(centres))]


def stays(vectors: np.ndarray, centres: np.ndarray, seed: int, refits: int) -> np.ndarray:
    """Whether each of n customers is in the same segment under each refit (refits x n)."""
    segment = pairwise_distances_argmin(vectors, centres)

    def stayed(number: int) -> np.ndarray:
        drawn = vectors[np.random.default_rng([seed, number]).integers(len(vectors), size=len(vectors))]
        starts = [{"init": centres}, *({"random_state": seed + number * STARTS + start} for start in range(STARTS))]
        fits = (KMeans(len(centres), n_init=1, max_iter=ITERATIONS, **start).fit(drawn) for start in starts)
        found = pairwise_distances_argmin(vectors, min(fits, key=lambda fit: fit.inertia_).cluster_centers_)
        ours, theirs = np.unique(segment), np.unique(found)
        rows, columns = linear_sum_assignment(contingency_matrix(segment, found), maximize=True)
        named = np.full(len(centres), -1)
        named[theirs[columns]] = ours[rows]
        return named[found] == segment

    # One thread a fit: sums of more threads depend on which ends first.
    with (
        warnings.catch_warnings(action="ignore", category=ConvergenceWarning),
        ThreadPoolExecutor(os.cpu_count(), initializer=threadpool_limits, initargs=(1,)) as pool,
    ):
        return np.stack(list(pool.map(stayed, range(refits))))


def _margins(vectors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centre of each of n vectors, and the margin as segments.assignments has it."""
    distances = _centres.distances(vectors.astype(np.float64), centres)
    segment = distances.argmin(axis=1)
    first, second = np.partition(distances, 1, axis=1)[:, :2].T
    return segment, np.where(second > 0, 1 - first / np.where(second > 0, second, 1), 0.0)


def _curve(margin: np.ndarray, share: np.ndarray) -> tuple[list[float], list[float]]:
    """At most POINTS margins, ascending, and the shares there, which never fall.

    >>> _curve(np.array([0.1, 0.3, 0.2, 0.5]), np.array([0.5, 1.0, 0.4, 1.0]))
    ([0.1, 0.2, 0.4], [0.45, 0.45, 1.0])
    """
    cuts = [len(margin) >> halvings for halvings in range(POINTS - 1, 0, -1)]
    parts = [part for part in np.split(np.argsort(margin, kind="stable"), cuts) if len(part)]
    if not parts:
        return [], []
    shares = isotonic_regression([share[part].mean() for part in parts], sample_weight=[len(part) for part in parts])
    return [float(margin[part].mean()) for part in parts], shares.tolist()


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Calibrate the day's champion once; a model that has its rows keeps them."""
    version = _inputs.champion_version(settings, day)
    of_model = ds.field("model_version") == version
    if lake.read_small_table(TABLE, ["segment_id"], of_model):
        return
    defined = lake.read_small_table(definitions.TABLE, where=of_model)
    if not defined:
        raise UserError(f"segment: segments.definitions lacks model {version}; run again: shoal segment --day {day}")
    centres = _centres.from_definitions(defined)
    active = _inputs.known_customers(lake, version, day).where("is_active AND vector IS NOT NULL")
    sigmas = settings.segment.outlier_sigmas
    isolation = F.avg("isolation_score") + sigmas * F.stddev_pop("isolation_score")
    outlier_isolation = active.agg(F.round(isolation, definitions.DISTANCE_DECIMALS)).first()[0]
    vectors = _customers.matrix(_customers.drawn(active, SAMPLE).select("vector").toArrow()["vector"])
    rows = [
        {
            "segment_id": segment_id,
            "model_version": version,
            "day": day,
            "n_customers": n,
            "margins": margins,
            "shares": shares,
            "outlier_isolation": outlier_isolation,
        }
        for segment_id, n, (margins, shares) in zip(
            centres.ids.tolist(),
            np.bincount(_margins(vectors, centres.points)[0], minlength=len(centres.ids)).tolist(),
            curves(vectors, centres.points, settings.segment.seed),
            strict=True,
        )
    ]
    lake.replace(TABLE, lake.spark.createDataFrame(rows, SCHEMA), f"model_version = {quote_sql(version)}")
