"""clean.products: a version is kept where something changed; a missing price is filled only where the policy asks for it."""

from datetime import date

import pytest

from jobs.clean import _versions, products
from jobs.config.source_mapping import COLUMNS


@pytest.fixture
def classify(spark):
    """(product, name, brand, price, day) in the order of their rows -> (outcome, rules, price, price_rule) of each."""

    def classify(sent, *policy):
        named = [dict(zip(("product_id", "name", "brand", "price"), row, strict=False)) for row in sent]
        rows = [(*map(row.get, COLUMNS["products"]), sent[n][4], n) for n, row in enumerate(named)]
        schema = ", ".join(f"{c} STRING" for c in COLUMNS["products"]) + ", d STRING, _row BIGINT"
        raw = spark.createDataFrame(rows, schema).selectExpr(
            *COLUMNS["products"], "CAST(map() AS MAP<STRING,STRING>) AS _extra", "'f' AS _file", "_row", "CAST(d AS DATE) AS day"
        )
        rows = products.classify_products(raw, "GBP", *policy).orderBy("_row").collect()
        return [(r.outcome, r.rules, r.price and str(r.price), r.price_rule) for r in rows]

    return classify


def test_only_changes_make_a_version_and_the_last_row_of_a_day_counts(classify):
    sent = [
        ("mug", "Mug", None, "2.00", "2024-03-01"),
        ("mug", "Mug", None, "2.50", "2024-03-01"),
        ("mug", "Mug", None, "2.50", "2024-03-02"),
        ("mug", "Mug", None, "free", "2024-03-03"),
        (None, "Nothing", None, "1", "2024-03-03"),
    ]
    assert classify(sent) == [
        ("duplicate", ["same_day"], "2.0000", "listed"),
        ("kept", [], "2.5000", "listed"),
        ("duplicate", ["unchanged"], "2.5000", "listed"),
        ("kept", [], None, None),
        ("reject", ["no_product"], "1.0000", "listed"),
    ]


def test_only_days_whose_lookups_give_another_value_are_affected(spark):
    """The mug is dearer from the 3rd on, and the cup is known at last; a plate that nobody ordered changes nothing."""

    def listed(*rows):
        ddl = "product_id STRING, day STRING, category STRING, price STRING, currency STRING"
        frame = spark.createDataFrame([(*row, "GBP") for row in rows], ddl)
        return products.product_validity(
            frame.withColumns({"day": frame.day.cast("date"), "price": frame.price.cast("DECIMAL(18,4)")})
        )

    mug, plate = ("mug", "2024-03-01", "kitchen", "2.00"), ("plate", "2024-03-01", "kitchen", "2.00")
    dearer, cup = ("mug", "2024-03-03", "kitchen", "3.00"), ("cup", "2024-03-09", "kitchen", "1.00")
    ordered = [("mug", 1), ("mug", 2), ("mug", 3), ("cup", 4), ("jar", 5), ("mug", 6), (None, 2)]
    lookups = spark.createDataFrame([(key, date(2024, 3, day)) for key, day in ordered], "key STRING, day DATE")

    def days(*after, newest=9):
        days = _versions.days_affected_by(lookups, listed(mug, plate), listed(*after), date(2024, 3, newest))
        return [day.day for day in days]

    assert days(mug, dearer, cup) == [3, 4, 6]
    assert days(mug, dearer, plate, newest=2) == []
    assert days(mug, (*plate[:3], "9.00")) == []


GAPS = [
    ("mug", "Mug", "Acme", None, "2024-03-01"),
    ("mug", "Mug", "Acme", "2.00", "2024-03-02"),
    ("mug", "Mug", "Acme", None, "2024-03-03"),
    ("mug", "Mug", "Acme", "3.00", "2024-03-06"),
    ("cap", "Cap", "Dear", "40.00", "2024-03-01"),
    ("bag", "Bag", "Dear", None, "2024-03-01"),
]


def test_a_missing_price_is_dropped_where_the_policy_says_drop(classify):
    outcomes = [(outcome, rules) for outcome, rules, *_ in classify(GAPS, "drop")]
    refused, kept = ("reject", ["no_list_price"]), ("kept", [])
    assert outcomes == [refused, kept, refused, kept, kept, refused]


def test_a_price_is_interpolated_by_time_between_two_known_prices_and_nowhere_else(classify):
    assert [row[2:] for row in classify(GAPS, "interpolate")] == [
        (None, None),
        ("2.0000", "listed"),
        ("2.2500", "interpolated"),
        ("3.0000", "listed"),
        ("40.0000", "listed"),
        (None, None),
    ]


def test_a_modelled_price_is_near_the_prices_of_its_brand_and_is_marked(classify):
    rows = classify(GAPS, "model")
    assert [row[3] for row in rows] == ["modelled", "listed", "modelled", "listed", "listed", "modelled"]
    assert 2 < float(rows[0][2]) == float(rows[2][2]) < 4
    assert 30 < float(rows[5][2]) < 41
    assert [row[2] for row in rows if row[3] == "listed"] == ["2.0000", "3.0000", "40.0000"]
