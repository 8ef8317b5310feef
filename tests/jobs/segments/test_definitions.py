"""segments.definitions: ids keep their meaning, names are unique, and the fit is repeatable."""

from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import davies_bouldin_score, pairwise_distances_argmin, silhouette_samples

from jobs.config.settings import Segment
from jobs.encoded.customers import TABLE as ENCODED
from jobs.errors import UserError
from jobs.segments import _fit, _inputs, _kmeans, definitions
from jobs.segments._clusters import Cluster
from jobs.segments._inputs import ActiveCustomers
from jobs.storage.delta import read_arrow
from jobs.traits import Trait
from tests.jobs import planted
from tests.jobs.conftest import FIRST, LAST, SECOND


def make_cluster(number, n_customers, effect=1.0):
    return Cluster(number, n_customers, [0.0], 1.0, 2.0, [Trait("orders_365d", "", 9, 2, effect, effect, effect)])


DORMANT = Cluster(0, 7, None, None, None, [])


def define(clusters, kept_ids, earlier, version, day):
    """Return all rows of segments.definitions; a dormant segment is added to the clusters."""
    clusters = [DORMANT, *clusters]
    return definitions.define_segments(clusters, kept_ids, earlier, version, day, planted.CATALOGUE, renamed_at=0.5)


def ids_by_size(rows, version):
    return {row["n_customers"]: row["segment_id"] for row in rows if row["model_version"] == version}


def test_ids_are_kept_or_new_and_never_used_twice():
    first = define([make_cluster(1, 10), make_cluster(2, 30)], {}, [], "v1", FIRST)
    assert ids_by_size(first, "v1") == {7: 0, 30: 1, 10: 2}  # the largest cluster first

    second = define([make_cluster(1, 31), make_cluster(2, 20)], {1: 1}, first, "v2", SECOND)
    assert ids_by_size(second, "v2") == {7: 0, 31: 1, 20: 3}

    third = define([make_cluster(1, 5)], {}, second, "v3", LAST)
    assert ids_by_size(third, "v3") == {7: 0, 5: 4}
    lives = {row["segment_id"]: (row["born_on"], row["retired_on"]) for row in third}
    assert lives == {
        0: (FIRST, None),
        1: (FIRST, LAST),
        2: (FIRST, SECOND),
        3: (SECOND, LAST),
        4: (LAST, None),
    }


@pytest.mark.parametrize(
    ("effect_now", "name", "rests_on"),
    [(1.4, "Frequent buyers", 1.0), (1.5, "Frequent buyers", 1.5), (-1.0, "Rare buyers", -1.0)],
)
def test_a_segment_keeps_its_name_until_the_facts_it_rests_on_have_changed(effect_now, name, rests_on):
    first = define([make_cluster(1, 30, effect=1.0)], {}, [], "v1", FIRST)
    # A new and larger segment has the same traits.
    rows = define([make_cluster(1, 40, effect=1.0), make_cluster(2, 10, effect=effect_now)], {2: 1}, first, "v2", SECOND)

    now = {row["segment_id"]: row for row in rows if row["model_version"] == "v2"}
    assert now[1]["name"] == name
    assert now[1]["facts"][0]["effect"] == rests_on
    assert now[2]["name"] != name


def test_small_changes_add_up_to_a_new_name():
    rows = []
    for version, day, effect in (("v1", FIRST, 1.0), ("v2", SECOND, 0.7), ("v3", LAST, 0.4)):
        rows = define([make_cluster(1, 30, effect=effect)], {1: 1} if rows else {}, rows, version, day)

    assert [row["facts"][0]["effect"] for row in rows if row["segment_id"] == 1] == [1.0, 1.0, 0.4]


def test_segments_without_stored_facts_get_new_names():
    first = define([make_cluster(1, 30)], {}, [], "v1", FIRST)
    earlier = [row | {"name": "Old name", "facts": None} for row in first]

    rows = define([make_cluster(1, 30)], {1: 1}, earlier, "v2", SECOND)

    assert [row["name"] for row in rows if row["segment_id"] == 1] == ["Old name", "Frequent buyers"]


def test_the_same_customers_give_the_same_centres_bit_for_bit_in_any_order(spark):
    customers = planted.customers({"loyal": 40, "returner": 30, "nightly": 50, "rare": 60})
    ids = [customer.customer_id for customer in customers]
    vectors = pa.array([planted.vector(customer, "v1") for customer in customers], pa.list_(pa.float32()))
    points = pa.table({"customer_id": ids, "vector": vectors})
    reversed_points = points.take(np.arange(len(ids))[::-1])
    planted_centres = np.array([planted.vector(planted.Customer("", v), "v1") for v in planted.TYPES.values()])[:4]

    target = _fit.inertia(np.array(vectors.to_pylist()), planted_centres)

    centres = _kmeans.fit_best_centres(spark, points, 4, Segment(seeds=10), target)

    again = _kmeans.fit_best_centres(spark, reversed_points, 4, Segment(seeds=10), target)
    assert np.array_equal(centres, again)
    nearest = np.linalg.norm(centres[:, None] - planted_centres, axis=2).min(axis=1)
    assert nearest.max() < 0.1


def make_active(vectors):
    ids = pa.array([f"c{n:03}" for n in range(len(vectors))])
    return ActiveCustomers(FIRST, ids, np.array(vectors, np.float32), np.full(len(vectors), np.nan), 0, None)


def fit_centres(customers, sample_centres, previous, segment):
    return _fit.fit_centres(customers, sample_centres, previous, segment, partial(planted.fit_centres, None))


@pytest.mark.parametrize(("continuity", "is_kept"), [(0.03, True), (0.0, False)])
def test_previous_centres_that_are_nearly_as_good_are_kept_so_that_few_customers_move(continuity, is_kept):
    angles = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # any three thirds of the ring are an equally good fit
    thirds = np.arange(300) // 99 % 3 + 1  # three customers of the first third lie beyond the last
    customers = make_active(ring)
    previous = pa.table({"customer_id": [*customers.ids.to_pylist(), "gone"], "segment_id": [*thirds.tolist(), 2]})

    centres = fit_centres(customers, ring[::100], previous, Segment(continuity=continuity))

    now = pairwise_distances_argmin(ring, centres)
    assert len(centres) == 3
    assert (len(set(zip(thirds.tolist(), now.tolist(), strict=True))) <= 5) == is_kept


def test_previous_centres_that_do_not_fit_the_new_space_are_not_kept():
    vectors = np.repeat([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], 20, axis=0)
    customers = make_active(vectors)  # each segment has a third of each place
    previous = pa.table({"customer_id": customers.ids, "segment_id": [n % 3 + 1 for n in range(60)]})

    centres = fit_centres(customers, vectors[::20], previous, Segment())

    assert sorted(centres.tolist()) == [[0.0, 0.0], [0.0, 9.0], [9.0, 0.0]]


def test_customers_in_one_place_are_no_segments():
    with pytest.raises(UserError, match="all active customers lie in one place"):
        fit_centres(make_active(np.ones((30, 2))), np.ones((3, 2)), None, Segment())


def test_an_active_customer_without_a_vector_is_refused_before_a_fit(lake):
    customers = planted.customers({"loyal": 30, "rare": 30})
    planted.write(lake, {FIRST: ("v1", customers)})
    encoded = lake.read_arrow(ENCODED)
    lake.replace_rows(ENCODED, encoded.filter(pc.field("customer_id") != "rare-7"), [FIRST])

    active = _inputs.read_active(lake, "v1", FIRST)

    with pytest.raises(UserError, match=r"day 2024-03-01: customer rare-7 has no vector; run again: shoal encode"):
        _inputs.require_all_encoded(active)
    assert active.ids.to_pylist() == sorted(c.customer_id for c in customers if c.customer_id != "rare-7")


def test_a_session_is_begun_only_where_a_fit_is_due(shop):
    settings = replace(shop.settings, segment=replace(shop.settings.segment, method="ward"))
    planted.promote(shop.settings.models, "v3", LAST.replace(day=9))

    assert [definitions.needs_spark(shop.lake, shop.settings, day) for day in (FIRST, LAST, LAST.replace(day=9))] == [
        False,
        False,
        True,
    ]
    assert not definitions.needs_spark(shop.lake, settings, LAST.replace(day=9))


@pytest.mark.parametrize(("version", "day"), [("v1", FIRST), ("v2", LAST)])
def test_names_and_descriptions_come_from_the_planted_types(shop, version, day):
    rows = {row["segment_id"]: row for row in shop.rows(definitions, "segment_id") if row["model_version"] == version}

    names = {row["name"] for row in rows.values()}
    assert len(names) == len(rows)
    assert rows[0]["name"] == "Dormant"
    nightly = rows[shop.segment_of("nightly", day)]
    assert nightly["name"].startswith("By night")
    assert nightly["description"].startswith("50 customers: 0.8")
    assert "of the time on the site from 0 to 6 by the shop's clock (average 0." in nightly["description"]
    assert nightly["n_customers"] == 50
    assert nightly["center"] == pytest.approx(planted.vector(planted.Customer("", planted.TYPES["nightly"]), version), abs=0.1)
    assert nightly["outlier_distance"] > nightly["radius"] > 0


def test_each_segment_has_the_indices_of_all_its_customers(shop):
    rows = [row for row in shop.rows(definitions, "segment_id") if row["model_version"] == "v1"]
    encoded = read_arrow(shop.lake.root, "encoded.customers", day=FIRST).to_pylist()
    vectors = np.array([row["vector"] for row in encoded if not row["customer_id"].startswith("dormant")])
    labels = pairwise_distances_argmin(vectors, [row["center"] for row in rows[1:]])

    silhouettes = silhouette_samples(vectors, labels, metric="sqeuclidean")

    of_segment = [silhouettes[labels == number].mean() for number in range(len(rows) - 1)]
    assert [row["silhouette"] for row in rows[1:]] == pytest.approx(of_segment)
    assert np.mean([row["davies_bouldin"] for row in rows[1:]]) == pytest.approx(davies_bouldin_score(vectors, labels))
    assert all(0 < row["wss"] <= row["n_customers"] * row["outlier_distance"] ** 2 for row in rows[1:])
    assert (rows[0]["wss"], rows[0]["silhouette"], rows[0]["davies_bouldin"]) == (None, None, None)


def test_a_retrain_keeps_the_ids_of_the_segments_that_still_exist(shop):
    for kind in ("loyal", "nightly", "rare"):
        assert shop.segment_of(kind, LAST) == shop.segment_of(kind, FIRST)
    assert shop.segment_of("bulk", LAST) == 5
    lives = {row["segment_id"]: (row["born_on"], row["retired_on"]) for row in shop.rows(definitions, "segment_id")}
    assert lives[shop.segment_of("returner", FIRST)] == (FIRST, LAST)
    assert lives[5] == (LAST, None)
