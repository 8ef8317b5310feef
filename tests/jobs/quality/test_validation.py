"""Great Expectations on rows and figures: good ones pass, and a bad one fails the expectation that is meant for it."""

import json
from collections import Counter
from datetime import timedelta

import pytest

from jobs.quality import pipeline, suites, validation
from jobs.quality.profiles import Profile
from tests.jobs.quality.rows import (
    ALSO_BROKEN,
    BETWEEN,
    COMMON,
    DAY,
    KEY_COLUMN,
    LATER,
    NAMES,
    NOT_NULL,
    bad_rows,
    can_fail,
    create_frame,
    is_by_row,
    label_of,
    repeated_key,
)


def write_linked_tables(lake):
    """Write the tables that links refer to, with all keys of good rows."""
    words, numbers = [("word",)], [(n,) for n in range(300)]
    for table, columns, keys in (
        ("clean.products", "product_id STRING", words),
        ("clean.customers", "customer_id STRING", words),
        ("segments.definitions", "segment_id INT", numbers),
    ):
        lake.spark.createDataFrame(keys, columns).write.format("delta").save(lake.path(table))


@pytest.mark.parametrize("name", NAMES)
def test_each_expectation_on_rows_is_broken_by_its_bad_row_and_by_no_other(lake, name):
    write_linked_tables(lake)
    suite = suites.load_suite(name)
    common, rows, expected = COMMON.get(name, {}), [], Counter()
    expectations = [expectation for expectation in suite.row_expectations if is_by_row(expectation)]
    labels = {e.column: label_of(e) for e in expectations if e.expectation_type == BETWEEN}
    for n, expectation in enumerate(expectations):
        key = {KEY_COLUMN[name]: n + 1 if "segment_id" in KEY_COLUMN[name] else f"row {n}"}
        broken = {label_of(expectation)}
        if expectation.expectation_type != NOT_NULL:
            broken |= {labels[column] for column in ALSO_BROKEN.get((name, expectation.column), ())}
        differences = bad_rows(name, expectation)
        rows += [common | key | difference for difference in differences]
        first_only = expectation.column == "overlaps"  # of two that overlap, the first ends too late
        expected[frozenset(broken)] += 1 if first_only else len(differences)
    good = [common | {KEY_COLUMN[name]: n if isinstance(repeated_key(name), int) else f"good {n}"} for n in (250, 251)]
    frame = create_frame(lake.spark, name, *good, *rows)
    results, bad = pipeline.check_rows(lake, suite, frame, {DAY: Profile(len(good) + len(rows))}, DAY)
    quarantined = [row.asDict() for row in bad.collect()]
    assert Counter(frozenset(row["expectations"]) for row in quarantined) == expected
    counted = Counter(text for row in quarantined for text in row["expectations"])
    assert {validation.label(r): r["unexpected_count"] for r in results if r["unexpected_count"] is not None} == counted
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
    frame = create_frame(lake.spark, name, *(rows or [{}])).limit(len(rows))
    profile = Profile(len(rows), n_keys=len(rows))
    results, bad = pipeline.check_rows(lake, suites.load_suite(name), frame, {DAY: profile}, DAY)
    assert {(r["column"], r["observed"]) for r in results if not r["success"]} == expected
    assert bad is None


def test_all_expectations_with_limits_are_broken_by_a_test_above():
    broken = {("clean.events", "robot"), ("clean.events", "of_no_known_type"), ("features.customers", "active")}
    broken |= {("marts.customer_segments", column) for column in ("as_of_day", "segment_id", "held")}
    counted = {"features.customers", "encoded.customers", "marts.customer_segments", "marts.refreshes"}
    broken |= {(name, None) for name in counted}
    limited = {
        (name, expectation.configuration.kwargs.get("column"))
        for name in NAMES
        for expectation in suites.load_suite(name).row_expectations
        if not is_by_row(expectation) and can_fail(expectation)
    }
    assert limited == broken


@pytest.mark.parametrize("name", NAMES)
def test_each_expectation_on_figures_is_broken_by_its_bad_day_and_by_no_other(name):
    suite = suites.load_suite(name)
    good_day = {"volume": 1.0}
    bad_days = []
    for expectation in suite.figure_expectations:
        low, high = expectation.min_value, expectation.max_value
        bad_days.append({expectation.column: low - 0.04 if high is None or low == 0 else high + 1})
    days = [dict.fromkeys(suite.figures, 0.0) | good_day | day for day in [{}, *bad_days]]
    results = validation.validate_figures(suite, suite.figure_expectations, days)
    assert len(results) == len(bad_days)
    nearly_empty = [r["severity"] for r in results if r["column"] == "volume"] == ["warning", "critical"]
    for result in results:
        too = nearly_empty and (result["column"], result["severity"]) == ("volume", "warning")  # a nearly empty day is low too
        assert (result["success"], result["unexpected_count"], result["rows_checked"]) == (False, 1 + too, len(days))


def test_a_figure_that_cannot_be_known_is_an_observation(lake):
    suite = suites.load_suite("clean.orders")
    results = validation.validate_figures(suite, suite.figure_expectations, [{}])
    assert {(r["success"], r["severity"], r["observed"]) for r in results} == {(True, "info", "not known")}
    assert [r["column"] for r in results] == ["volume", "days_behind"]


@pytest.mark.parametrize("name", ["clean.orders", "features.customers"])
def test_a_suite_is_one_query_of_all_that_is_expected(lake, monkeypatch, name):
    rows = create_frame(lake.spark, name, {})
    collect, queries = type(rows).collect, []
    monkeypatch.setattr(type(rows), "collect", lambda self: queries.append(len(self.columns)) or collect(self))
    pipeline.check_rows(lake, suites.load_suite(name), rows, {DAY: Profile(1, n_keys=1)}, DAY)
    assert len(queries) == 1
    assert queries[0] > 20


@pytest.mark.parametrize(
    ("name", "failing"),
    [
        ("clean.orders", []),
        ("features.customers", ["expect_table_row_count_to_be_between"]),
    ],
)
def test_an_empty_table_fails_only_where_a_day_must_have_rows(lake, name, failing):
    empty = create_frame(lake.spark, name, {}).limit(0)
    results, _ = pipeline.check_rows(lake, suites.load_suite(name), empty, {}, DAY)
    assert [r["expectation"] for r in results if not r["success"]] == failing


def test_observations_are_kept_as_figures(lake):
    orders = create_frame(
        lake.spark, "clean.orders", {}, {"line_no": 2, "customer_id": "other", "gross_amount": 9, "net_amount": 8}
    )
    results, _ = pipeline.check_rows(lake, suites.load_suite("clean.orders"), orders, {DAY: Profile(2, n_keys=2)}, DAY)
    observed = {(r["expectation"], r["column"]): r["observed"] for r in results}
    assert observed["expect_column_unique_value_count_to_be_between", "customer_id"] == "2"
    assert observed["expect_column_sum_to_be_between", "net_amount"] == "13.0"


def test_an_expectation_that_cannot_be_evaluated_says_so_without_the_value_that_the_error_quotes():
    message = '[CAST_INVALID_INPUT] The value \'Anna\' of the type "STRING" cannot be cast\nto "INT"'
    assert validation._exception_message({"raised_exception": True, "exception_message": message}) == "[CAST_INVALID_INPUT]"
