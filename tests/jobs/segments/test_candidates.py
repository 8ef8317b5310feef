"""segments.candidates: the planted number of clusters is chosen, and too few customers give an error."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.config.settings import Segment
from jobs.errors import UserError
from jobs.segments import candidates
from jobs.segments.model_selection import alternatives, evaluate
from tests.jobs import planted
from tests.jobs.planted import DAY

SMALL = Segment(k_min=2, k_max=6, min_customers=10)


def list_kmeans(*arguments):
    """Return the rows of K-Means."""
    return [row for row in evaluate.list_candidates(*arguments) if row["method"] == "kmeans"]


def make_vectors(sizes):
    return np.array([planted.vector(customer, "v1") for customer in planted.customers(sizes)])


def test_the_number_of_planted_types_is_chosen_and_every_k_is_kept():
    rows = list_kmeans(make_vectors({"loyal": 40, "returner": 30, "nightly": 50, "rare": 60}), "v1", DAY, SMALL)

    assert [row["k"] for row in rows] == [2, 3, 4, 5, 6]
    assert [row["k"] for row in rows if row["chosen"]] == [4]
    assert rows[2]["cluster_sizes"] == [60, 50, 40, 30]
    assert rows[2]["smallest_share"] == 30 / 180
    assert rows[2]["refused_by"] is None
    assert rows[2]["stability"] == 1.0
    assert rows[2]["cluster_stability"] == [1.0] * 4
    assert all(row["wss"] > 0 for row in rows)
    assert rows == list_kmeans(make_vectors({"loyal": 40, "returner": 30, "nightly": 50, "rare": 60}), "v1", DAY, SMALL)


@pytest.mark.parametrize(
    ("limits", "refused"),
    [
        ({"min_customers": 5}, "a cluster of 8 customers, 0.6 %"),
        ({"min_share": 0}, "a cluster of 8 customers, 0.6 %"),
        ({"min_share": 0, "min_customers": 5}, None),
    ],
)
def test_a_k_that_gives_a_small_cluster_is_refused(limits, refused):
    sizes = {"loyal": 400, "returner": 500, "nightly": 450, "rare": 8}

    rows = list_kmeans(make_vectors(sizes), "v1", DAY, Segment(k_min=3, k_max=4, **limits))

    assert [row["refused_by"] for row in rows] == [None, refused]
    assert [row["stability"] is None for row in rows] == [False, refused is not None]  # resamples would cost most of the sweep


def test_a_k_is_refused_where_resamples_of_the_customers_are_clustered_differently():
    blob = np.random.default_rng(1).normal(size=(800, 3))

    rows = list_kmeans(blob, "v1", DAY, Segment(k_min=5, k_max=6))

    assert all(row["refused_by"] == f"stability {row['stability']:.2f}" for row in rows)
    assert all(max(row["cluster_stability"]) < 0.8 for row in rows)


def test_where_every_k_is_refused_the_most_stable_is_chosen_and_the_log_says_so(capsys):
    rows = list_kmeans(np.random.default_rng(1).normal(size=(800, 3)), "v1", DAY, Segment(k_min=5, k_max=7))

    (chosen,) = [row for row in rows if row["chosen"]]
    assert chosen["stability"] == max(row["stability"] for row in rows)
    assert f"every number of clusters was refused; took k = {chosen['k']}, the most stable: " in capsys.readouterr().out


def test_alternative_methods_have_as_many_clusters_and_the_same_figures():
    vectors = make_vectors({"loyal": 60, "returner": 70, "nightly": 50, "rare": 60})

    (kmeans,) = [row for row in list_kmeans(vectors, "v1", DAY, SMALL) if row["chosen"]]

    rows = {row["method"]: row for row in [kmeans, *alternatives.try_alternatives(vectors, 4, SMALL)]}

    assert list(rows) == ["kmeans", "bisecting", "gaussian_mixture", "ward", "hdbscan"]
    for method, row in rows.items():
        assert row["cluster_sizes"] == [70, 60, 60, 50], method
        assert row["silhouette"] == pytest.approx(rows["kmeans"]["silhouette"])
        assert row["wss"] == pytest.approx(rows["kmeans"]["wss"])
        assert row["stability"] == pytest.approx(1.0)
        assert row["chosen"] == (method == "kmeans")


def test_customers_whom_hdbscan_leaves_out_are_reported_and_excluded_from_the_figures():
    random = np.random.default_rng(2)
    strays = random.uniform(-60, 60, size=(40, 3))
    vectors = np.concatenate([random.normal(place, 0.1, size=(200, 3)) for place in (0, 5)] + [strays])

    (row,) = [row for row in alternatives.try_alternatives(vectors, 2, SMALL) if row["method"] == "hdbscan"]

    assert row["k"] == 2
    assert row["refused_by"].endswith(" % of the customers in no cluster")
    assert 400 <= sum(row["cluster_sizes"]) < 440
    assert row["silhouette"] > 0.99


def test_the_method_in_the_settings_is_chosen_with_its_centres():
    vectors = make_vectors({"loyal": 60, "returner": 70, "nightly": 50, "rare": 60})

    rows = evaluate.list_candidates(vectors, "v1", DAY, replace(SMALL, method="ward"))

    (chosen,) = [row for row in rows if row["chosen"]]
    assert (chosen["method"], chosen["k"], len(chosen["centers"])) == ("ward", 4, 4)


def test_too_few_customers_give_a_one_line_error():
    with pytest.raises(UserError, match=r"too few customers to cluster on 2024-03-01: 19 active with 19 different"):
        list_kmeans(make_vectors({"loyal": 10, "rare": 9}), "v1", DAY, SMALL)


def test_equal_customers_are_too_few_different_ones():
    with pytest.raises(UserError, match=r"too few customers to cluster on 2024-03-01: 500 active with 1 different"):
        list_kmeans(np.ones((500, 3)), "v1", DAY, SMALL)


def test_a_vector_with_nan_gives_a_one_line_error():
    points = make_vectors({"loyal": 100})
    points[7, 1] = np.nan

    with pytest.raises(UserError, match=r"encoded.customers, day 2024-03-01: 1 active customers have a vector that is no number"):
        list_kmeans(points, "v1", DAY, SMALL)


def test_few_customers_limit_the_ks_that_are_tried():
    rows = list_kmeans(make_vectors({"loyal": 15, "rare": 16}), "v1", DAY, SMALL)

    assert [(row["k"], row["chosen"]) for row in rows] == [(2, True), (3, False)]


def test_settings_that_allow_no_k_are_refused():
    with pytest.raises(UserError, match=r"segment.k_min = 5 and segment.k_max = 4"):
        list_kmeans(make_vectors({"loyal": 100}), "v1", DAY, Segment(k_min=5, k_max=4))


def test_each_model_is_evaluated_once(shop):
    rows = shop.rows(candidates, "model_version", "k")

    assert [(row["model_version"], row["k"]) for row in rows if row["chosen"]] == [("v1", 4), ("v2", 4)]
    assert len([row for row in rows if row["method"] == "kmeans"]) == 8
