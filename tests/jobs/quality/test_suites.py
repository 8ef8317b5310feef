"""The suite files: what Great Expectations accepts, and what is named where a file is wrong."""

import json

import great_expectations
import pytest

from jobs import catalogue, flow
from jobs.errors import UserError
from jobs.quality import custom_expectations, pipeline, results, suites
from jobs.quality._names import KEY_COUNT
from tests.jobs.quality.rows import BETWEEN, DAY, NAMES, NOT_NULL, contract, is_by_row, label_of, write_table

COUNT = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 0}}


@pytest.mark.parametrize("name", NAMES)
def test_great_expectations_loads_the_file_as_it_is(name):
    content = json.loads((suites.SUITES / f"{name.replace('.', '/')}.json").read_text())
    suite = great_expectations.ExpectationSuite(**content)
    assert [e.expectation_type for e in suite.expectations] == [entry["type"] for entry in content["expectations"]]


def test_every_expectation_of_our_own_is_in_a_suite():
    used = {e.expectation_type for name in NAMES for e in _expectations(suites.load_suite(name))}
    classes = [c for c in vars(custom_expectations).values() if getattr(c, "__module__", "") == custom_expectations.__name__]
    assert len(classes) == 3
    assert {c.expectation_type for c in classes} <= used


def _expectations(suite):
    return [*suite.row_expectations, *suite.figure_expectations]


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_names_only_columns_of_its_table(name):
    suite = suites.load_suite(name)
    added = {*suite.meta.get("derived", {}), *suite.meta.get("links", {}), *([KEY_COUNT] if suite.key else [])}
    named = {e.column for e in suite.row_expectations if hasattr(e, "column")}
    assert named <= {*contract(name).columns} | added
    assert added <= named, "the suite adds a column that it expects nothing of"
    assert suite.by_day == (contract(name).partition == "day")
    labels = [label_of(expectation) for expectation in suite.row_expectations if is_by_row(expectation)]
    assert len(labels) == len(set(labels))


def test_every_suite_file_belongs_to_a_checked_table():
    files = sorted(f"{p.parent.name}.{p.stem}" for p in suites.SUITES.rglob("*.json"))
    assert files == sorted(NAMES)


def test_a_new_feature_is_expected_without_an_entry_in_the_suite(monkeypatch):
    new = catalogue.FEATURES[0]._replace(name="new_share_7d", unit="share", missing="never null")
    monkeypatch.setattr(catalogue, "FEATURES", (*catalogue.FEATURES, new))
    configurations = [e.configuration for e in suites.load_suite("features.customers").row_expectations]
    expected = [c for c in configurations if c.kwargs.get("column") == new.name]
    assert [(c.type, c.kwargs.get("max_value"), c.severity) for c in expected] == [
        (NOT_NULL, None, "critical"),
        (BETWEEN, 1, "critical"),
    ]


def test_a_count_has_no_largest_value():
    counts = {feature.name for feature in catalogue.FEATURES if feature.unit in ("count", "days", "pieces", "lines")}
    kwargs = [e.configuration.kwargs for e in suites.load_suite("features.customers").row_expectations]
    assert not [k["column"] for k in kwargs if k.get("column") in counts and k.get("max_value") is not None]


@pytest.mark.parametrize(
    ("expectations", "meta", "message"),
    [
        ([{"type": "expect_miracles", "kwargs": {}}], {}, "clean/sessions.json: expectation 1, type 'expect_miracles'"),
        ([COUNT, {"type": "expect_column_values_to_be_unique", "kwargs": {"colum": "x"}}], {}, "expectation 2"),
        ([COUNT, {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "x"}}], {}, 'column "x" does not exist'),
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
    write_table(lake, "clean.sessions", {})
    with pytest.raises(UserError, match=message) as error:
        pipeline.check_table(lake, settings, suites.load_suite("clean.sessions"), [DAY])
    assert "\n" not in str(error.value)


def test_a_missing_suite_or_table_is_named(lake, settings, suite_files):
    with pytest.raises(UserError, match=r"expectations/clean/sessions\.json does not exist"):
        suites.load_suite("clean.sessions")
    for table in flow.CHECKED_TABLES["clean"]:
        suite_files(f"clean.{table}", [COUNT])
    with pytest.raises(UserError, match=r"table clean\.events does not exist"):
        pipeline.run(lake, settings, "clean", [DAY])
    assert not lake.exists(results.TABLE.name)
