"""clean.products_rejects: refused and repeated products, as received."""

from datetime import date

from jobs.bronze import products as bronze
from jobs.clean import _rows, products, products_rejects
from tests.jobs.clean.rejects import land, read_as_received


def test_refused_and_repeated_products_are_kept_as_received():
    mug = {"product_id": "mug", "name": "Mug", "price": " 2.00", "day": date(2024, 3, 1)}
    raw = land(bronze.TABLE, mug, mug | {"product_id": None, "price": "free"}, mug | {"day": date(2024, 3, 2)})
    rejects = _rows.select_rejects(raw, products.classify_products(raw, "GBP"), products_rejects.TABLE)
    assert read_as_received(raw, rejects) == [(2, "reject", ["no_product"]), (3, "duplicate", ["unchanged"])]
