"""marts.segment_moves: the customers who moved since the known day before, and their money."""

import pyarrow as pa
import pytest

from jobs.marts import segment_changes, segment_moves
from tests.jobs.conftest import FIRST, LAST, SECOND


def test_moves_of_hand_made_changes():
    rows = [
        (SECOND, "a", "changed", 1, 2),
        (SECOND, "b", "changed", 1, 2),
        (SECOND, "new", "added", None, 1),
        (SECOND, "gone", "removed", 2, None),
        (FIRST, "a", "added", None, 1),
    ]
    changes = to_table(segment_changes.TABLE.arrow_schema, rows)
    rows = [("a", SECOND, 5), ("a", FIRST, 99), ("b", SECOND, 7), ("c", SECOND, 1), ("new", SECOND, 3), ("gone", FIRST, 4)]
    nets = to_table(pa.schema({"customer_id": pa.string(), "day": pa.date32(), "net_365d": pa.decimal128(18, 4)}), rows)

    moves = segment_moves.sum_moves(changes, nets, {SECOND: FIRST})

    assert [tuple(row.values()) for row in moves] == [
        (SECOND, FIRST, 1, 2, 2, 12), (SECOND, FIRST, 2, None, 1, 4), (SECOND, FIRST, None, 1, 1, 3),
    ]  # fmt: skip


def test_moves_of_customers_whose_money_is_not_known_have_none():
    changes = to_table(segment_changes.TABLE.arrow_schema, [(SECOND, "a", "changed", 1, 2)])
    no_money = pa.schema({"customer_id": pa.string(), "day": pa.date32(), "net_365d": pa.decimal128(18, 4)}).empty_table()

    (move,) = segment_moves.sum_moves(changes, no_money, {SECOND: FIRST})

    assert (move["customers"], move["net_365d"]) == (1, None)


def to_table(schema, rows):
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)


@pytest.mark.parametrize(
    ("moves", "published"),
    [
        ([], []),
        ([(1, 2, 9, 90), (2, 1, 5, 50)], [(2, 1, 5, 50), (1, 2, 9, 90)]),
        ([(1, 2, 9, 90), (2, 1, 4, 40), (2, 3, 1, 10)], [(1, 2, 9, 90), (None, None, 5, 50)]),
        ([(1, 2, 9, 90), (2, 1, 6, None), (2, 3, 4, 40)], [(1, 2, 9, 90), (None, None, 10, 40)]),  # 4 alone are too few
        ([(1, 2, 2, 20), (None, 1, 1, 10)], [(None, None, 3, None)]),
    ],
)
def test_moves_that_are_too_small_are_published_together_and_the_sum_is_kept(moves, published):
    columns = ("from_segment_id", "to_segment_id", "customers", "net_365d")
    rows = segment_moves.merge_small_moves([dict(zip(columns, row, strict=True)) for row in moves], min_cell=5)

    assert [tuple(row[c] for c in columns) for row in rows] == published


def test_moves_of_the_shop_are_against_the_known_day_before(shop):
    returner = shop.segment_of("returner", FIRST)
    rows = shop.rows(segment_moves, "day")
    moves = {(r["day"], r["previous_day"], r["from_segment_id"], r["to_segment_id"]): r["customers"] for r in rows}

    assert moves == {
        (SECOND, FIRST, None, None): 3,
        (LAST, SECOND, returner, 0): 30,
        (LAST, SECOND, None, 5): 25,
    }


def test_a_rerun_of_an_earlier_day_also_writes_the_moves_of_the_next_day(shop):
    before = shop.rows(segment_moves, "day", "from_segment_id", "to_segment_id")
    shop.lake.replace_rows(segment_moves.TABLE, segment_moves.TABLE.arrow_schema.empty_table())

    shop.run(segment_moves.run, SECOND)

    assert shop.rows(segment_moves, "day", "from_segment_id", "to_segment_id") == before
