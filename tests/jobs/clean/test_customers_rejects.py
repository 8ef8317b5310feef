"""clean.customers_rejects: refused and repeated customers, as received."""

from datetime import date

from jobs.bronze import customers as bronze
from jobs.clean import customers, customers_rejects
from tests.jobs.clean.rejects import landed, read_as_received


def test_refused_and_repeated_customers_are_kept_as_received(spark):
    anna = {"customer_id": "anna", "registered_at": "2024-02-01", "country": " GB", "day": date(2024, 3, 1)}
    raw = landed(spark, bronze.TABLE, anna, anna | {"customer_id": " "}, anna | {"day": date(2024, 3, 2)})
    classified = customers.classify_customers(raw)
    assert read_as_received(raw, classified, customers_rejects.TABLE) == [
        (2, "reject", ["no_customer"]),
        (3, "duplicate", ["unchanged"]),
    ]
