"""The check of a layer on real tables: good rows pass, a bad row trips what is meant for it, a critical failure stops."""

import importlib
import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pyspark.sql.types import StructField, StructType

from jobs import catalogue, flow
from jobs.errors import UserError
from jobs.quality import drift, pipeline, profiles, quarantine, suites, validation
from jobs.quality.profiles import Profile
from jobs.storage import models
from jobs.storage.lake import Lake
from tests.jobs import planted

DAY = date(2024, 3, 5)
NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
NIGHT = NOON + timedelta(hours=10)
NAMES = [f"{layer}.{table}" for layer in flow.CHECKED_LAYERS for table in flow.TABLES[layer]]

# A good row of each table, where it says more than its type: other columns are null, 0, 1 or a word.
GOOD = {
    "clean.events": {"event_type": "view", "bot_rule": None, "currency": "GBP", "event_at": NIGHT},
    "clean.sessions": {"n_searches": 0, "n_cart_adds": 0, "n_checkouts": 0, "n_purchases": 0},
    "clean.orders": {
        "status": "placed", "price_source": "line", "line_kind": "product", "currency": "GBP", "quantity": 2,
        "unit_price": 3, "gross_amount": 6, "discount_amount": 1, "net_amount": 5,
        "returned_quantity": 0, "returned_amount": 0, "returned_at": None,
    },
    "clean.returns": {"kind": "return", "line_kind": "product", "rule": "by_order", "currency": "GBP"},
    "clean.visitor_days": {"seen": []},
    "clean.identities": {"rule": "seen", "valid_to": LATER},
    "clean.identity_alarms": {"rule": "shared_visitor"},
    "clean.products": {"currency": "GBP", "price_rule": "listed"},
    "features.customer_days": {
        "net": 7, "gross": 10, "discount": 2, "returned": 1, "events": 9, "known_until": date(9999, 12, 31),
    },
    "features.customers": {"is_active": True, "vector": [1.0, None, 3.0]},
    "encoded.customers": {"is_active": True, "vector": [1.0, 2.0], "model_version": "v1"},
    "marts.customer_segments": {"reasons": ["many orders"], "confidence": 0.5, "reasons_hold": True},
    "marts.segment_profiles": {"share": 0.6, "traits": None},
    "marts.segment_changes": {"change": "changed", "to_segment_id": 2},
    "marts.segment_moves": {"to_segment_id": 2, "previous_day": DAY - timedelta(days=1)},
    "marts.refreshes": {"status": "published", "n_customers": 2, "table_versions": {"clean.orders": 3}},
}  # fmt: skip
# What a second good row differs in; without it the table has but one.
SECOND = {
    "clean.events": {"event_id": "2", "session_id": "2"},
    "clean.sessions": {"session_id": "2"},
    "clean.orders": {"line_no": 2},
    "clean.returns": {"return_line_no": 2},
    "clean.visitor_days": {"visitor_id": "2"},
    "clean.identities": {"valid_from": LATER, "valid_to": None},
    "clean.identity_alarms": {"id": "2"},
    "clean.products": {"product_id": "2"},
    "clean.customers": {"customer_id": "2"},
    "features.customer_days": {"customer_id": "2"},
    "encoded.customers": {"customer_id": "2"},
    "features.customers": {"customer_id": "2"},
    "marts.customer_segments": {"customer_id": "2", "segment_id": 2, "segment_name": "Two"},
    "marts.segment_profiles": {"segment_id": 2, "share": 0.4},
    "marts.segment_changes": {"customer_id": "2"},
    "marts.segment_moves": {"from_segment_id": 3},
    "marts.refreshes": {"run_id": "2"},
}
BETWEEN, IN_SET, NOT_NULL, REGEX = (
    f"expect_column_values_to_{what}" for what in ("be_between", "be_in_set", "not_be_null", "match_regex")
)
# The column by which rows of a table differ, and what good rows have in common there besides GOOD.
DIFFER = {
    "clean.events": "event_id", "clean.sessions": "session_id", "clean.orders": "order_id", "clean.returns": "return_order_id",
    "clean.visitor_days": "visitor_id", "clean.identities": "visitor_id", "clean.products": "product_id",
    "clean.customers": "customer_id", "features.customer_days": "customer_id", "features.customers": "customer_id",
    "clean.identity_alarms": "id", "marts.customer_segments": "customer_id", "marts.segment_profiles": "segment_id",
    "marts.segment_changes": "customer_id", "marts.segment_moves": "from_segment_id", "marts.refreshes": "run_id",
    "encoded.customers": "customer_id",
}  # fmt: skip
COMMON = {
    "marts.segment_profiles": {"share": 0.001},
    "marts.segment_moves": {"to_segment_id": 0, "previous_day": DAY - timedelta(days=1)},
}
# How a row is against an expectation that says something of several columns or rows. Two dictionaries are two rows.
BREAKS = {
    "clean.events": {
        "on_another_day": {"event_at": NOON + timedelta(days=1)},
        "before_its_session": {"event_at": NOON - timedelta(hours=1)},
        "known_before_it_happened": {"identified_on": DAY - timedelta(days=1)},
    },
    "clean.sessions": {
        "seconds": {"ended_at": NOON - timedelta(hours=1)},
        "on_another_day": {"started_at": NOON - timedelta(days=1)},
        "kinds_over_events": {"n_views": 2},
    },
    "clean.orders": {
        "on_another_day": {"ordered_at": NOON + timedelta(days=1)},
        "does_not_add_up": {"net_amount": 6},
        "discount_over_gross": {"discount_amount": 7, "net_amount": -1},
        "returned_over_quantity": {"returned_quantity": 3},
        "category_of_no_product": {"line_kind": "postage"},
        "unknown_product": {"product_id": "unheard of"},
        "unknown_customer": {"customer_id": "unheard of"},
    },
    "clean.returns": {
        "copies": ({"return_order_id": "same"}, {"return_order_id": "same"}),
        "on_another_day": {"returned_at": NOON + timedelta(days=1)},
        "rule_without_line": {"order_id": None},
        "before_its_order": {"order_day": DAY + timedelta(days=1)},
    },
    "clean.products": {"price_of_no_rule": {"price_rule": None}},
    "clean.visitor_days": {"not_on_the_day": {"last_at": NOON + timedelta(days=1)}},
    "clean.identities": {
        "overlaps": ({"visitor_id": "same"}, {"visitor_id": "same", "valid_from": NOON + timedelta(minutes=30)}),
        "ends_before_it_begins": {"valid_to": NOON - timedelta(hours=1)},
    },
    "features.customer_days": {
        "does_not_add_up": {"net": 8},
        "known_before_it_happened": {"identified_on": DAY - timedelta(days=1)},
        "kinds_over_events": {"events": 4},
        "hits_over_searches": {"search_hits": 2},
        "nothing_happened": {"orders": 0, "returns": 0, "events": 0, "gross": 0, "discount": 0, "returned": 0, "net": 0},
    },
    "features.customers": {
        "vector_size": {"vector": []},
        "not_a_number": {"vector": [1.0, None, float("nan")]},
        "seen_later": {"last_seen_day": DAY + timedelta(days=1)},
        "windows_disagree": {"orders_90d": 2},
    },
    "encoded.customers": {"not_a_number": {"vector": [1.0, float("nan")]}},
    "marts.customer_segments": {
        "since_after_day": {"since_day": DAY + timedelta(days=1)},
        "unknown_segment": {"segment_id": 999},
    },
    "marts.segment_profiles": {
        "share_of_day": {"day": DAY + timedelta(days=1), "share": 1.5},
        "outliers_over_customers": {"n_outliers": 2},
        "unknown_segment": {"segment_id": 999},
    },
    "marts.segment_changes": {
        "stays": {"from_segment_id": 2},
        "wrong_side_missing": {"to_segment_id": None},
        "unknown_from": {"from_segment_id": 999},
        "unknown_to": {"to_segment_id": 999},
    },
    "marts.segment_moves": {
        "stays": {"from_segment_id": 150, "to_segment_id": 150},
        "from_later": {"previous_day": DAY},
        "unknown_from": {"from_segment_id": 999},
        "unknown_to": {"to_segment_id": 999},
    },
    "marts.refreshes": {"finished_before_it_began": {"finished_at": NOON - timedelta(hours=1)}},
}  # fmt: skip
# (table, expectation broken): columns whose expectations must then be broken too
FOLLOWS = {
    ("clean.orders", "gross_amount"): {"does_not_add_up", "discount_over_gross"},
    ("clean.orders", "discount_amount"): {"does_not_add_up"},
    ("clean.orders", "returned_amount"): {"does_not_add_up"},
    ("clean.orders", "line_kind"): {"category_of_no_product"},
    ("clean.sessions", "n_events"): {"kinds_over_events"},
    ("features.customer_days", "nothing_happened"): {"kinds_over_events"},
    ("features.customer_days", "events"): {"kinds_over_events"},
    ("features.customer_days", "gross"): {"does_not_add_up"},
    ("features.customer_days", "discount"): {"does_not_add_up"},
    ("features.customer_days", "returned"): {"does_not_add_up"},
    ("marts.customer_segments", "segment_id"): {"unknown_segment"},
    ("marts.segment_profiles", "segment_id"): {"unknown_segment"},
    ("marts.segment_profiles", "share_of_day"): {"share"},
    ("marts.segment_profiles", "n_customers"): {"outliers_over_customers"},
    ("marts.segment_changes", "from_segment_id"): {"unknown_from"},
    ("marts.segment_changes", "to_segment_id"): {"unknown_to"},
    ("marts.segment_moves", "from_segment_id"): {"unknown_from"},
    ("marts.segment_moves", "to_segment_id"): {"unknown_to"},
    **{
        ("features.customers", f"{name}_{window}"): {"windows_disagree"}
        for name in ("orders", "events") for window in ("30d", "90d", "365d", "life")
    },
}  # fmt: skip


def table_of(name):
    return importlib.import_module(f"jobs.{name}").TABLE


def fields_of(name):
    """The columns of a table; null allowed, so that a row can break the table's own constraints."""
    return StructType([StructField(f.name, f.dataType) for f in StructType.fromDDL(table_of(name).schema)])


def row(name, **differing):
    values = []
    for column in fields_of(name):
        kind = column.dataType.simpleString().split("(")[0]
        usual = {"string": "word", "date": DAY, "timestamp": NOON, "boolean": False, "double": 0.5}.get(kind, 1)
        if kind.startswith(("map", "array")):
            usual = None
        value = {**GOOD.get(name, {}), **differing}.get(column.name, usual)
        made = {"decimal": Decimal, "bigint": int, "int": int, "double": float}.get(kind, lambda same: same)
        values.append(None if value is None else made(value))
    return tuple(values)


def frame(spark, name, *differences):
    return spark.createDataFrame([row(name, **different) for different in differences], fields_of(name))


def put(lake, name, *differences):
    """Write rows as the table, without its constraints."""
    writer = frame(lake.spark, name, *differences).write.format("delta").mode("overwrite")
    (writer.partitionBy("day") if table_of(name).partition else writer).save(lake.path(name))


def put_layer(lake, layer):
    for table in flow.TABLES[layer]:
        put(lake, f"{layer}.{table}", {}, SECOND[f"{layer}.{table}"])


def results(lake):
    return [r.asDict() for r in lake.read(pipeline.TABLE).orderBy("day", "table", "position").collect()]


def kind_of(expectation):
    return expectation.expectation_type


def by_row(expectation):
    return hasattr(expectation, "map_metric")


def can_fail(expectation):
    """Whether it has bounds at all; what has none only observes."""
    kwargs = expectation.configuration.kwargs
    return by_row(expectation) or any(kwargs.get(bound) for bound in ("min_value", "max_value"))


def against(name, expectation):
    """Rows against one expectation, as what they differ in."""
    kwargs = expectation.configuration.kwargs
    column, kind = kwargs["column"], kind_of(expectation)
    if column in BREAKS.get(name, {}):
        rows = BREAKS[name][column]
        return rows if isinstance(rows, tuple) else (rows,)
    if column == suites.COPIES:
        return ({DIFFER[name]: same_key(name)},) * 2
    if kind == NOT_NULL:
        return ({column: None},)
    if kind == BETWEEN:
        low, high = kwargs.get("min_value"), kwargs.get("max_value")
        return ({column: high + 1 if low is None else low - (not kwargs.get("strict_min"))},)
    assert kind in (IN_SET, REGEX), f"say in BREAKS how a row is against {kind} on {column}"
    return ({column: "wink"},)


def same_key(name):
    return 200 if "segment_id" in DIFFER[name] else "same"


def label_of(expectation):
    config = expectation.configuration
    kwargs = {"column": config.kwargs["column"], "description": config.description, "expectation": kind_of(expectation)}
    return validation.label(kwargs)


@pytest.mark.parametrize("name", NAMES)
def test_each_expectation_on_rows_is_broken_by_its_bad_row_and_by_no_other(lake, name):
    suite = suites.load(name)
    for table, columns in (
        ("clean.products", "product_id STRING"),
        ("clean.customers", "customer_id STRING"),
        ("segments.definitions", "segment_id INT"),
    ):
        known = [(n,) for n in range(300)] if "INT" in columns else [("word",)]
        lake.spark.createDataFrame(known, columns).write.format("delta").save(lake.path(table))
    common, rows, expected = COMMON.get(name, {}), [], Counter()
    expectations = [expectation for expectation in suite.of_rows if by_row(expectation)]
    labels = {e.column: label_of(e) for e in expectations if kind_of(e) == BETWEEN}
    for n, expectation in enumerate(expectations):
        own = {DIFFER[name]: n + 1 if "segment_id" in DIFFER[name] else f"row {n}"}
        broken = {label_of(expectation)}
        if kind_of(expectation) != NOT_NULL:
            broken |= {labels[column] for column in FOLLOWS.get((name, expectation.column), ())}
        changes = against(name, expectation)
        rows += [common | own | change for change in changes]
        last_only = expectation.column == "overlaps"  # the first of two that overlap is the one that goes on too long
        expected[frozenset(broken)] += 1 if last_only else len(changes)
    good = [common | {DIFFER[name]: n if isinstance(same_key(name), int) else f"good {n}"} for n in (250, 251)]
    found = frame(lake.spark, name, *good, *rows)
    results, bad = pipeline.examined(lake, suite, found, {DAY: Profile(len(good) + len(rows))}, DAY)
    quarantined = [row.asDict() for row in bad.collect()]
    assert Counter(frozenset(row["expectations"]) for row in quarantined) == expected
    counted = Counter(text for row in quarantined for text in row["expectations"])
    said = {validation.label(r): r["unexpected_count"] for r in results if r["unexpected_count"] is not None}
    assert said == counted
    assert not {c for row in quarantined for c in suite.meta.get("personal", []) if c in json.loads(row["row"])}


@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [
        ("clean.events", [{"is_bot": True}], {("robot", "1.0")}),
        ("clean.events", [{"event_type": "other"}], {("of_no_known_type", "1.0")}),
        ("features.customers", [], {(None, "0")}),
        ("encoded.customers", [], {(None, "0")}),
        ("features.customers", [{"is_active": False}], {("active", "0.0")}),
        ("marts.customer_segments", [{}, {"customer_id": "2", "as_of_day": LATER.date() + timedelta(days=1)}],
         {("as_of_day", "2"), ("segment_id", "1")}),
        ("marts.customer_segments", [{"reasons_hold": False}, {"segment_id": 2, "reasons_hold": None}], {("held", "0.0")}),
        ("marts.customer_segments", [], {(None, "0"), ("as_of_day", "0"), ("segment_id", "0")}),
        ("marts.refreshes", [], {(None, "0")}),
    ],
)  # fmt: skip
def test_an_expectation_on_all_rows_together_is_broken(lake, name, rows, expected):
    found = frame(lake.spark, name, *(rows or [{}])).limit(len(rows))
    results, bad = pipeline.examined(lake, suites.load(name), found, {DAY: Profile(len(rows), n_keys=len(rows))}, DAY)
    assert {(r["column"], r["observed"]) for r in results if not r["success"]} == expected
    assert bad is None


def test_a_count_has_no_largest_value():
    counts = {feature.name for feature in catalogue.FEATURES if feature.unit in ("count", "days", "pieces", "lines")}
    expected = [one.configuration.kwargs for one in suites.load("features.customers").of_rows]
    assert not [one["column"] for one in expected if one.get("column") in counts and one.get("max_value") is not None]


def test_all_expectations_with_bounds_are_broken_by_a_test_above():
    seen = {("clean.events", "robot"), ("clean.events", "of_no_known_type"), ("features.customers", "active")}
    seen |= {("marts.customer_segments", column) for column in ("as_of_day", "segment_id", "held")}
    counted = {"features.customers", "encoded.customers", "marts.customer_segments", "marts.refreshes"}
    seen |= {(name, None) for name in counted}
    bounded = {
        (name, expectation.configuration.kwargs.get("column"))
        for name in NAMES
        for expectation in suites.load(name).of_rows
        if not by_row(expectation) and can_fail(expectation)
    }
    assert bounded == seen


@pytest.mark.parametrize("name", NAMES)
def test_each_expectation_on_figures_is_broken_by_its_bad_day_and_by_no_other(name):
    suite = suites.load(name)
    good = {"volume": 1.0}
    bad = []
    for expectation in suite.of_figures:
        kwargs = expectation.configuration.kwargs
        low, high = kwargs.get("min_value"), kwargs.get("max_value")
        bad.append({kwargs["column"]: low - 0.04 if high is None or low == 0 else high + 1})
    days = [good, *(good | one for one in bad)]
    found = validation.of_figures(suite, suite.of_figures, [dict.fromkeys(suite.figures, 0.0) | day for day in days])
    assert len(found) == len(bad)
    nearly_empty = [r["severity"] for r in found if r["column"] == "volume"] == ["warning", "critical"]
    for result in found:
        too = nearly_empty and (result["column"], result["severity"]) == ("volume", "warning")  # a nearly empty day is low too
        assert (result["success"], result["unexpected_count"], result["rows_checked"]) == (False, 1 + too, len(days))


def test_a_figure_that_cannot_be_known_is_an_observation(lake):
    suite = suites.load("clean.orders")
    found = validation.of_figures(suite, suite.of_figures, [{}])
    assert {(r["success"], r["severity"], r["observed"]) for r in found} == {(True, "info", "not known")}
    assert [r["column"] for r in found] == ["volume", "days_behind"]


@pytest.fixture
def suite_files(tmp_path, monkeypatch):
    """A folder of suites of this test's own."""
    monkeypatch.setattr(suites, "SUITES", tmp_path / "expectations")
    (tmp_path / "expectations" / "clean").mkdir(parents=True)

    def write(name, expectations, **meta):
        path = tmp_path / "expectations" / f"{name.replace('.', '/')}.json"
        suite = {"name": name, "expectations": expectations, "meta": {"rows": "days", **meta}}
        path.write_text(json.dumps(suite))

    return write


@pytest.fixture
def settings(lake):
    return planted.settings(lake)


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_is_the_librarys_and_names_only_columns_of_its_table(spark, name):
    suite = suites.load(name)
    made = {*suite.meta.get("derived", {}), *suite.meta.get("links", {}), *([suites.COPIES] if suite.key else [])}
    named = {e.column for e in suite.of_rows if hasattr(e, "column")}
    assert named <= {f.name for f in fields_of(name)} | made
    assert made <= named, "a column is made that nothing is expected of"
    assert suite.by_day == (table_of(name).partition == "day")
    labels = [label_of(expectation) for expectation in suite.of_rows if by_row(expectation)]
    assert len(labels) == len(set(labels))


def test_every_suite_file_belongs_to_a_checked_table():
    files = sorted(f"{p.parent.name}.{p.stem}" for p in suites.SUITES.rglob("*.json"))
    assert files == sorted(NAMES)


def test_a_new_feature_is_expected_without_an_entry_in_the_suite(monkeypatch):
    new = catalogue.FEATURES[0]._replace(name="new_share_7d", unit="share", missing="never null")
    monkeypatch.setattr(catalogue, "FEATURES", (*catalogue.FEATURES, new))
    found = [
        e.configuration for e in suites.load("features.customers").of_rows if e.configuration.kwargs.get("column") == new.name
    ]
    assert [(c.type, c.kwargs.get("max_value"), c.severity) for c in found] == [
        (NOT_NULL, None, "critical"),
        (BETWEEN, 1, "critical"),
    ]


@pytest.mark.parametrize("layer", flow.CHECKED_LAYERS)
def test_a_good_layer_passes_with_one_row_per_expectation(lake, settings, layer):
    put_layer(lake, layer)
    pipeline.run(lake, settings, layer, [DAY])
    found = results(lake)
    assert [r for r in found if not r["success"]] == []
    assert {r["day"] for r in found} == {DAY}
    for table in flow.TABLES[layer]:
        suite = suites.load(f"{layer}.{table}")
        ours = [r for r in found if r["table"] == suite.name]
        assert [r["position"] for r in ours] == list(range(1, len(suite.of_rows) + len(suite.of_figures) + 1))
        assert {r["rows_checked"] for r in ours if r["column"] not in suite.figures} == {2}
    kept = {row.table: row.rows for row in lake.read(profiles.TABLE).collect()}
    assert kept == {f"{layer}.{table}": 2 for table in flow.TABLES[layer]}
    assert not lake.exists(quarantine.TABLE.name)


@pytest.mark.parametrize("name", ["clean.orders", "features.customers"])
def test_a_suite_is_one_query_of_all_that_is_expected(lake, monkeypatch, name):
    rows = frame(lake.spark, name, {})
    collect, asked = type(rows).collect, []
    monkeypatch.setattr(type(rows), "collect", lambda self: asked.append(len(self.columns)) or collect(self))
    pipeline.examined(lake, suites.load(name), rows, {DAY: Profile(1, n_keys=1)}, DAY)
    assert len(asked) == 1
    assert asked[0] > 20


def test_bad_rows_are_kept_until_a_rerun_finds_them_good_and_the_rerun_writes_the_same(lake, settings):
    put_layer(lake, "features")
    put(
        lake,
        "features.customer_days",
        {},
        {"customer_id": "2", "orders": -1},
        {"customer_id": "2", "bought": [("p", "c", Decimal(1))]},
    )
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"a customer has one row a day.*2 of 3 rows unexpected.*\(1 more\).*quality.quarantine"
        ):
            pipeline.run(lake, settings, "features", [DAY])
        bad = lake.read(quarantine.TABLE).collect()
        assert sorted(sorted(row.expectations) for row in bad) == [
            ["copies: a customer has one row a day and day of identification"],
            ["copies: a customer has one row a day and day of identification", f"orders: {BETWEEN}"],
        ]
        assert {(row.table, row.day, row.severity) for row in bad} == {("features.customer_days", DAY, "critical")}
        assert sorted(json.loads(row.row)["orders"] for row in bad) == [-1, 1]
        assert all("bought" not in row.row for row in bad)
    put_layer(lake, "features")
    runs = []
    for _ in range(2):
        pipeline.run(lake, settings, "features", [DAY])
        runs.append((results(lake), sorted(lake.read(profiles.TABLE).collect())))
    assert runs[0] == runs[1]
    assert lake.read(quarantine.TABLE).count() == 0


@pytest.mark.parametrize(
    ("name", "failing"),
    [
        ("clean.orders", []),
        ("features.customers", ["expect_table_row_count_to_be_between"]),
    ],
)
def test_an_empty_table_fails_only_where_a_day_must_have_rows(lake, name, failing):
    found, _ = pipeline.examined(lake, suites.load(name), frame(lake.spark, name, {}).limit(0), {}, DAY)
    assert [r["expectation"] for r in found if not r["success"]] == failing


def test_a_failed_critical_stops_the_day_after_all_results_are_written(lake, settings, capsys):
    put(lake, "features.customer_days", {}, {"customer_id": "2", "orders": -1})
    put(lake, "features.customers", {}, {"customer_id": "2", "bounce_share_365d": 2.0})
    with pytest.raises(UserError) as error:
        pipeline.run(lake, settings, "features", [DAY])
    assert str(error.value) == (
        "check: features.customer_days, day 2024-03-05: orders: expect_column_values_to_be_between: "
        '1 of 2 rows unexpected, {"column": "orders", "min_value": 0.0}; see quality.results; the rows are in quality.quarantine'
    )
    logged = capsys.readouterr().out
    assert "warn  features.customers, day 2024-03-05: bounce_share_365d: expect_column_values_to_be_between" in logged
    assert [(r["table"], r["column"], r["severity"]) for r in results(lake) if not r["success"]] == [
        ("features.customer_days", "orders", "critical"),
        ("features.customers", "bounce_share_365d", "warning"),
    ]


def test_observations_are_kept_as_figures(lake):
    two = frame(lake.spark, "clean.orders", {}, {"line_no": 2, "customer_id": "other", "gross_amount": 9, "net_amount": 8})
    answers, _ = pipeline.examined(lake, suites.load("clean.orders"), two, {DAY: Profile(2, n_keys=2)}, DAY)
    found = {(r["expectation"], r["column"]): r["observed"] for r in answers}
    assert found["expect_column_unique_value_count_to_be_between", "customer_id"] == "2"
    assert found["expect_column_sum_to_be_between", "net_amount"] == "13.0"


COUNT = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 0}}
VOLUME = {"type": BETWEEN, "kwargs": {"column": "volume", "min_value": 0.5, "max_value": 2}, "severity": "warning"}
BEHIND = {"type": BETWEEN, "kwargs": {"column": "days_behind", "max_value": 0}, "severity": "warning"}


def test_a_day_is_held_against_the_profiles_of_its_weekdays_not_against_their_rows(lake, settings, suite_files, monkeypatch):
    monkeypatch.setitem(flow.TABLES, "clean", ("sessions",))
    suite_files("clean.sessions", [COUNT, VOLUME, BEHIND])
    put(lake, "clean.sessions", *({"day": DAY} for _ in range(20)))
    weeks = {DAY - timedelta(weeks=n): Profile(rows) for n, rows in enumerate((1000, 100, 90), start=1)}
    profiles.record(lake, {"clean.sessions": weeks | {DAY - timedelta(days=1): Profile(20)}})
    for day in (DAY, DAY + timedelta(days=1)):  # the day after has no rows
        pipeline.run(lake, settings, "clean", [day])
    assert [(r["day"], r["column"], r["observed"], r["success"]) for r in results(lake) if r["column"]] == [
        (DAY, "volume", "0.2", False),  # the median of 1000, 100 and 90 is 100
        (DAY, "days_behind", "0", True),
        (DAY + timedelta(days=1), "volume", "not known", True),
        (DAY + timedelta(days=1), "days_behind", "1", False),
    ]
    assert [row.rows for row in lake.read(profiles.TABLE).where(f"day >= DATE'{DAY}'").orderBy("day").collect()] == [20, 0]


@pytest.mark.parametrize(
    ("rows", "before", "volume"),
    [
        (100, [50, 100, 200, 400], 100 / 150),
        (0, [100, 100, 100], 0),
        (100, [100, 100], None),  # too little history
        (3, [20, 20, 20, 20], None),  # too few rows to say anything
    ],
)
def test_volume_is_rows_by_the_median_of_the_same_weekdays(tmp_path, rows, before, volume):
    history = {DAY - timedelta(weeks=n): Profile(n_rows) for n, n_rows in enumerate(before, start=1)}
    found = {DAY: Profile(rows), DAY - timedelta(days=1): Profile(7), **history}
    profiles.compare(Lake(None, str(tmp_path)), [(suites.load("clean.orders"), found, [DAY])])
    assert found[DAY].figures.get("volume") == (None if volume is None else pytest.approx(Decimal(volume)))


@pytest.mark.parametrize(
    ("returned", "difference"),
    [("3.0000", 0), ("3.0100", Decimal("0.0100")), (None, None)],
)
def test_sums_of_two_tables_must_match_on_the_day(tmp_path, returned, difference):
    """10.50 paid less 3.00 given back are 7.50."""
    tables = {"features.customer_days": Profile(2, {"net_sum": Decimal("7.5"), "events_sum": Decimal(4)})}
    tables["clean.orders"] = Profile(2, {"known_paid": Decimal("10.5")})
    tables["clean.events"] = Profile()  # no rows have no sum: it is 0
    if returned:
        tables["clean.returns"] = Profile(1, {"known_returned": Decimal(returned)})
    profiles.compare(Lake(None, str(tmp_path)), [(suites.load(name), {DAY: one}, [DAY]) for name, one in tables.items()])
    figures = tables["features.customer_days"].figures
    assert figures.get("net_difference") == difference
    assert figures["events_difference"] == 4


def test_sessions_and_their_events_match_by_number_and_by_name(lake):
    put(lake, "clean.events", {}, {"event_id": "2", "session_id": "2", "day": DAY + timedelta(days=1)})
    suite, found = suites.load("clean.sessions"), {}
    for name, rows in {"same": "2", "other": "3"}.items():
        put(lake, suite.name, {}, {"session_id": rows})
        found[name] = profiles.measured(lake, suite, lake.read(suite.name), DAY, DAY)
        profiles.compare(lake, [(suite, found[name], [DAY])])
    assert found["same"][DAY].figures["sessions_difference"] == 0
    assert found["other"][DAY].figures["sessions_difference"] != 0
    assert [found[name][DAY].figures["events_difference"] for name in found] == [0, 0]


def test_customers_are_held_against_those_the_champion_was_trained_on(lake, settings):
    vector = {name: float(n) for n, name in enumerate(catalogue.VECTOR)}
    rows = [
        {"customer_id": str(n), "vector": [None if n % 2 and name == "orders_7d" else v for name, v in vector.items()]}
        for n in range(4)
    ]
    put(lake, "features.customers", *rows, {"customer_id": "asleep", "is_active": False, "vector": [9e9] * len(vector)})
    put(lake, "features.customer_days", {})
    at = catalogue.VECTOR.index("orders_7d")
    trained_on = {
        "orders_7d": {"edges": [at + 1.0], "shares": [1.0, 0.0], "missing_share": 0.5, "low": 0.0, "high": at},
        # now all lie above the edge, and above the highest
        "net_7d": {"edges": [-1.0], "shares": [0.5, 0.5], "missing_share": 0.0, "low": -2.0, "high": -0.5},
        "reconstruction_error": {"edges": [1.0], "shares": [0.5, 0.5], "missing_share": 0.0, "low": 0.0, "high": 2.0},
    }
    errors = [{"customer_id": str(n), "reconstruction_error": 0.5 * n} for n in range(1, 5)]
    put(lake, "encoded.customers", *errors, {"customer_id": "asleep", "is_active": False, "reconstruction_error": 9e9})

    def write(folder: Path) -> None:
        (folder / "meta.json").write_text(json.dumps({"profile": trained_on}))

    models.save(settings.models, "v1", write)
    models.promote(settings.models, "v1", DAY)
    for layer in ("features", "encoded"):
        pipeline.run(lake, settings, layer, [DAY])
    found = {r["column"]: r for r in results(lake) if (r["column"] or "").startswith((suites.PSI, suites.OUT_OF_RANGE))}
    assert {name: (r["success"], r["severity"]) for name, r in found.items()} == {
        "psi_net_7d": (False, "warning"),
        "psi_orders_7d": (True, "warning"),
        "psi_reconstruction_error": (True, "warning"),
        "out_of_range": (False, "warning"),
    }
    assert float(found["out_of_range"]["observed"]) == pytest.approx(4 / 6)  # of four and two known values
    assert float(found["psi_net_7d"]["observed"]) == pytest.approx(drift.psi(trained_on["net_7d"], {1: 4}), rel=1e-4)
    assert float(found["psi_orders_7d"]["observed"]) == pytest.approx(0, abs=1e-6)


def test_the_first_check_is_of_all_history_and_the_next_of_what_came_since(lake, settings, suite_files, monkeypatch):
    monkeypatch.setitem(flow.TABLES, "clean", ("sessions",))
    suite_files("clean.sessions", [COUNT])
    days = [DAY + timedelta(days=n) for n in range(-40, 4)]
    put(lake, "clean.sessions", *({"day": day} for day in days))
    for asked in ([DAY], [DAY + timedelta(days=2)], [DAY]):  # no refresh on the day between
        pipeline.run(lake, settings, "clean", asked)
    assert [(r["day"], r["first_day"], r["rows_checked"]) for r in results(lake)] == [
        (DAY, None, 41),
        (DAY + timedelta(days=2), DAY + timedelta(days=1), 2),
    ]
    assert lake.count_by(profiles.TABLE.name, ["rows"]) == {(1,): 43}


@pytest.mark.parametrize(
    ("expectations", "meta", "message"),
    [
        ([{"type": "expect_miracles", "kwargs": {}}], {}, "clean/sessions.json: expectation 1, type 'expect_miracles'"),
        ([COUNT, {"type": "expect_column_values_to_be_unique", "kwargs": {"colum": "x"}}], {}, "expectation 2"),
        ([COUNT, {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "x"}}], {}, 'column "x" .* does not exist'),
        ([COUNT | {"kwargs": {"row_condition": "day > 1", "condition_parser": "spark"}}], {}, "row_condition is not served"),
        ([COUNT], {"derived": {"late": "hour(nowhere)"}}, "clean/sessions.json: meta.derived: .*nowhere"),
        ([COUNT], {"figures": {"late": "sum(nowhere)"}}, "clean/sessions.json: meta.figures: .*nowhere"),
        ([COUNT], {"figure": {}}, "meta.figure is not known"),
        ([COUNT], {"rows": "some"}, "meta.rows is 'some'"),
        ([{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "day"}}], {}, "lacks expect_table_row_count"),
        ([], {}, "no expectations"),
    ],
)  # fmt: skip
def test_a_wrong_suite_is_named_in_one_line(lake, settings, suite_files, expectations, meta, message):
    suite_files("clean.sessions", expectations, **meta)
    put(lake, "clean.sessions", {})
    with pytest.raises(UserError, match=message) as error:
        pipeline.checked(lake, settings, suites.load("clean.sessions"), [DAY])
    assert "\n" not in str(error.value)


def test_a_missing_suite_or_table_is_named(lake, settings, suite_files):
    with pytest.raises(UserError, match=r"expectations/clean/sessions\.json does not exist"):
        suites.load("clean.sessions")
    for table in flow.TABLES["clean"]:
        suite_files(f"clean.{table}", [COUNT])
    with pytest.raises(UserError, match=r"table clean\.events does not exist"):
        pipeline.run(lake, settings, "clean", [DAY])
    assert not lake.exists(pipeline.TABLE.name)
