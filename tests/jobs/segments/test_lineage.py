"""segments.lineage: what became of each segment at a retrain."""

from jobs.config.settings import Segment
from jobs.segments import _matching, lineage
from tests.jobs.conftest import FIRST, LAST


def test_every_kind_of_hand_made_customers():
    shared = {
        (1, 1): 40,
        (1, 3): 30,  # of the 45 in 3 that were active before
        (2, 3): 15,
        (2, 1): 5,
        (4, 1): 20,
        (4, 3): 0,
        (5, 0): 6,
        (6, 1): 4,
        (6, 7): 6,
        (None, 3): 25,
        (None, 7): 9,
        (0, 1): 5,
        (2, None): 1,
        (0, 0): 9,
    }

    rows = lineage.trace_lineage(shared, "v2", LAST, Segment())

    columns = ("kind", "from_segment_id", "to_segment_id", "n_customers", "overlap")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("kept", 1, 1, 40, 40 / 69),  # 70 were in it, 69 active ones are now
        ("merged", 2, 3, 15, 15 / 20),
        ("split", 1, 3, 30, 30 / 45),
        ("merged", 4, 1, 20, 1.0),
        ("died", 5, None, 6, None),  # all its customers fell dormant
        ("merged", 6, 7, 6, 0.6),
        ("born", None, 7, 15, None),  # the segment most came from is gone
    ]
    assert {row["day"] for row in rows} == {LAST}


def test_without_a_majority_segments_are_born_and_die():
    shared = {(1, 1): 10, (2, 2): 10, (1, 4): 4, (2, 4): 4, (3, 1): 3, (3, 2): 3}

    rows = lineage.trace_lineage(shared, "v2", LAST, Segment(moved_share=0.6))

    assert [(row["kind"], row["n_customers"]) for row in rows] == [("kept", 10), ("kept", 10), ("died", 6), ("born", 8)]


def test_a_pair_below_the_share_of_the_smaller_side_is_no_match():
    assert _matching.match_segments({(1, 1): 49, (1, 2): 51, (2, 1): 51, (2, 2): 49}, 0.5) == {1: 2, 2: 1}
    assert _matching.match_segments({(1, 1): 49, (1, 2): 51, (2, 1): 51, (2, 2): 49}, 0.6) == {}
    assert _matching.match_segments({(1, 1): 40, (2, 1): 35, (3, 1): 35, (1, 2): 60, (4, 2): 65}, 0.5) == {2: 4}
    assert _matching.match_segments({(None, 1): 40, (0, 1): 5, (2, 0): 3}, 0.5) == {}


def test_lineage_of_the_retrain_of_the_shop(shop):
    rows = shop.rows(lineage, "from_segment_id", "to_segment_id")

    returner = shop.segment_of("returner", FIRST)
    kept = sorted(shop.segment_of(kind, FIRST) for kind in ("loyal", "nightly", "rare"))
    assert [row["kind"] for row in rows if row["model_version"] == "v1"] == []
    assert sorted(row["to_segment_id"] for row in rows if row["kind"] == "kept") == kept
    assert all(row["overlap"] == 1.0 for row in rows if row["kind"] == "kept")
    assert [(row["from_segment_id"], row["n_customers"]) for row in rows if row["kind"] == "died"] == [(returner, 30)]
    assert [(row["to_segment_id"], row["n_customers"]) for row in rows if row["kind"] == "born"] == [(5, 25)]
