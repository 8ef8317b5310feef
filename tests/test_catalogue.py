"""The feature catalogue and what is made from it."""

from pathlib import Path

import pytest

from jobs import catalogue
from jobs.features import customer_days, customers


def test_there_are_many_features_each_declared_once():
    names = [f.name for f in catalogue.FEATURES]
    assert len(names) == len(set(names)) >= 80
    assert all(f.meaning and f.missing and f.unit for f in catalogue.FEATURES)


def test_every_measure_is_of_a_column_of_customer_days():
    assert {measure.partial.name for measure in catalogue.measures()} <= set(customer_days.TABLE.columns)
    assert [p.name for p in catalogue.PARTIALS] == customer_days.TABLE.columns[4:]


@pytest.mark.parametrize("what", ["orders__8x", "wishes__30", "products__30", "orders__different_30", "products__different_400"])
def test_an_expression_that_no_partial_gives_is_refused(what, monkeypatch):
    monkeypatch.setattr(catalogue.features, "FEATURES", [catalogue.FEATURES[0]._replace(expression=f"{what} / 2")])
    with pytest.raises(ValueError, match=what.split("__")[0]):
        catalogue.measures()


def test_the_table_has_a_commented_column_for_every_feature():
    for feature in catalogue.FEATURES:
        assert f"{feature.name} {feature.sql_type} COMMENT '" in customers.SCHEMA
    assert {attribute.name for attribute in catalogue.ATTRIBUTES} <= set(customers.TABLE.columns)


def test_the_page_is_the_catalogue():
    page = Path(__file__).resolve().parent.parent / "docs" / "features.md"
    assert page.read_text() == catalogue.as_markdown(), "run: shoal catalogue > docs/features.md"
