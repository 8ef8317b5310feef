"""segments.calibration: the stated confidence equals the share that refits on other customers show."""

import numpy as np
import pytest

from jobs.segments import _refits, calibration
from jobs.segments._centres import find_nearest
from tests.jobs.conftest import FIRST, LAST, SECOND

TOLERANCE = 0.05


def make_overlapping_customers(n, seed):
    """Return vectors of three types of customers that overlap, the third of them rare, and the centres of the types."""
    random = np.random.default_rng(seed)
    middles = np.array([[0.0, 0.0], [2.2, 0.0], [1.0, 2.4]])
    return random.normal(middles[random.choice(3, n, p=(0.5, 0.4, 0.1))], 0.8), middles


@pytest.mark.parametrize("seed", [1, 2])
def test_the_stated_share_equals_the_agreement_of_unseen_refits(seed):
    vectors, middles = make_overlapping_customers(1500, seed)
    centres = np.array([vectors[np.linalg.norm(vectors - middle, axis=1).argsort()[:300]].mean(axis=0) for middle in middles])
    curves = _refits.calibrate_margins(vectors, centres, seed=17)
    segment, _, _, margin = find_nearest(vectors, centres)
    stated = np.empty(len(vectors))
    for number, (margins, shares) in enumerate(curves):
        stated[segment == number] = np.interp(margin[segment == number], margins, shares)

    agreed = _refits.membership_stability(vectors, centres, seed=99, refits=50).mean(axis=0)

    tenths = np.array_split(np.argsort(stated), 10)
    assert stated[tenths[0]].mean() < 0.9  # some customers are in doubt
    assert max(abs(stated[tenth].mean() - agreed[tenth].mean()) for tenth in tenths) < TOLERANCE
    assert all(shares == sorted(shares) and margins == sorted(margins) for margins, shares in curves)


def test_a_centre_without_customers_has_no_curve():
    vectors, middles = make_overlapping_customers(200, seed=3)

    curves = _refits.calibrate_margins(vectors, np.vstack([middles, [[500.0, 500.0]]]), seed=17, refits=3)

    assert curves[3] == ([], [])
    assert all(shares for _, shares in curves[:3])


def test_each_model_is_calibrated_once_on_the_day_it_is_first_segmented_on(shop):
    rows = shop.rows(calibration, "model_version", "segment_id")

    assert [(row["model_version"], row["day"]) for row in rows] == [("v1", FIRST)] * 4 + [("v2", LAST)] * 4
    assert sum(row["n_customers"] for row in rows if row["model_version"] == "v1") == 180
    assert {row["outlier_isolation"] for row in rows} == {0.4}
    version = shop.lake.version(calibration.TABLE.name)
    shop.run([calibration], SECOND)
    assert shop.lake.version(calibration.TABLE.name) == version
