"""segments.candidates: the number of clusters is the one that was planted, and too little data says so."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.config.settings import Segment
from jobs.errors import UserError
from jobs.segments import candidates
from tests.jobs import planted
from tests.jobs.planted import DAY

SMALL = Segment(k_min=2, k_max=6, min_customers=10)


def curve(*arguments):
    """The rows of K-Means."""
    return [row for row in candidates.candidates(*arguments) if row["method"] == "kmeans"]


def vectors(sizes):
    return np.array([planted.vector(customer, "v1") for customer in planted.customers(sizes)])


def test_the_number_of_planted_types_is_chosen_and_the_whole_curve_is_kept():
    rows = curve(vectors({"loyal": 40, "returner": 30, "nightly": 50, "rare": 60}), "v1", DAY, SMALL)

    assert [row["k"] for row in rows] == [2, 3, 4, 5, 6]
    assert [row["k"] for row in rows if row["chosen"]] == [4]
    assert rows[2]["cluster_sizes"] == [60, 50, 40, 30]
    assert rows[2]["smallest_share"] == 30 / 180
    assert rows[2]["refused_by"] is None
    assert rows[2]["stability"] == 1.0
    assert rows[2]["cluster_stability"] == [1.0] * 4
    assert all(row["wss"] > 0 for row in rows)
    assert rows == curve(vectors({"loyal": 40, "returner": 30, "nightly": 50, "rare": 60}), "v1", DAY, SMALL)


@pytest.mark.parametrize(
    ("limits", "refused"),
    [
        ({"min_customers": 5}, "a cluster of 8 customers, 0.6 %"),
        ({"min_share": 0}, "a cluster of 8 customers, 0.6 %"),
        ({"min_share": 0, "min_customers": 5}, None),
    ],
)
def test_a_number_that_gives_a_small_cluster_is_refused(limits, refused):
    sizes = {"loyal": 400, "returner": 500, "nightly": 450, "rare": 8}

    rows = curve(vectors(sizes), "v1", DAY, Segment(k_min=3, k_max=4, **limits))

    assert [row["refused_by"] for row in rows] == [None, refused]


def test_a_number_is_refused_where_other_customers_drawn_from_the_same_would_be_clustered_otherwise():
    blob = np.random.default_rng(1).normal(size=(800, 3))

    rows = curve(blob, "v1", DAY, Segment(k_min=5, k_max=6))

    assert all(row["refused_by"] == f"stability {row['stability']:.2f}" for row in rows)
    assert all(max(row["cluster_stability"]) < 0.8 for row in rows)


def test_where_every_number_is_refused_the_most_stable_is_taken_aloud(capsys):
    rows = curve(np.random.default_rng(1).normal(size=(800, 3)), "v1", DAY, Segment(k_min=5, k_max=7))

    (chosen,) = [row for row in rows if row["chosen"]]
    assert chosen["stability"] == max(row["stability"] for row in rows)
    assert f"every number of clusters was refused; took k = {chosen['k']}, the most stable: " in capsys.readouterr().out


def test_other_methods_stand_beside_with_as_many_clusters_and_the_same_figures():
    made = vectors({"loyal": 60, "returner": 70, "nightly": 50, "rare": 60})

    rows = {row["method"]: row for row in candidates.candidates(made, "v1", DAY, SMALL) if row["k"] == 4}

    assert list(rows) == ["kmeans", "bisecting", "gaussian_mixture", "ward", "hdbscan"]
    for method, row in rows.items():
        assert row["cluster_sizes"] == [70, 60, 60, 50], method
        assert row["silhouette"] == pytest.approx(rows["kmeans"]["silhouette"])
        assert row["wss"] == pytest.approx(rows["kmeans"]["wss"])
        assert row["stability"] == pytest.approx(1.0)
        assert row["chosen"] == (method == "kmeans")


def test_customers_whom_hdbscan_leaves_out_are_counted_and_do_not_count():
    random = np.random.default_rng(2)
    strays = random.uniform(-60, 60, size=(40, 3))
    made = np.concatenate([random.normal(at, 0.1, size=(200, 3)) for at in (0, 5)] + [strays])

    (row,) = [row for row in candidates.candidates(made, "v1", DAY, SMALL) if row["method"] == "hdbscan"]

    assert row["k"] == 2
    assert row["refused_by"].endswith(" % of the customers in no cluster")
    assert 400 <= sum(row["cluster_sizes"]) < 440
    assert row["silhouette"] > 0.99


def test_the_method_of_the_setting_is_chosen_with_its_centres():
    made = vectors({"loyal": 60, "returner": 70, "nightly": 50, "rare": 60})

    rows = candidates.candidates(made, "v1", DAY, replace(SMALL, method="ward"))

    (chosen,) = [row for row in rows if row["chosen"]]
    assert (chosen["method"], chosen["k"], len(chosen["centers"])) == ("ward", 4, 4)


def test_too_few_customers_to_cluster_are_one_line():
    with pytest.raises(UserError, match=r"too few customers to cluster on 2024-03-01: 19 active with 19 different"):
        curve(vectors({"loyal": 10, "rare": 9}), "v1", DAY, SMALL)


def test_equal_customers_are_too_few_that_differ():
    with pytest.raises(UserError, match=r"too few customers to cluster on 2024-03-01: 500 active with 1 different"):
        curve(np.ones((500, 3)), "v1", DAY, SMALL)


def test_a_vector_that_is_no_number_is_one_line():
    points = vectors({"loyal": 100})
    points[7, 1] = np.nan

    with pytest.raises(UserError, match=r"encoded.customers, day 2024-03-01: 1 active customers have a vector that is no number"):
        curve(points, "v1", DAY, SMALL)


def test_few_customers_limit_the_numbers_that_are_tried():
    rows = curve(vectors({"loyal": 15, "rare": 16}), "v1", DAY, SMALL)

    assert [(row["k"], row["chosen"]) for row in rows] == [(2, True), (3, False)]


def test_settings_that_allow_no_number_are_refused():
    with pytest.raises(UserError, match=r"segment.k_min = 5 and segment.k_max = 4"):
        curve(vectors({"loyal": 100}), "v1", DAY, Segment(k_min=5, k_max=4))


def test_each_model_has_its_curve_once(shop):
    rows = shop.rows(candidates, "model_version", "k")

    assert [(row["model_version"], row["k"]) for row in rows if row["chosen"]] == [("v1", 4), ("v2", 4)]
    assert len([row for row in rows if row["method"] == "kmeans"]) == 8
