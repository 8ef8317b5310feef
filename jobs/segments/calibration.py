"""One row per segment and model: how sure a margin makes the segment, and from which isolation score a customer is an outlier.

Input: encoded.customers of the day the model is first segmented on, and its segments.definitions.

How sure a margin is: K-Means is fitted again on bootstrap resamples of the customers. The share of these refits under which a
customer with such a margin is in the same segment is a curve over the margin that never falls. A refit is the best of several
starts, one of which is the published centres; its clusters are matched with the segments they share most customers with. At
most SAMPLE customers are refitted, so that the confidence of a larger shop is a little too low rather than too high.

Isolation: `segment.outlier_sigmas` standard deviations above the mean, as for distances.
"""

import warnings
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.isotonic import isotonic_regression
from sklearn.metrics import pairwise_distances_argmin
from sklearn.metrics.cluster import contingency_matrix

from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.segments import _inputs, definitions
from jobs.segments._centres import Centres, TwoNearest, find_nearest
from jobs.segments._clusters import DISTANCE_DECIMALS
from jobs.segments._fit_pool import open_fit_pool
from jobs.segments._sample import draw_vectors
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SAMPLE = 10_000  # customers
REFITS = 50
STARTS = 3  # of a refit, besides the published centres
MAX_ITERATIONS = 100
MAX_POINTS = 10  # of a curve, each of half as many customers as the next: doubtful customers have the smallest margins

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


def calibrate_margins(vectors: np.ndarray, centres: np.ndarray, seed: int, refits: int = REFITS) -> list[tuple[list, list]]:
    """Return, for each of k centres, the margins and the shares of refits; vectors (n x latent) are those of a sample.

    Both are empty where no customer of the sample is nearest to the centre.
    """
    nearest = find_segments(vectors, centres)
    stability = membership_stability(vectors, centres, seed, refits).mean(axis=0)
    members = [nearest.nearest == number for number in range(len(centres))]
    return [_fit_curve(nearest.margin[is_member], stability[is_member]) for is_member in members]


def membership_stability(vectors: np.ndarray, centres: np.ndarray, seed: int, refits: int) -> np.ndarray:
    """Return whether each of n customers is in the same segment under each refit (refits x n, bool)."""
    segments = pairwise_distances_argmin(vectors, centres)

    def refit(number: int) -> np.ndarray:
        resample = vectors[np.random.default_rng([seed, number]).integers(len(vectors), size=len(vectors))]
        starts = [{"init": centres}, *({"random_state": seed + number * STARTS + start} for start in range(STARTS))]
        fits = (KMeans(len(centres), n_init=1, max_iter=MAX_ITERATIONS, **start).fit(resample) for start in starts)
        clusters = pairwise_distances_argmin(vectors, min(fits, key=lambda fit: fit.inertia_).cluster_centers_)
        segment_ids, cluster_ids = np.unique(segments), np.unique(clusters)
        rows, columns = linear_sum_assignment(contingency_matrix(segments, clusters), maximize=True)
        segment_of_cluster = np.full(len(centres), -1)
        segment_of_cluster[cluster_ids[columns]] = segment_ids[rows]
        return segment_of_cluster[clusters] == segments

    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning), open_fit_pool() as pool:
        return np.stack(list(pool.map(refit, range(refits))))


def find_segments(vectors: np.ndarray, centres: np.ndarray) -> TwoNearest:
    """Return the nearest centres of n vectors with their margins, as segments.assignments has them."""
    return find_nearest(vectors, centres)


def find_outlier_isolation(scores: np.ndarray, sigmas: float) -> float | None:
    """Return the isolation score above which a customer is an outlier; None where no score is known (all NaN).

    >>> find_outlier_isolation(np.array([0.4, 0.6, np.nan]), 3), find_outlier_isolation(np.array([np.nan]), 3)
    (0.8, None)
    """
    scores = scores[~np.isnan(scores)]
    return round(float(scores.mean() + sigmas * scores.std()), DISTANCE_DECIMALS) if len(scores) else None


def _fit_curve(margins: np.ndarray, shares: np.ndarray) -> tuple[list[float], list[float]]:
    """Return at most MAX_POINTS margins, ascending, and the shares at them, which never fall.

    >>> _fit_curve(np.array([0.1, 0.3, 0.2, 0.5]), np.array([0.5, 1.0, 0.4, 1.0]))
    ([0.1, 0.2, 0.4], [0.45, 0.45, 1.0])
    """
    cuts = [len(margins) >> halvings for halvings in range(MAX_POINTS - 1, 0, -1)]
    parts = [part for part in np.split(np.argsort(margins, kind="stable"), cuts) if len(part)]
    if not parts:
        return [], []
    rising = isotonic_regression([shares[part].mean() for part in parts], sample_weight=[len(part) for part in parts])
    return [float(margins[part].mean()) for part in parts], rising.tolist()


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Calibrate the day's champion once; a model that has its rows keeps them."""
    version = _inputs.champion_version(settings, day)
    of_model = ds.field("model_version") == version
    if lake.read_small_table(TABLE, ["segment_id"], of_model):
        return
    definition_rows = lake.read_small_table(definitions.TABLE, where=of_model)
    if not definition_rows:
        raise UserError(f"segment: segments.definitions lacks model {version}; run again: shoal segment --day {day}")
    centres = Centres.from_definitions(definition_rows)
    customers = _inputs.read_active(lake, version, day)
    outlier_isolation = find_outlier_isolation(customers.isolation_scores, settings.segment.outlier_sigmas)
    vectors = draw_vectors(customers, SAMPLE)
    sizes = np.bincount(find_segments(vectors, centres.points).nearest, minlength=len(centres.ids))
    curves = calibrate_margins(vectors, centres.points, settings.segment.seed)
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
        for segment_id, n, (margins, shares) in zip(centres.ids.tolist(), sizes.tolist(), curves, strict=True)
    ]
    lake.replace_where(TABLE, pa.Table.from_pylist(rows, TABLE.arrow_schema), of_model)
