"""clean.customers_rejects: refused and repeated customers, as received."""

from datetime import date

from jobs.bronze import customers as bronze
from jobs.clean import _rows, customers, customers_rejects
from tests.jobs.clean.rejects import land, read_as_received


def test_refused_and_repeated_customers_are_kept_as_received():
    anna = {"customer_id": "anna", "registered_at": "2024-02-01", "country": " GB", "day": date(2024, 3, 1)}
    raw = land(bronze.TABLE, anna, anna | {"customer_id": " "}, anna | {"day": date(2024, 3, 2)})
    rejects = _rows.select_rejects(raw, customers.classify_customers(raw), customers_rejects.TABLE)
    assert read_as_received(raw, rejects) == [(2, "reject", ["no_customer"]), (3, "duplicate", ["unchanged"])]
