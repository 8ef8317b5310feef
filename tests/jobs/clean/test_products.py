"""clean.products: a version is kept where something changed; a missing price is filled only where the policy asks for it."""

from datetime import date
from decimal import Decimal

import polars as pl
import pyarrow as pa

from jobs.bronze import products as bronze
from jobs.clean import _versions, products
from tests.jobs.clean.rejects import land


def classify(sent, *policy):
    """(product, name, brand, price, day) in the order of their rows -> (outcome, rules, price, price_rule) of each."""
    names = ("product_id", "name", "brand", "price")
    rows = [dict(zip(names, row, strict=False)) | {"day": date.fromisoformat(row[4])} for row in sent]
    outcomes = products.classify_products(land(bronze.TABLE, *rows), "GBP", *policy)
    columns = outcomes.sort("position").select("outcome", "rules", "price", "price_rule").rows()
    return [(outcome, rules, price and str(price), price_rule) for outcome, rules, price, price_rule in columns]


def test_only_changes_make_a_version_and_the_last_row_of_a_day_counts():
    sent = [
        ("mug", "Mug", None, "2.00", "2024-03-01"),
        ("mug", "Mug", None, "2.50", "2024-03-01"),
        ("mug", "Mug", None, "2.50", "2024-03-02"),
        ("mug", "Mug", None, "free", "2024-03-03"),
        (None, "Nothing", None, "1", "2024-03-03"),
        ("pot", "Mug", None, None, "2024-03-04"),
    ]
    assert classify(sent) == [
        ("duplicate", ["same_day"], "2.0000", "listed"),
        ("kept", [], "2.5000", "listed"),
        ("duplicate", ["unchanged"], "2.5000", "listed"),
        ("kept", [], None, None),
        ("reject", ["no_product"], "1.0000", "listed"),
        ("kept", [], None, None),
    ]


def test_only_days_whose_lookups_give_another_value_are_affected():
    """The mug is dearer from the 3rd on, and the cup is known at last; a plate that nobody ordered changes nothing."""

    def listed(*rows):
        names = ("product_id", "day", "category", "price")
        dated = [dict(zip(names, row, strict=True)) | {"currency": "GBP"} for row in rows]
        return products.find_product_validity(pa.Table.from_pylist(dated, products.TABLE.arrow_schema))

    def version(product, day, category, price):
        return product, date(2024, 3, day), category, Decimal(price)

    mug, plate = version("mug", 1, "kitchen", "2.00"), version("plate", 1, "kitchen", "2.00")
    dearer, cup = version("mug", 3, "kitchen", "3.00"), version("cup", 9, "kitchen", "1.00")
    ordered = [("mug", 1), ("mug", 2), ("mug", 3), ("cup", 4), ("jar", 5), ("mug", 6), (None, 2)]
    lookups = pl.DataFrame([(key, date(2024, 3, day)) for key, day in ordered], ["key", "day"], orient="row")

    def find_days(*after, newest=9):
        before, after, last = listed(mug, plate), listed(*after), date(2024, 3, newest)
        changes = _versions.find_changes(before, after, last)
        return [day.day for day in _versions.find_affected_days(lookups, changes, before, after, last)]

    assert find_days(mug, dearer, cup) == [3, 4, 6]
    assert find_days(mug, dearer, plate, newest=2) == []
    assert find_days(mug, (*plate[:3], Decimal("9.00"))) == []


GAPS = [
    ("mug", "Mug", "Acme", None, "2024-03-01"),
    ("mug", "Mug", "Acme", "2.00", "2024-03-02"),
    ("mug", "Mug", "Acme", None, "2024-03-03"),
    ("mug", "Mug", "Acme", "3.00", "2024-03-06"),
    ("cap", "Cap", "Dear", "40.00", "2024-03-01"),
    ("bag", "Bag", "Dear", None, "2024-03-01"),
]


def test_a_missing_price_is_dropped_where_the_policy_says_drop():
    outcomes = [(outcome, rules) for outcome, rules, *_ in classify(GAPS, "drop")]
    refused, kept = ("reject", ["no_list_price"]), ("kept", [])
    assert outcomes == [refused, kept, refused, kept, kept, refused]


def test_a_price_is_interpolated_by_time_between_two_known_prices_and_nowhere_else():
    assert [row[2:] for row in classify(GAPS, "interpolate")] == [
        (None, None),
        ("2.0000", "listed"),
        ("2.2500", "interpolated"),
        ("3.0000", "listed"),
        ("40.0000", "listed"),
        (None, None),
    ]


def test_a_modelled_price_is_near_the_prices_of_its_brand_and_is_marked():
    rows = classify(GAPS, "model")
    assert [row[3] for row in rows] == ["modelled", "listed", "modelled", "listed", "listed", "modelled"]
    assert 2 < float(rows[0][2]) == float(rows[2][2]) < 4
    assert 30 < float(rows[5][2]) < 41
    assert [row[2] for row in rows if row[3] == "listed"] == ["2.0000", "3.0000", "40.0000"]


def test_a_model_of_equal_prices_or_of_none_gives_that_price_or_none():
    equal = [("mug", "Mug", "Acme", "2.00", "2024-03-01"), ("cap", "Cap", "Dear", None, "2024-03-01")]
    assert [row[2:] for row in classify(equal, "model")] == [("2.0000", "listed"), ("2.0000", "modelled")]
    assert [row[2:] for row in classify(equal[1:], "model")] == [(None, None)]
