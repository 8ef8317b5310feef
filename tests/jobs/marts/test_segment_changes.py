"""marts.segment_changes: replayed in the order of days, the feed gives each day's segments exactly."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import combinations

import pytest

from jobs.errors import UserError
from jobs.marts import refreshes, segment_changes, segment_moves
from jobs.segments import assignments, history
from tests.jobs import planted
from tests.jobs.conftest import FIRST, LAST, SECOND

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def replay(rows, segments, since, until):
    """Apply the rows after `since`, up to `until`, to the segments at the end of `since`; each row must fit them."""
    segments = dict(segments)
    for row in sorted(rows, key=lambda row: row["day"]):
        if since < row["day"] <= until:
            was, now = row["from_segment_id"], row["to_segment_id"]
            assert segments.pop(row["customer_id"], None) == was
            assert row["change"] == ("added" if was is None else "removed" if now is None else "changed")
            if now is not None:
                segments[row["customer_id"]] = now
    return segments


@pytest.fixture(scope="module")
def published(spark, tmp_path_factory):
    """A lake of random days, and the segments of each day.

    One day was published late with the next one, one came late, and one was run again.
    """
    lake = planted.Lake(spark, str(tmp_path_factory.mktemp("feed") / "lake"))
    settings, days, randomness = planted.settings(lake), {}, random.Random(3)  # noqa: S311
    for number, is_published in ((0, True), (4, False), (6, True), (2, True), (0, True)):
        day = FIRST + timedelta(days=number)
        segments = {f"c{i}": randomness.choice([None, 1, 1, 1, 2, 3]) for i in range(100)}
        days[day] = {customer: segment for customer, segment in segments.items() if segment is not None}
        rows = [(c, day, segment, None, None, None, False, "v1", None) for c, segment in days[day].items()]
        lake.replace_days(assignments.TABLE, spark.createDataFrame(rows, assignments.SCHEMA), [day])
        money = [(c, day, True, None, 1, 1, Decimal(7), 400, []) for c in days[day]]
        lake.replace_days(planted.FEATURES, spark.createDataFrame(money, planted.FEATURES.schema), [day])
        history.run(lake, settings, day)
        if is_published:
            for table in (segment_changes, segment_moves):
                table.run(lake, settings, day)
            refreshes.run(lake, settings, day, "test", NOON, NOON)
    return lake, days


def read_rows(lake, module):
    return [row.asDict() for row in lake.read(module.TABLE).collect()]


def test_replayed_from_any_day_the_feed_gives_any_later_one(published):
    lake, days = published
    rows = read_rows(lake, segment_changes)
    for since, until in combinations(sorted(days), 2):
        assert replay(rows, days[since], since, until) == days[until]
    assert replay(rows, {}, FIRST - timedelta(days=1), max(days)) == days[max(days)]


def test_the_feed_sums_to_the_moves_published_alone_or_together(published):
    lake, days = published
    steps = Counter(
        (r["day"], r["from_segment_id"], r["to_segment_id"]) for r in read_rows(lake, segment_changes) if r["day"] > FIRST
    )
    moves = {(r["day"], r["from_segment_id"], r["to_segment_id"]): r["customers"] for r in read_rows(lake, segment_moves)}

    apart = {pair: n for pair, n in moves.items() if pair[1:] != (None, None)}
    assert apart.items() <= steps.items()
    assert min(moves.values()) >= 5 > min(steps.values())
    assert Counter({d: sum(n for p, n in moves.items() if p[0] == d) for d in days}) == Counter(d for d, *_ in steps.elements())
    assert all(row["net_365d"] == 7 * row["customers"] for row in read_rows(lake, segment_moves))


def test_the_feed_of_the_shop_names_the_customers(shop):
    loyal, rare = (shop.segment_of(kind, FIRST) for kind in ("loyal", "rare"))
    columns = ("change", "from_segment_id", "to_segment_id")
    rows = {(r["day"], r["customer_id"]): tuple(r[c] for c in columns) for r in shop.rows(segment_changes, "day")}

    assert {key: row for key, row in rows.items() if key[0] == SECOND} == {
        (SECOND, "loyal-0"): ("changed", loyal, rare),
        (SECOND, "rare-0"): ("changed", rare, 0),
        (SECOND, "loyal-new"): ("added", None, loyal),
    }
    assert Counter(row[0] for (day, _), row in rows.items() if day == LAST) == {"changed": 30, "added": 25}
    assert Counter(row[0] for (day, _), row in rows.items() if day == FIRST) == {"added": 200}


def test_an_old_history_without_previous_segment_id_gives_a_one_line_error(lake):
    lake.spark.createDataFrame([("a", FIRST, "v1")], "customer_id STRING, day DATE, model_version STRING").write.format(
        "delta"
    ).partitionBy("day").save(lake.path("segments.assignments"))
    lake.spark.createDataFrame([("a", 1)], "customer_id STRING, segment_id INT").write.format("delta").save(
        lake.path("segments.history")
    )
    with pytest.raises(UserError, match=r"no column previous_segment_id; run first: shoal segment --day 2024-03-01$"):
        segment_changes.run(lake, None, FIRST)
