"""One row per segment and model: how sure a margin makes the segment, and from which isolation score a customer is an outlier.

Input: encoded.customers of the day the model is first segmented on, and its segments.definitions.

How sure a margin is: K-Means is fitted again on bootstrap resamples of the customers, see _refits.py. The share of these refits
under which a customer with such a margin is in the same segment is a curve over the margin that never falls. At most SAMPLE
customers are refitted, so that the confidence of a larger shop is a little too low rather than too high.

Isolation: `segment.outlier_sigmas` standard deviations above the mean, as for distances.
"""

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.segments import _inputs, definitions
from jobs.segments._centres import Centres, find_nearest
from jobs.segments._clusters import DISTANCE_DECIMALS
from jobs.segments._sample import draw_vectors
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SAMPLE = 10_000  # customers

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


def find_outlier_isolation(scores: np.ndarray, sigmas: float) -> float | None:
    """Return the isolation score above which a customer is an outlier; None where no score is known (all NaN).

    >>> find_outlier_isolation(np.array([0.4, 0.6, np.nan]), 3), find_outlier_isolation(np.array([np.nan]), 3)
    (0.8, None)
    """
    scores = scores[~np.isnan(scores)]
    return round(float(scores.mean() + sigmas * scores.std()), DISTANCE_DECIMALS) if len(scores) else None


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
    from jobs.segments._refits import calibrate_margins  # scikit-learn takes a second, which most days do without

    customers = _inputs.read_active(lake, version, day)
    outlier_isolation = find_outlier_isolation(customers.isolation_scores, settings.segment.outlier_sigmas)
    vectors = draw_vectors(customers, SAMPLE)
    sizes = np.bincount(find_nearest(vectors, centres.points).nearest, minlength=len(centres.ids))
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
