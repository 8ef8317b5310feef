"""The feature catalogue and what is made from it."""

from pathlib import Path

from jobs import catalogue
from jobs.features import customer_days, customers


def test_there_are_many_features_each_declared_once():
    names = [f.name for f in catalogue.FEATURES]
    assert len(names) == len(set(names)) >= 60
    assert all(f.meaning and f.missing and f.unit for f in catalogue.FEATURES)


def test_every_sum_is_a_column_of_customer_days():
    assert {partial for partial, _, _ in catalogue.sums()} <= set(catalogue.PARTIALS)
    assert set(catalogue.PARTIALS) <= set(customer_days.TABLE.columns)


def test_the_table_has_a_commented_column_for_every_feature():
    for feature in catalogue.FEATURES:
        assert f"{feature.name} {feature.sql_type} COMMENT '" in customers.SCHEMA


def test_the_page_is_the_catalogue():
    page = Path(__file__).resolve().parent.parent / "docs" / "features.md"
    assert page.read_text() == catalogue.as_markdown(), "run: shoal catalogue > docs/features.md"
