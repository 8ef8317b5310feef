"""marts.customer_segments: the latest day only, since when, and reasons that hold."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from jobs.errors import UserError
from jobs.marts import customer_segments, pipeline
from tests.jobs import planted
from tests.jobs.conftest import FIRST, LAST, PUBLISH, SECOND


def rows_by_customer(shop):
    return {row["customer_id"]: row for row in shop.rows(customer_segments, "customer_id")}


def test_each_customer_of_the_latest_day_has_one_row_with_the_current_interval(shop):
    rows = rows_by_customer(shop)
    loyal, rare = shop.segment_of("loyal", FIRST), shop.segment_of("rare", FIRST)

    assert len(rows) == 40 + 30 + 50 + 60 + 20 + 1 + 25
    assert {row["as_of_day"] for row in rows.values()} == {LAST}
    interval = ("segment_id", "since_day", "previous_segment_id")
    assert [rows["loyal-0"][c] for c in interval] == [rare, SECOND, loyal]
    assert [rows["rare-0"][c] for c in interval] == [0, SECOND, rare]
    assert [rows["loyal-1"][c] for c in interval] == [loyal, FIRST, None]
    assert [rows["bulk-1"][c] for c in interval] == [5, LAST, None]


def test_reasons_name_the_features_that_separate_the_customer_from_the_runner_up(shop):
    rows = rows_by_customer(shop)

    by_night = r"0\.[78]\d* of the time on the site from 0 to 6 o'clock UTC, typical of the runner-up 0\.(1\d*|0[89]\d*)"
    assert re.fullmatch(by_night, rows["nightly-3"]["reasons"][0])
    assert rows["nightly-3"]["runner_up_name"] in {row["segment_name"] for row in rows.values()} - {
        rows["nightly-3"]["segment_name"]
    }
    assert all(1 <= len(row["reasons"]) <= 3 for row in rows.values())
    assert {row["reasons_hold"] for row in rows.values() if row["segment_id"]} == {True}
    assert rows["dormant-7"]["reasons_hold"] is None
    assert rows["dormant-7"]["reasons"] == ["no event or order for 407 days"]
    assert rows["dormant-0"]["reasons"] == ["no event or order on record"]


def test_the_table_property_lists_the_features_that_are_one_reason(shop):
    families = json.loads(shop.lake.properties(customer_segments.TABLE.name)[customer_segments.FAMILIES_PROPERTY])

    assert sorted(name for family in families for name in family) == sorted(planted.NAMES)


def test_confidence_is_a_share_and_1_for_dormant_customers(shop):
    rows = rows_by_customer(shop)

    assert all(0 <= row["confidence"] <= 1 for row in rows.values())
    assert rows["dormant-7"]["confidence"] == 1.0
    assert rows["nightly-3"]["confidence"] > 0.8


def test_a_customer_first_known_a_few_days_ago_has_less_confidence(shop):
    rows = rows_by_customer(shop)
    active = [row for row in rows.values() if row["segment_id"]]
    share = sum(row["segment_id"] == rows["loyal-1"]["segment_id"] for row in active) / len(active)

    assert rows["loyal-1"]["confidence"] == 1.0
    assert rows["loyal-new"]["confidence"] == pytest.approx(share + 3 / 30 * (1 - share))


def test_publishing_an_older_day_changes_nothing(shop):
    version = shop.lake.version(customer_segments.TABLE.name)

    shop.run(customer_segments.run, LAST - timedelta(days=2))

    assert shop.lake.version(customer_segments.TABLE.name) == version


def test_a_missing_encoder_is_found_before_anything_of_the_day_is_written(shop):
    names = [table.TABLE.name for table in PUBLISH]
    before, now = [shop.lake.version(name) for name in names], datetime(2024, 3, 5, tzinfo=UTC)

    with pytest.raises(UserError, match=r"v2/encoder.onnx is missing; train again"):
        pipeline.run(shop.lake, shop.settings, [LAST], "again", now, lambda: now)

    assert [shop.lake.version(name) for name in names] == before
