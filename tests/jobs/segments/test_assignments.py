"""segments.assignments: the segment of each customer, and how clear it is."""

import numpy as np
import pytest

from jobs.engine.workers import user_errors
from jobs.errors import UserError
from jobs.segments import assignments
from jobs.segments._centres import Centres
from tests.jobs.conftest import FIRST, SECOND
from tests.jobs.planted import DAY

CENTRES = Centres(np.array([2, 5], dtype=np.int32), np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([3.0, 1.0]), 0.6)
INPUT = "customer_id STRING, day DATE, is_active BOOLEAN, vector ARRAY<FLOAT>, isolation_score DOUBLE"


def assign(spark, *rows):
    frame = spark.createDataFrame(
        [(name, DAY, active, vector, *(score or [0.5])) for name, active, vector, *score in rows], INPUT
    )
    return assignments.assign_segments(frame, CENTRES, "v1").orderBy("customer_id").collect()


def test_nearest_centre_runner_up_margin_and_outliers_of_hand_made_customers(spark):
    rows = assign(
        spark,
        ("at_centre", True, [10.0, 0.0]),
        ("border", True, [5.0, 0.0]),  # equally near: the lower id counts
        ("dormant", False, [10.0, 0.0], 0.9),
        ("far", True, [0.0, 4.0]),
        ("far_and_odd", True, [0.0, 4.0], 0.7),
        ("near", True, [2.0, 0.0], None),
        ("odd", True, [2.0, 0.0], 0.7),
    )

    assert [tuple(row) for row in rows] == [
        ("at_centre", DAY, 5, 0.0, 2, 1.0, False, "v1", None),
        ("border", DAY, 2, 5.0, 5, 0.0, True, "v1", "far from the segment"),
        ("dormant", DAY, 0, None, None, None, False, "v1", None),
        ("far", DAY, 2, 4.0, 5, 1 - 4 / 116**0.5, True, "v1", "far from the segment"),
        ("far_and_odd", DAY, 2, 4.0, 5, 1 - 4 / 116**0.5, True, "v1", "far from the segment and unlike other customers"),
        ("near", DAY, 2, 2.0, 5, 0.75, False, "v1", None),
        ("odd", DAY, 2, 2.0, 5, 0.75, True, "v1", "unlike other customers"),
    ]


def test_dormant_customers_alone_are_assigned_by_rule(spark):
    rows = assign(spark, ("dormant", False, [10.0, 0.0]))

    assert [(row.customer_id, row.segment_id, row.distance) for row in rows] == [("dormant", 0, None)]


def test_an_active_customer_without_a_vector_gives_a_one_line_error(spark):
    message = "segment: encoded.customers, day 2024-03-01: customer lost has no vector; run again: shoal encode"
    with pytest.raises(UserError, match=message), user_errors():
        assign(spark, ("a", True, [1.0, 1.0]), ("lost", True, None))


def test_between_retrains_customers_move_and_join_by_the_stored_centres(shop):
    second = {row.customer_id: row.segment_id for row in shop.lake.read(assignments.TABLE, SECOND, SECOND).collect()}

    assert second["loyal-0"] == shop.segment_of("rare", FIRST)
    assert second["rare-0"] == 0
    assert second["loyal-new"] == second["loyal-1"] == shop.segment_of("loyal", FIRST)
    assert len({shop.segment_of(kind, FIRST) for kind in ("loyal", "returner", "nightly", "rare", "dormant")}) == 5


def test_a_day_that_was_not_encoded_with_the_champion_changes_nothing(shop):
    version = shop.lake.version("segments.assignments")

    with pytest.raises(UserError, match=r"encoded.customers has no rows of model v1 on 2024-03-03"):
        assignments.run(shop.lake, shop.settings, SECOND.replace(day=3))

    assert shop.lake.version("segments.assignments") == version
