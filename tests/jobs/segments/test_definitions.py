"""segments.definitions: ids that keep their meaning, names that tell segments apart, a fit that repeats."""

import numpy as np
import pytest
from sklearn.metrics import davies_bouldin_score, pairwise_distances_argmin, silhouette_samples

from jobs.config.settings import Segment
from jobs.segments import definitions
from jobs.segments.definitions import Cluster
from jobs.traits import Trait
from tests.jobs import planted
from tests.jobs.conftest import FIRST, LAST, SECOND


def cluster(number, n_customers, effect=1.0):
    return Cluster(number, n_customers, [0.0], 1.0, 2.0, [Trait("orders_365d", "", 9, 2, effect, effect, effect)])


DORMANT = Cluster(0, 7, None, None, None, [])


def ids(rows, version):
    return {row["n_customers"]: row["segment_id"] for row in rows if row["model_version"] == version}


def test_ids_are_kept_or_new_and_never_used_twice():
    def defined(clusters, kept, known, version, day):
        return definitions.definitions([DORMANT, *clusters], kept, known, version, day, planted.CATALOGUE, renamed_at=0.5)

    first = defined([cluster(1, 10), cluster(2, 30)], {}, [], "v1", FIRST)
    assert ids(first, "v1") == {7: 0, 30: 1, 10: 2}  # the largest first

    second = defined([cluster(1, 31), cluster(2, 20)], {1: 1}, first, "v2", SECOND)
    assert ids(second, "v2") == {7: 0, 31: 1, 20: 3}

    third = defined([cluster(1, 5)], {}, second, "v3", LAST)
    assert ids(third, "v3") == {7: 0, 5: 4}
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
def test_a_name_stays_with_the_segment_until_what_it_rests_on_has_changed(effect_now, name, rests_on):
    def defined(found, kept, known, version, day):
        return definitions.definitions([DORMANT, *found], kept, known, version, day, planted.CATALOGUE, renamed_at=0.5)

    first = defined([cluster(1, 30, effect=1.0)], {}, [], "v1", FIRST)
    # A larger segment that is new would be named first, and alike.
    rows = defined([cluster(1, 40, effect=1.0), cluster(2, 10, effect=effect_now)], {2: 1}, first, "v2", SECOND)

    now = {row["segment_id"]: row for row in rows if row["model_version"] == "v2"}
    assert now[1]["name"] == name
    assert now[1]["facts"][0]["effect"] == rests_on
    assert now[2]["name"] != name


def test_small_changes_add_up_to_a_new_name():
    rows = []
    for version, day, effect in (("v1", FIRST, 1.0), ("v2", SECOND, 0.7), ("v3", LAST, 0.4)):
        found = [DORMANT, cluster(1, 30, effect=effect)]
        rows = definitions.definitions(found, {1: 1} if rows else {}, rows, version, day, planted.CATALOGUE, renamed_at=0.5)

    assert [row["facts"][0]["effect"] for row in rows if row["segment_id"] == 1] == [1.0, 1.0, 0.4]


def test_a_lake_written_before_facts_were_kept_is_named_anew():
    first = definitions.definitions([DORMANT, cluster(1, 30)], {}, [], "v1", FIRST, planted.CATALOGUE, renamed_at=0.5)
    before = [row | {"name": "Of old", "facts": None} for row in first]

    rows = definitions.definitions([DORMANT, cluster(1, 30)], {1: 1}, before, "v2", SECOND, planted.CATALOGUE, renamed_at=0.5)

    assert [row["name"] for row in rows if row["segment_id"] == 1] == ["Of old", "Frequent buyers"]


def test_the_same_customers_give_the_same_centres_bit_for_bit_in_any_order(spark):
    made = planted.customers({"loyal": 40, "returner": 30, "nightly": 50, "rare": 60})
    rows = [(customer.customer_id, planted.vector(customer, "v1")) for customer in made]

    def fitted(rows, partitions):
        frame = spark.createDataFrame(rows, "customer_id STRING, vector ARRAY<FLOAT>").repartition(partitions)
        return definitions._fitted_centres(frame, planted_centres, None, Segment(seeds=10))

    planted_centres = np.array([planted.vector(planted.Customer("", v), "v1") for v in planted.TYPES.values()])[:4]

    centres = fitted(rows, 1)
    assert np.array_equal(centres, fitted(rows[::-1], 3))
    nearest = np.linalg.norm(centres[:, None] - planted_centres, axis=2).min(axis=1)
    assert nearest.max() < 0.1


@pytest.mark.parametrize(("continuity", "stay"), [(0.03, True), (0.0, False)])
def test_of_many_fits_nearly_as_good_the_one_that_moves_few_customers_is_taken(spark, continuity, stay):
    at = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    ring = np.stack([np.cos(at), np.sin(at)], axis=1)  # three thirds of it are as good a fit as any other three
    thirds = (np.arange(300) // 99 % 3 + 1).tolist()  # nearly: three customers are in the first third and lie beyond the last
    customers = [(f"c{n}", row, third) for n, (row, third) in enumerate(zip(ring.tolist(), thirds, strict=True))]
    frame = spark.createDataFrame(customers, "customer_id STRING, vector ARRAY<FLOAT>, segment_id INT")
    before = frame.select("customer_id", "segment_id")

    centres = definitions._fitted_centres(frame.drop("segment_id"), ring[::100], before, Segment(continuity=continuity))

    now = pairwise_distances_argmin(ring, centres)
    assert len(centres) == 3
    assert (len(set(zip(thirds, now.tolist(), strict=True))) <= 5) == stay


def test_segments_that_are_none_in_the_new_space_do_not_stay(spark):
    vectors = np.repeat([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], 20, axis=0)
    customers = [(f"c{n}", row, n % 3 + 1) for n, row in enumerate(vectors.tolist())]  # a third of each place in each segment
    frame = spark.createDataFrame(customers, "customer_id STRING, vector ARRAY<FLOAT>, segment_id INT")

    centres = definitions._fitted_centres(
        frame.drop("segment_id"), vectors[::20], frame.select("customer_id", "segment_id"), Segment()
    )

    assert sorted(centres.tolist()) == [[0.0, 0.0], [0.0, 9.0], [9.0, 0.0]]


@pytest.mark.parametrize(("version", "day"), [("v1", FIRST), ("v2", LAST)])
def test_names_and_descriptions_come_from_what_was_planted(shop, version, day):
    rows = {row["segment_id"]: row for row in shop.rows(definitions, "segment_id") if row["model_version"] == version}

    names = {row["name"] for row in rows.values()}
    assert len(names) == len(rows)
    assert rows[0]["name"] == "Dormant"
    nightly = rows[shop.segment_of("nightly", day)]
    assert nightly["name"].startswith("By night")
    assert nightly["description"].startswith("50 customers: 0.8")
    assert "of the time on the site from 0 to 6 o'clock UTC (average 0." in nightly["description"]
    assert nightly["n_customers"] == 50
    assert nightly["center"] == pytest.approx(planted.vector(planted.Customer("", planted.TYPES["nightly"]), version), abs=0.1)
    assert nightly["outlier_distance"] > nightly["radius"] > 0


def test_each_segment_says_how_well_all_its_customers_lie_in_it(shop):
    rows = [row for row in shop.rows(definitions, "segment_id") if row["model_version"] == "v1"]
    active = shop.lake.read("encoded.customers", FIRST, FIRST).where("customer_id NOT LIKE 'dormant%'")
    vectors = np.array([row.vector for row in active.collect()])
    labels = pairwise_distances_argmin(vectors, [row["center"] for row in rows[1:]])

    silhouettes = silhouette_samples(vectors, labels, metric="sqeuclidean")

    of_segment = [silhouettes[labels == number].mean() for number in range(len(rows) - 1)]
    assert [row["silhouette"] for row in rows[1:]] == pytest.approx(of_segment)
    assert np.mean([row["davies_bouldin"] for row in rows[1:]]) == pytest.approx(davies_bouldin_score(vectors, labels))
    assert all(0 < row["wss"] <= row["n_customers"] * row["outlier_distance"] ** 2 for row in rows[1:])
    assert (rows[0]["wss"], rows[0]["silhouette"], rows[0]["davies_bouldin"]) == (None, None, None)


def test_a_retrain_keeps_the_ids_of_the_segments_that_are_still_there(shop):
    for kind in ("loyal", "nightly", "rare"):
        assert shop.segment_of(kind, LAST) == shop.segment_of(kind, FIRST)
    assert shop.segment_of("bulk", LAST) == 5
    lives = {row["segment_id"]: (row["born_on"], row["retired_on"]) for row in shop.rows(definitions, "segment_id")}
    assert lives[shop.segment_of("returner", FIRST)] == (FIRST, LAST)
    assert lives[5] == (LAST, None)
