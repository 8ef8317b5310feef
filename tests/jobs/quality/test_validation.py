"""Great Expectations on rows and figures: good ones pass, and a bad one fails the expectation that is meant for it."""

import json
from collections import Counter
from datetime import timedelta

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.errors import UserError
from jobs.quality import pipeline, quarantine, suites, validation
from jobs.quality._rows import Rows, open_rows
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
    is_by_row,
    label_of,
    repeated_key,
    write_table,
)

COUNT = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 0}}


def write_linked_tables(lake):
    """Write the tables that links refer to, with all keys of good rows."""
    words, numbers = pa.array(["word"]), pa.array(range(300), pa.int32())
    for table, column, keys in (
        ("clean.products", "product_id", words),
        ("clean.customers", "customer_id", words),
        ("segments.definitions", "segment_id", numbers),
    ):
        write_deltalake(lake.path(table), pa.table({column: keys}))


def check_rows(lake, name, *rows, profile=None):
    """Write and check rows of a table; return the results, and the rows in quarantine."""
    write_table(lake, name, *rows)
    with open_rows(lake, name) as checked:
        by_day = {DAY: profile or Profile(len(rows), n_keys=len(rows))}
        results, files = pipeline.check_rows(lake, suites.load_suite(name), checked, by_day, DAY)
    quarantine.commit_bad_rows(lake, [name], DAY, files)
    return results, lake.read_small_table(quarantine.TABLE)


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
    results, quarantined = check_rows(lake, name, *good, *rows, profile=Profile(len(good) + len(rows)))
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
    results, quarantined = check_rows(lake, name, *rows)
    assert {(r["column"], r["observed"]) for r in results if not r["success"]} == expected
    assert quarantined == []
    assert not lake.exists(quarantine.TABLE.name)


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
    query, queries = Rows.query, []
    monkeypatch.setattr(Rows, "query", lambda self, sql: queries.append(sql) or query(self, sql))
    check_rows(lake, name, {})
    aggregates = [sql for sql in queries if "count(*)" in sql]
    assert len(aggregates) == 1
    assert aggregates[0].count("count(CASE ") > 20


@pytest.mark.parametrize(
    ("name", "failing"),
    [
        ("clean.orders", []),
        ("features.customers", ["expect_table_row_count_to_be_between"]),
    ],
)
def test_an_empty_table_fails_only_where_a_day_must_have_rows(lake, name, failing):
    results, _ = check_rows(lake, name)
    assert [r["expectation"] for r in results if not r["success"]] == failing


def test_observations_are_kept_as_figures(lake):
    second = {"line_no": 2, "customer_id": "other", "gross_amount": 9, "net_amount": 8}
    results, _ = check_rows(lake, "clean.orders", {}, second)
    observed = {(r["expectation"], r["column"]): r["observed"] for r in results}
    assert observed["expect_column_unique_value_count_to_be_between", "customer_id"] == "2"
    assert observed["expect_column_sum_to_be_between", "current_net"] == "13.0"


def test_an_expectation_that_cannot_be_evaluated_says_so_without_the_value_that_the_error_quotes(lake, suite_files):
    """The text is cast to a number where the query runs, which then quotes it."""
    between = {"type": BETWEEN, "kwargs": {"column": "as_number", "max_value": 0}}
    suite_files("clean.sessions", [COUNT, between], derived={"as_number": "device::INT"})
    with pytest.raises(UserError) as error:
        check_rows(lake, "clean.sessions", {"device": "Anna"})
    assert str(error.value) == (
        "check: expectations/clean/sessions.json: expect_column_values_to_be_between of as_number cannot be evaluated on "
        "clean.sessions: ConversionException"
    )


@pytest.mark.parametrize(
    ("expectation", "unexpected"),
    [
        ({"type": "expect_column_values_to_be_unique"}, 2),
        ({"type": "expect_column_values_to_be_null"}, 3),
        ({"type": "expect_column_values_to_be_in_set", "value_set": ["a", "it's"]}, 0),
        ({"type": "expect_column_values_to_be_in_set", "value_set": []}, 3),
        ({"type": "expect_column_values_to_not_be_in_set", "value_set": ["a"]}, 2),
        ({"type": "expect_column_values_to_match_regex", "regex": "^a$"}, 1),
        ({"type": "expect_column_values_to_not_match_regex", "regex": "t.s"}, 1),
        ({"type": "expect_column_values_to_match_regex_list", "regex_list": ["a", "t"]}, 0),
        ({"type": "expect_column_values_to_match_regex_list", "regex_list": ["i", "t"], "match_on": "all"}, 2),
        ({"type": "expect_column_values_to_not_match_regex_list", "regex_list": ["i", "t"]}, 1),
        ({"type": "expect_column_value_lengths_to_be_between", "min_value": 2}, 2),
        ({"type": "expect_column_value_lengths_to_equal", "value": 4}, 2),
    ],
)
def test_an_expectation_on_a_column_counts_the_values_that_are_not_null_and_not_as_expected(
    lake, suite_files, expectation, unexpected
):
    kind = expectation.pop("type")
    suite_files("clean.sessions", [COUNT, {"type": kind, "kwargs": {"column": "device", **expectation}}])
    results, quarantined = check_rows(lake, "clean.sessions", *({"device": device} for device in ("a", "a", "it's", None)))
    assert (results[1]["unexpected_count"], results[1]["success"]) == (unexpected, not unexpected)
    assert len(quarantined) == unexpected


@pytest.mark.parametrize(
    ("kind", "observed"),
    [
        ("mean", 2.0), ("median", 2.0), ("min", 1), ("max", 3), ("sum", 4.0), ("stdev", 2**0.5), ("unique_value_count", 2),
        ("proportion_of_unique_values", 1.0), ("proportion_of_non_null_values", 0.5),
    ],
)  # fmt: skip
def test_an_expectation_on_all_values_together_observes_one_figure(lake, suite_files, kind, observed):
    entry = {"type": f"expect_column_{kind}_to_be_between", "kwargs": {"column": "n_views", "min_value": 0, "max_value": 9}}
    suite_files("clean.sessions", [COUNT, entry])
    for values, expected in (([1, 3, None, None], observed), ([], 0)):
        results, _ = check_rows(lake, "clean.sessions", *({"n_views": n} for n in values))
        assert results[1]["success"]
        assert float(results[1]["observed"] or 0) == pytest.approx(expected)


def test_an_expectation_that_is_not_served_is_named(lake, suite_files):
    entry = {"type": "expect_column_pair_values_to_be_equal", "kwargs": {"column_A": "device", "column_B": "country"}}
    suite_files("clean.sessions", [COUNT, entry])
    with pytest.raises(UserError, match=r"expect_column_pair_values_to_be_equal cannot be evaluated .* is not served"):
        check_rows(lake, "clean.sessions", {})
