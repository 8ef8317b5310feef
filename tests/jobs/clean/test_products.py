"""clean.products: a version is kept where something changed."""

from datetime import date

from jobs.clean import _versions, products
from jobs.source import COLUMNS


def test_only_changes_make_a_version_and_the_last_row_of_a_day_counts(spark):
    sent = [
        ("mug", "Mug", "2.00", "2024-03-01", 1),
        ("mug", "Mug", "2.50", "2024-03-01", 2),
        ("mug", "Mug", "2.50", "2024-03-02", 3),
        ("mug", "Mug", "free", "2024-03-03", 4),
        (None, "Nothing", "1", "2024-03-03", 5),
    ]
    rows = [(*({"product_id": p, "name": n, "price": c}.get(k) for k in COLUMNS["products"]), d, r) for p, n, c, d, r in sent]
    frame = spark.createDataFrame(rows, ", ".join(f"{c} STRING" for c in COLUMNS["products"]) + ", d STRING, _row BIGINT")
    raw = frame.selectExpr(*COLUMNS["products"], "CAST(map() AS MAP<STRING,STRING>) AS _extra", "'f' AS _file", "_row",
                           "CAST(d AS DATE) AS day")  # fmt: skip
    found = products.judged(raw, "GBP").orderBy("_row").collect()
    assert [(r.outcome, r.rules, r.price and str(r.price)) for r in found] == [
        ("duplicate", ["same_day"], "2.0000"),
        ("kept", [], "2.5000"),
        ("duplicate", ["unchanged"], "2.5000"),
        ("kept", [], None),
        ("reject", ["no_product"], "1.0000"),
    ]


def test_only_days_whose_rows_find_another_value_are_made_anew(spark):
    """The mug is dearer from the 3rd on, and the cup is known at last; a plate that nobody ordered changes nothing."""

    def listed(*rows):
        ddl = "product_id STRING, day STRING, category STRING, price STRING, currency STRING"
        frame = spark.createDataFrame([(*row, "GBP") for row in rows], ddl)
        return products.known(frame.withColumns({"day": frame.day.cast("date"), "price": frame.price.cast("DECIMAL(18,4)")}))

    mug, plate = ("mug", "2024-03-01", "kitchen", "2.00"), ("plate", "2024-03-01", "kitchen", "2.00")
    dearer, cup = ("mug", "2024-03-03", "kitchen", "3.00"), ("cup", "2024-03-09", "kitchen", "1.00")
    ordered = [("mug", 1), ("mug", 2), ("mug", 3), ("cup", 4), ("jar", 5), ("mug", 6), (None, 2)]
    asking = spark.createDataFrame([(key, date(2024, 3, day)) for key, day in ordered], "key STRING, day DATE")

    def days(*after, newest=9):
        found = _versions.days_seen_differently(asking, listed(mug, plate), listed(*after), date(2024, 3, newest))
        return [day.day for day in found]

    assert days(mug, dearer, cup) == [3, 4, 6]
    assert days(mug, dearer, plate, newest=2) == []
    assert days(mug, (*plate[:3], "9.00")) == []
