"""What to do: the figures of each segment, and ideas by rules."""

from jobs.report.actions import describe_actions

SEGMENTS = [
    {"segment_id": 1, "segment_name": "Loyal"},
    {"segment_id": 2, "segment_name": "New"},
    {"segment_id": 0, "segment_name": "Dormant"},
]
WORTH = {"rows": [{"segment_id": 1, "net": 100.0, "buyers": 10}, {"segment_id": 2, "net": 900.0, "buyers": 30}]}
OFFERS = {"segments": [{"segment_id": 1, "products": [{"label": name} for name in ("Tea", "Pot", "Cup", "Jam")]}]}


def outcome(name: str, first: float, second: float) -> dict:
    """An outcome with the mean probabilities of segments 1 and 2, of 100 customers each."""
    rows = [{"segment_id": n, "mean": mean, "expected": 100 * mean, "customers": 100} for n, mean in ((1, first), (2, second))]
    return {"name": name, "rows": rows}


def describe(outcomes=(), moves=(), holdouts=None, worth=WORTH, offers=OFFERS):
    return {row["segment_id"]: row for row in describe_actions(SEGMENTS, worth, outcomes, offers, moves, holdouts or {})}


def test_segments_come_by_the_money_that_is_expected_of_them():
    rows = describe()
    assert list(rows) == [2, 1, 0]
    assert (rows[2]["expected_net"], rows[2]["net_per_buyer"], rows[0]["expected_net"]) == (900.0, 30.0, None)
    assert rows[1]["products"] == ["Tea", "Pot", "Cup"]


def test_an_idea_comes_where_the_probability_is_much_higher_than_the_shops():
    rows = describe([outcome("churn", 0.6, 0.2), outcome("next order", 0.2, 0.6), outcome("returns", 0.3, 0.3)])
    assert rows[1]["ideas"][0].startswith("Ask them back before they go: about 60 of 100")
    assert rows[1]["ideas"][1] == "Give a reason to come back: offer Tea, Pot, Cup."
    assert rows[2]["ideas"] == ["Give no discount for an order that comes anyway: 60 % order soon."]
    assert rows[1]["chances"] == {"churn": 0.6, "next order": 0.2, "returns": 0.3}
    assert rows[0]["ideas"][0].startswith("Win back a part of them")


def test_nothing_is_suggested_of_a_segment_of_which_nothing_is_known():
    rows = describe(worth=None, offers=None)
    assert rows[1]["ideas"] == []
    assert describe(offers=None)[2]["ideas"] == [
        "Nothing sets them apart from the average; leave them alone, or test a small offer."
    ]


def test_moves_and_holdouts_are_those_of_the_segment():
    moves = [
        {"from_segment_id": 1, "to_segment_id": 2, "customers": 7},
        {"from_segment_id": None, "to_segment_id": 2, "customers": 3},
    ]
    rows = describe(moves=moves, holdouts={2: ["spring_sale"]})
    assert (rows[2]["entered"], rows[2]["left"], rows[1]["left"], rows[2]["holdouts"]) == (10, 0, 7, ["spring_sale"])
    assert rows[1]["holdouts"] == []
