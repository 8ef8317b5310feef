"""marts.segment_moves: who moved since the known day before, and their money."""

from jobs.marts import segment_moves
from tests.jobs.conftest import FIRST, LAST, SECOND


def test_moves_by_hand(spark):
    segments = "customer_id STRING, segment_id INT"
    before = spark.createDataFrame([("a", 1), ("b", 1), ("c", 2), ("gone", 2)], segments)
    now = spark.createDataFrame([("a", 2), ("b", 2), ("c", 2), ("new", 1)], segments)
    rows = [
        ("a", SECOND, 5),
        ("a", FIRST, 99),
        ("b", SECOND, 7),
        ("c", SECOND, 1),
        ("new", SECOND, 3),
        ("gone", FIRST, 4),
    ]
    nets = spark.createDataFrame(rows, "customer_id STRING, day DATE, net INT").selectExpr(
        "customer_id", "day", "CAST(net AS DECIMAL(18,4)) AS net_365d"
    )

    moves = segment_moves.segment_moves(before, now, nets, FIRST, SECOND)

    assert sorted((tuple(row) for row in moves.collect()), key=str) == sorted(
        [(SECOND, FIRST, 1, 2, 2, 12), (SECOND, FIRST, None, 1, 1, 3), (SECOND, FIRST, 2, None, 1, 4)], key=str
    )


def test_moves_of_the_shop_are_against_the_known_day_before(shop):
    loyal, rare, returner = (shop.segment_of(kind, FIRST) for kind in ("loyal", "rare", "returner"))
    rows = shop.rows(segment_moves, "day")
    moves = {(r["day"], r["previous_day"], r["from_segment_id"], r["to_segment_id"]): r["customers"] for r in rows}

    assert moves == {
        (SECOND, FIRST, loyal, rare): 1,
        (SECOND, FIRST, rare, 0): 1,
        (SECOND, FIRST, None, loyal): 1,
        (LAST, SECOND, returner, 0): 30,
        (LAST, SECOND, None, 5): 25,
    }


def test_a_rerun_of_an_earlier_day_renews_the_moves_of_the_day_after(shop):
    before = shop.rows(segment_moves, "day", "from_segment_id", "to_segment_id")
    shop.lake.replace(segment_moves.TABLE, shop.lake.spark.createDataFrame([], segment_moves.SCHEMA))

    segment_moves.run(shop.lake, shop.settings, SECOND)

    assert shop.rows(segment_moves, "day", "from_segment_id", "to_segment_id") == before
