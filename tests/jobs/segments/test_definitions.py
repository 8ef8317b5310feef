"""segments.definitions: ids that keep their meaning, names that tell segments apart, a fit that repeats."""

import numpy as np
import pytest

from jobs.segments import definitions
from jobs.segments.definitions import Cluster
from jobs.settings import Segment
from jobs.traits import Trait
from tests.jobs import planted
from tests.jobs.conftest import FIRST, LAST, SECOND


def cluster(number, n_customers, effect=1.0):
    return Cluster(number, n_customers, [0.0], 1.0, 2.0, [Trait("orders_365d", "", 9, 2, effect, effect, effect)])


DORMANT = Cluster(0, 7, None, None, None, [])


def ids(rows, version):
    return {row["n_customers"]: row["segment_id"] for row in rows if row["model_version"] == version}


def test_ids_are_kept_or_new_and_never_used_twice():
    first = definitions.definitions([DORMANT, cluster(1, 10), cluster(2, 30)], {}, [], "v1", FIRST, planted.CATALOGUE)
    assert ids(first, "v1") == {7: 0, 30: 1, 10: 2}  # the largest first

    second = definitions.definitions([DORMANT, cluster(1, 31), cluster(2, 20)], {1: 1}, first, "v2", SECOND, planted.CATALOGUE)
    assert ids(second, "v2") == {7: 0, 31: 1, 20: 3}

    third = definitions.definitions([DORMANT, cluster(1, 5)], {}, second, "v3", LAST, planted.CATALOGUE)
    assert ids(third, "v3") == {7: 0, 5: 4}
    lives = {row["segment_id"]: (row["born_on"], row["retired_on"]) for row in third}
    assert lives == {
        0: (FIRST, None),
        1: (FIRST, LAST),
        2: (FIRST, SECOND),
        3: (SECOND, LAST),
        4: (LAST, None),
    }


def test_the_same_customers_give_the_same_centres_bit_for_bit_in_any_order(spark):
    made = planted.customers({"loyal": 40, "returner": 30, "nightly": 50, "rare": 60})
    rows = [(customer.customer_id, planted.vector(customer, "v1")) for customer in made]

    def fitted(rows, partitions):
        frame = spark.createDataFrame(rows, "customer_id STRING, vector ARRAY<FLOAT>").repartition(partitions)
        return definitions._fitted_centres(frame, planted_centres, Segment(seeds=10))

    planted_centres = np.array([planted.vector(planted.Customer("", v), "v1") for v in planted.TYPES.values()])[:4]

    centres = fitted(rows, 1)
    assert np.array_equal(centres, fitted(rows[::-1], 3))
    nearest = np.linalg.norm(centres[:, None] - planted_centres, axis=2).min(axis=1)
    assert nearest.max() < 0.1


@pytest.mark.parametrize(("version", "day"), [("v1", FIRST), ("v2", LAST)])
def test_names_and_descriptions_come_from_what_was_planted(shop, version, day):
    rows = {row["segment_id"]: row for row in shop.rows(definitions, "segment_id") if row["model_version"] == version}

    names = {row["name"] for row in rows.values()}
    assert len(names) == len(rows)
    assert rows[0]["name"] == "Dormant"
    nightly = rows[shop.segment_of("nightly", day)]
    assert nightly["name"].startswith("By night")
    assert nightly["description"].startswith("50 customers: night_share 0.8")
    assert nightly["n_customers"] == 50
    assert nightly["center"] == pytest.approx(planted.vector(planted.Customer("", planted.TYPES["nightly"]), version), abs=0.1)
    assert nightly["outlier_distance"] > nightly["radius"] > 0


def test_a_retrain_keeps_the_ids_of_the_segments_that_are_still_there(shop):
    for kind in ("loyal", "nightly", "rare"):
        assert shop.segment_of(kind, LAST) == shop.segment_of(kind, FIRST)
    assert shop.segment_of("bulk", LAST) == 5
    lives = {row["segment_id"]: (row["born_on"], row["retired_on"]) for row in shop.rows(definitions, "segment_id")}
    assert lives[shop.segment_of("returner", FIRST)] == (FIRST, LAST)
    assert lives[5] == (LAST, None)
