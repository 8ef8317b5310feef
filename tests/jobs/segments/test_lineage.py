"""segments.lineage: what a retrain made of each segment."""

from jobs.segments import _matching, lineage
from tests.jobs.conftest import FIRST, LAST


def test_kept_born_and_died_by_hand():
    shared = {
        (1, 1): 40,
        (1, 3): 10,
        (2, 3): 20,
        (2, 0): 30,
        (None, 3): 25,
        (0, 1): 5,
        (2, None): 1,
        (0, 0): 9,
        (4, 0): 6,
    }

    rows = lineage.lineage(shared, "v2", LAST)

    columns = ("kind", "from_segment_id", "to_segment_id", "n_customers", "overlap")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("kept", 1, 1, 40, 1.0),  # all 40 that are active on both sides of the new one
        ("died", 2, None, 51, None),
        ("born", None, 3, 55, None),
        ("died", 4, None, 6, None),  # all its customers fell dormant
    ]
    assert {row["day"] for row in rows} == {LAST}


def test_less_than_half_of_the_smaller_side_is_no_match():
    assert _matching.matches({(1, 1): 49, (1, 2): 51, (2, 1): 51, (2, 2): 49}) == {1: 2, 2: 1}
    assert _matching.matches({(1, 1): 40, (2, 1): 35, (3, 1): 35, (1, 2): 60, (4, 2): 65}) == {2: 4}
    assert _matching.matches({(None, 1): 40, (0, 1): 5, (2, 0): 3}) == {}


def test_the_retrain_of_the_shop_is_told(shop):
    rows = shop.rows(lineage, "from_segment_id", "to_segment_id")

    returner = shop.segment_of("returner", FIRST)
    kept = sorted(shop.segment_of(kind, FIRST) for kind in ("loyal", "nightly", "rare"))
    assert [row["kind"] for row in rows if row["model_version"] == "v1"] == []
    assert sorted(row["to_segment_id"] for row in rows if row["kind"] == "kept") == kept
    assert all(row["overlap"] == 1.0 for row in rows if row["kind"] == "kept")
    assert [(row["from_segment_id"], row["n_customers"]) for row in rows if row["kind"] == "died"] == [(returner, 30)]
    assert [(row["to_segment_id"], row["n_customers"]) for row in rows if row["kind"] == "born"] == [(5, 25)]
