"""marts.segment_changes: replayed in the order of days, the feed gives each day's segments exactly."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import combinations

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.errors import UserError
from jobs.marts import _members, refreshes, segment_changes, segment_moves
from jobs.storage.lake import Lake
from tests.jobs import planted
from tests.jobs.conftest import FIRST, LAST, SECOND
from tests.jobs.marts.shop import replace_days, write_assignments, write_history

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
def published(tmp_path_factory):
    """A lake of random days, and the segments of each day.

    One day was published late with the next one, one came late, and one was run again.
    """
    lake = Lake(None, str(tmp_path_factory.mktemp("feed") / "lake"))
    settings, days, randomness = planted.settings(lake), {}, random.Random(3)  # noqa: S311
    for number, is_published in ((0, True), (4, False), (6, True), (2, True), (0, True)):
        day = FIRST + timedelta(days=number)
        segments = {f"c{i}": randomness.choice([None, 1, 1, 1, 2, 3]) for i in range(100)}
        days[day] = {customer: segment for customer, segment in segments.items() if segment is not None}
        write_assignments(
            lake, day, [{"customer_id": c, "day": day, "segment_id": i, "model_version": "v1"} for c, i in days[day].items()]
        )
        money = [{"customer_id": c, "day": day, "net_365d": Decimal(7), "vector": []} for c in days[day]]
        replace_days(lake, planted.FEATURES, money, [day])
        write_history(lake)
        if is_published:
            for table in (segment_changes, segment_moves):
                table.run(lake, settings, day)
            refreshes.run(lake, settings, day, "test", NOON, NOON)
    return lake, days


def read_rows(lake, module):
    return lake.read_arrow(module.TABLE).to_pylist()


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
    assigned = pa.table({"customer_id": ["a"], "day": [FIRST], "model_version": ["v1"]})
    write_deltalake(lake.path("segments.assignments"), assigned, partition_by=["day"])
    write_deltalake(lake.path("segments.history"), pa.table({"customer_id": ["a"], "segment_id": [1]}))
    with pytest.raises(UserError, match=r"no column previous_segment_id; run first: shoal segment --day 2024-03-01$"):
        segment_changes.run(lake, None, FIRST)


def test_an_interval_gives_a_change_on_each_of_the_days_on_which_it_begins_and_ends():
    intervals = [
        ("a", 1, FIRST, SECOND, None),
        ("a", 2, SECOND, None, 1),
        ("gone", 3, FIRST, SECOND, None),
        ("new", 1, SECOND, None, None),
    ]
    columns = _members.INTERVAL_COLUMNS
    history = pa.Table.from_pylist([dict(zip(columns.names, row, strict=True)) for row in intervals], columns)

    changes = segment_changes.list_changes(history, [SECOND])

    assert [tuple(row.values()) for row in changes.to_pylist()] == [
        (SECOND, "a", "changed", 1, 2), (SECOND, "gone", "removed", 3, None), (SECOND, "new", "added", None, 1),
    ]  # fmt: skip
