"""marts.customer_segments: the latest day only, since when, and reasons that hold."""

import json
import re
from datetime import timedelta

import pytest

from jobs import steps
from jobs.errors import UserError
from jobs.marts import customer_segments
from jobs.storage.delta import read_properties
from tests.jobs import planted
from tests.jobs.conftest import FIRST, LAST, PUBLISH, SECOND


def rows_of(shop):
    return {row["customer_id"]: row for row in shop.rows(customer_segments, "customer_id")}


def test_each_customer_of_the_latest_day_is_there_once_with_its_stay(shop):
    rows = rows_of(shop)
    loyal, rare = shop.segment_of("loyal", FIRST), shop.segment_of("rare", FIRST)

    assert len(rows) == 40 + 30 + 50 + 60 + 20 + 1 + 25
    assert {row["as_of_day"] for row in rows.values()} == {LAST}
    stay = ("segment_id", "since_day", "previous_segment_id")
    assert [rows["loyal-0"][c] for c in stay] == [rare, SECOND, loyal]
    assert [rows["rare-0"][c] for c in stay] == [0, SECOND, rare]
    assert [rows["loyal-1"][c] for c in stay] == [loyal, FIRST, None]
    assert [rows["bulk-1"][c] for c in stay] == [5, LAST, None]


def test_reasons_name_the_features_that_speak_against_the_runner_up(shop):
    rows = rows_of(shop)

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


def test_the_table_says_which_features_are_one_reason(shop):
    families = json.loads(read_properties(shop.lake.path(customer_segments.TABLE.name))[customer_segments.FAMILIES_PROPERTY])

    assert sorted(name for family in families for name in family) == sorted(planted.NAMES)


def test_confidence_is_a_share_and_certain_for_dormant(shop):
    rows = rows_of(shop)

    assert all(0 <= row["confidence"] <= 1 for row in rows.values())
    assert rows["dormant-7"]["confidence"] == 1.0
    assert rows["nightly-3"]["confidence"] > 0.8


def test_a_customer_first_known_a_few_days_ago_is_given_less_confidence(shop):
    rows = rows_of(shop)
    active = [row for row in rows.values() if row["segment_id"]]
    share = sum(row["segment_id"] == rows["loyal-1"]["segment_id"] for row in active) / len(active)

    assert rows["loyal-1"]["confidence"] == 1.0
    assert rows["loyal-new"]["confidence"] == pytest.approx(share + 3 / 30 * (1 - share))


def test_an_older_day_leaves_what_is_published(shop):
    version = shop.lake.version(customer_segments.TABLE.name)

    customer_segments.run(shop.lake, shop.settings, LAST - timedelta(days=2))

    assert shop.lake.version(customer_segments.TABLE.name) == version


def test_a_model_without_its_encoder_is_missed_before_anything_of_the_day_is_written(shop):
    names = [table.TABLE.name for table in PUBLISH]
    before = [shop.lake.version(name) for name in names]

    with pytest.raises(UserError, match=r"v2/encoder.onnx is missing; train again"):
        steps.run_on_lake(shop.lake, ("publish",), shop.settings, steps.Options([LAST], run_id="again"))

    assert [shop.lake.version(name) for name in names] == before
