"""clean.products_rejects: refused and repeated products, as received."""

from datetime import date

from jobs.bronze import products as bronze
from jobs.clean import products, products_rejects
from tests.jobs.clean.rejects import landed, read_as_received


def test_refused_and_repeated_products_are_kept_as_received(spark):
    mug = {"product_id": "mug", "name": "Mug", "price": " 2.00", "day": date(2024, 3, 1)}
    raw = landed(spark, bronze.TABLE, mug, mug | {"product_id": None, "price": "free"}, mug | {"day": date(2024, 3, 2)})
    classified = products.classify_products(raw, "GBP")
    assert read_as_received(raw, classified, products_rejects.TABLE) == [
        (2, "reject", ["no_product"]),
        (3, "duplicate", ["unchanged"]),
    ]
