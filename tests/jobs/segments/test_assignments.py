"""segments.assignments: the segment of each customer, and how clear it is."""

import numpy as np
import pyarrow as pa
import pytest

from jobs.engine import runner
from jobs.errors import UserError
from jobs.segments import assignments
from jobs.segments._centres import Centres, assign_customers
from jobs.storage.delta import read_arrow
from tests.jobs.conftest import FIRST, SECOND
from tests.jobs.planted import DAY

CENTRES = Centres(np.array([2, 5], dtype=np.int32), np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([3.0, 1.0]), 0.6)
ENCODED = pa.schema(
    {"customer_id": pa.string(), "model_version": pa.string(), "vector": pa.list_(pa.float32()), "isolation_score": pa.float64()}
)


def assign(*rows):
    """Assign customers (id, is active, vector or None where they are not encoded, isolation score)."""
    customers = pa.table(
        {"customer_id": [name for name, *_ in rows], "day": [DAY] * len(rows), "is_active": [active for _, active, *_ in rows]}
    )
    encoded = [("border", "v2", [10.0, 0.0], 0.9)]  # by another model
    encoded += [(name, "v1", vector, *(score or [0.5])) for name, _, vector, *score in rows if vector]
    tables = {
        "customers": customers,
        "encoded": pa.Table.from_pylist([dict(zip(ENCODED.names, r, strict=True)) for r in encoded], ENCODED),
    }
    assigned = assign_customers(tables, CENTRES, "v1")["assignments"]
    return [tuple(row.values()) for row in assigned.cast(assignments.TABLE.arrow_schema).to_pylist()]


def test_nearest_centre_runner_up_margin_and_outliers_of_hand_made_customers():
    rows = assign(
        ("at_centre", True, [10.0, 0.0]),
        ("border", True, [5.0, 0.0]),  # equally near: the lower id counts
        ("dormant", False, [10.0, 0.0], 0.9),
        ("far", True, [0.0, 4.0]),
        ("far_and_odd", True, [0.0, 4.0], 0.7),
        ("near", True, [2.0, 0.0], None),
        ("odd", True, [2.0, 0.0], 0.7),
    )

    assert rows == [
        ("at_centre", DAY, 5, 0.0, 2, 1.0, False, "v1", None),
        ("border", DAY, 2, 5.0, 5, 0.0, True, "v1", "far from the segment"),
        ("dormant", DAY, 0, None, None, None, False, "v1", None),
        ("far", DAY, 2, 4.0, 5, 1 - 4 / 116**0.5, True, "v1", "far from the segment"),
        ("far_and_odd", DAY, 2, 4.0, 5, 1 - 4 / 116**0.5, True, "v1", "far from the segment and unlike other customers"),
        ("near", DAY, 2, 2.0, 5, 0.75, False, "v1", None),
        ("odd", DAY, 2, 2.0, 5, 0.75, True, "v1", "unlike other customers"),
    ]


def test_dormant_customers_alone_are_assigned_by_rule():
    assert [row[:4] for row in assign(("dormant", False, [10.0, 0.0]))] == [("dormant", DAY, 0, None)]


def test_an_active_customer_without_a_vector_gives_a_one_line_error():
    message = "segment: encoded.customers, day 2024-03-01: customer lost has no vector; run again: shoal encode"
    with pytest.raises(UserError, match=message):
        assign(("a", True, [1.0, 1.0]), ("lost", True, None))


def test_between_retrains_customers_move_and_join_by_the_stored_centres(shop):
    rows = read_arrow(shop.lake.root, assignments.TABLE.name, day=SECOND).to_pylist()
    second = {row["customer_id"]: row["segment_id"] for row in rows}

    assert second["loyal-0"] == shop.segment_of("rare", FIRST)
    assert second["rare-0"] == 0
    assert second["loyal-new"] == second["loyal-1"] == shop.segment_of("loyal", FIRST)
    assert len({shop.segment_of(kind, FIRST) for kind in ("loyal", "returner", "nightly", "rare", "dormant")}) == 5


def test_a_day_that_was_not_encoded_with_the_champion_changes_nothing(shop):
    version = shop.lake.version("segments.assignments")

    with pytest.raises(UserError, match=r"encoded.customers has no rows of model v1 on 2024-03-03"):
        assignments.run(shop.lake, shop.settings, SECOND.replace(day=3))

    assert shop.lake.version("segments.assignments") == version


def test_in_several_buckets_a_day_has_the_same_rows(shop, monkeypatch):
    before = shop.rows(assignments, "day", "customer_id")
    monkeypatch.setattr(runner, "ROWS_PER_BUCKET", 70)

    assignments.run(shop.lake, shop.settings, SECOND)

    assert shop.rows(assignments, "day", "customer_id") == before
