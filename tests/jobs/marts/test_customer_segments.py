"""marts.customer_segments: the latest day only, since when, and reasons that hold."""

import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from jobs.errors import UserError
from jobs.marts import _members, customer_segments, pipeline
from jobs.marts._campaigns import HOLDOUTS
from jobs.marts._members import CUSTOMER_COLUMNS, SEGMENT_COLUMNS
from jobs.marts.customer_segments import TABLE
from jobs.storage.lake import Lake
from tests.jobs import planted
from tests.jobs.conftest import FIRST, LAST, SECOND
from tests.jobs.marts.shop import PUBLISH, Shop, replace_days


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

    by_night = r"0\.[78]\d* of the time on the site from 0 to 6 by the shop's clock, typical of the runner-up 0\.(1\d*|0[89]\d*)"
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


@pytest.mark.parametrize(("limit", "customers"), [("CUSTOMERS_PER_BUCKET", 100), ("BATCH_ROWS", 7)])
def test_several_buckets_or_batches_give_the_rows_of_one(shop, tmp_path, monkeypatch, limit, customers):
    before = shop.rows(customer_segments, "customer_id")
    copied = Shop(Lake(None, shutil.copytree(shop.lake.root, tmp_path / "lake")), shop.settings)
    monkeypatch.setattr(customer_segments, limit, customers)

    copied.run(customer_segments.run, LAST)

    assert copied.lake.version(TABLE.name) == shop.lake.version(TABLE.name) + 1
    assert copied.rows(customer_segments, "customer_id") == before


def test_a_large_segment_is_sampled_by_the_hash_of_spark(monkeypatch):
    monkeypatch.setattr(customer_segments, "SAMPLE_PER_SEGMENT", 1)
    rows = [("a", 1), ("c", 1), ("g", 1), ("asleep", 0), ("alone", 2)]  # pmod(xxhash64(customer_id), 3) is 0, 2 and 1

    drawn = customer_segments.draw_sample(to_assignments(rows), {1: 3, 2: 1})

    assert drawn.to_pylist() == ["a", "alone"]


def test_a_segment_of_few_customers_is_the_whole_sample(shop):
    assignments = _members.read_rows(_members.scan_assignments(shop.lake, FIRST, ["customer_id", "segment_id"]))
    sizes = {1: 40, 2: 30, 3: 50, 4: 60}

    assert len(customer_segments.draw_sample(assignments, sizes)) == sum(sizes.values())


def test_a_day_of_dormant_customers_needs_no_encoder():
    customers = pa.Table.from_pylist([{"customer_id": "b", "recency_days": 1234}, {"customer_id": "a"}], CUSTOMER_COLUMNS)
    tables = {
        "customers": customers,
        "vectors": pa.table({"customer_id": pa.array([], pa.string()), "vector": pa.array([], pa.list_(pa.float32()))}),
        "assignments": to_assignments([("a", 0), ("b", 0)]),
        "memberships": _members.INTERVAL_COLUMNS.empty_table(),
        "values": _members.VALUE_COLUMNS.empty_table(),
        "churn": _members.OUTCOME_COLUMNS.empty_table(),
        "holdouts": _members.HOLDOUT_COLUMNS.empty_table(),
    }

    rows = describe(tables, None)["rows"].to_pylist()

    assert [(row["customer_id"], row["reasons"], row["confidence"], row["reasons_hold"]) for row in rows] == [
        ("a", ["no event or order on record"], 1.0, None), ("b", ["no event or order for 1,234 days"], 1.0, None),
    ]  # fmt: skip
    assert {(row["segment_name"], row["runner_up_name"], row["since_day"]) for row in rows} == {("Dormant", None, None)}


def test_a_customer_in_a_segment_without_a_vector_gives_a_one_line_error():
    tables = {
        "customers": pa.Table.from_pylist([{"customer_id": "a"}], CUSTOMER_COLUMNS),
        "vectors": pa.table({"customer_id": pa.array([], pa.string()), "vector": pa.array([], pa.list_(pa.float32()))}),
        "assignments": to_assignments([("a", 1)]),
        "memberships": _members.INTERVAL_COLUMNS.empty_table(),
        "values": _members.VALUE_COLUMNS.empty_table(),
        "churn": _members.OUTCOME_COLUMNS.empty_table(),
        "holdouts": _members.HOLDOUT_COLUMNS.empty_table(),
    }

    with pytest.raises(UserError, match=r"^publish: 1 customers are in a segment on 2024-03-01 and not active in features"):
        describe(tables, None)


def to_assignments(rows: list[tuple[str, int]]) -> pa.Table:
    return pa.Table.from_pylist([{"customer_id": c, "segment_id": i} for c, i in rows], SEGMENT_COLUMNS)


def describe(tables, explainer):
    calibration = customer_segments.Calibration({}, {}, 30)
    names = {0: "Dormant", 1: "LOYAL"}
    return customer_segments.describe_customers(tables, names, explainer, calibration, [], FIRST)


def test_features_written_again_since_the_day_was_segmented_give_a_one_line_error(shop, tmp_path):
    copied = Shop(Lake(None, shutil.copytree(shop.lake.root, tmp_path / "lake")), shop.settings)
    rows = copied.lake.read_small_table(planted.FEATURES, where=ds.field("day") == LAST)
    replace_days(copied.lake, planted.FEATURES, [row | {"is_active": False} for row in rows], [LAST])

    with pytest.raises(UserError, match=r"^publish: [0-9]+ customers are in a segment on 2024-03-04 and not active in features"):
        copied.run(customer_segments.run, LAST)


def test_who_is_held_out_of_campaigns_in_force_or_announced_is_marked_with_their_names(shop, tmp_path):
    """`ended` was over on the day before; `gone` is no longer declared."""
    rows = [
        {"campaign": campaign, "customer_id": customer, "assigned_on": FIRST, "segment_id": 1, "share": 0.5, "holdout": holdout}
        for campaign, customer, holdout in (
            ("spring", "loyal-1", True), ("summer", "loyal-1", True), ("spring", "loyal-2", False), ("summer", "loyal-3", True),
            ("ended", "loyal-4", True), ("gone", "loyal-4", True),
        )
    ]  # fmt: skip
    copied = Shop(Lake(None, shutil.copytree(shop.lake.root, tmp_path / "lake")), replace(shop.settings, campaigns=str(tmp_path)))
    copied.lake.replace_rows(HOLDOUTS, pa.Table.from_pylist(rows, HOLDOUTS.arrow_schema))
    for name, first, last in (
        ("spring", FIRST, LAST),
        ("summer", LAST + timedelta(days=9), LAST + timedelta(days=9)),
        ("ended", FIRST, LAST - timedelta(days=1)),
    ):
        (tmp_path / f"{name}.toml").write_text(
            f'name = "{name}"\nfirst_day = {first}\nlast_day = {last}\nmetric = "net"\nsmallest_effect = 0.1\nholdout = 0.5\n'
        )
    copied.run(customer_segments.run, LAST)
    published = rows_by_customer(copied)
    marked = {customer: row["holdouts"] for customer, row in published.items() if row["holdout"]}
    assert marked == {"loyal-1": ["spring", "summer"], "loyal-3": ["summer"]}

    (tmp_path / "spring.toml").write_text("name =")  # nobody is treated because a file is wrong
    copied.run(customer_segments.run, LAST)
    assert rows_by_customer(copied)["loyal-1"]["holdouts"] == ["spring", "summer"]
    assert {(row["holdout"], tuple(row["holdouts"])) for row in rows_by_customer(shop).values()} == {(False, ())}
