"""The feature catalogue: its declarations, and the columns and the page that follow from them."""

import re
from pathlib import Path

import pytest

from jobs import catalogue
from jobs.catalogue import aggregates
from jobs.config.settings import HOME
from jobs.features import customer_days, customers

PAGE = Path(HOME) / "docs" / "features.md"


def test_there_are_many_features_each_declared_once():
    names = [f.name for f in catalogue.FEATURES]
    assert len(names) == len(set(names)) >= 80
    assert all(f.meaning and f.missing and f.unit for f in catalogue.FEATURES)


def test_every_windowed_aggregate_is_of_a_column_of_customer_days():
    windowed = catalogue.windowed_aggregates()
    assert {aggregate.daily_aggregate.name for aggregate in windowed} <= set(customer_days.TABLE.columns)
    assert [aggregate.name for aggregate in catalogue.DAILY_AGGREGATES] == customer_days.TABLE.columns[4:]


def test_a_windowed_aggregate_is_computed_once_however_many_features_use_it():
    columns = [aggregate.column for aggregate in catalogue.windowed_aggregates()]
    assert len(columns) == len(set(columns))
    assert columns.count("orders__365") == 1


@pytest.mark.parametrize(
    ("operation", "name", "days", "before"),
    [
        ("sum", "orders", -8, 0),
        ("sum", "orders", 8, -1),
        ("sum", "orders", aggregates.LIFE, 90),
        ("sum", "wishes", 30, 0),
        ("sum", "products", 30, 0),
        ("sum", "largest_order", 30, 0),
        ("count_distinct", "orders", 30, 0),
        ("count_distinct", "products", 400, 0),
        ("count_distinct", "products", aggregates.LIFE, 0),
        ("entropy", "categories", 90, 0),
    ],
)
def test_a_window_that_no_daily_aggregate_gives_is_refused(operation, name, days, before):
    window = {"days": days} | ({"before": before} if operation == "sum" else {})
    with pytest.raises(ValueError, match=name):
        getattr(aggregates, operation)(name, **window)


def test_the_table_has_a_commented_column_for_every_feature():
    for feature in catalogue.FEATURES:
        assert f"{feature.name} {feature.sql_type} COMMENT '" in customers.SCHEMA
    assert {attribute.name for attribute in catalogue.ATTRIBUTES} <= set(customers.TABLE.columns)


def test_the_page_is_the_catalogue():
    assert PAGE.read_text() == catalogue.as_markdown(), "run: shoal catalogue > docs/features.md"


def test_every_source_of_the_page_is_declared_and_every_declared_one_is_used():
    rows = PAGE.read_text().partition("## Daily aggregates")[2]
    used = set(re.findall(r"^\| `\w+` \| [^|]+ \| (\w+) \| \w+ \|$", rows, re.MULTILINE))
    explained = set(re.findall(r"^- \*\*(\w+)\*\*: ", rows, re.MULTILINE))
    assert used == explained == set(catalogue.SOURCES)
