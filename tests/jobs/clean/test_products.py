"""clean.products: a version is kept where something changed."""

from jobs.clean import products
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
