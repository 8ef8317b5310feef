"""clean.orders_rejects: refused and repeated order lines, as received."""

from datetime import date

from jobs.bronze import orders as bronze
from jobs.clean import orders, orders_rejects
from tests.jobs.clean.rejects import landed, read_as_received

NO_PRODUCTS = "product_id STRING, day DATE, category STRING, price DECIMAL(18,4), currency STRING"
NO_CUSTOMERS = "customer_id STRING, email_key STRING, day DATE"
NO_RATES = "rated_on STRING, currency STRING, rate STRING, _file STRING, _row BIGINT"


def test_refused_and_repeated_lines_are_kept_as_received(spark):
    line = {"order_id": "1", "ordered_at": "2024-03-01 10:00:00", "product_id": "mug", "day": date(2024, 3, 1)}
    line |= {"quantity": "2", "unit_price": "3.00"}
    raw = landed(spark, bronze.TABLE, line, line | {"quantity": "two"}, line)
    lookups = [spark.createDataFrame([], schema) for schema in (NO_PRODUCTS, NO_CUSTOMERS, NO_RATES)]
    classified = orders.classify_orders(raw, *lookups, "GBP")
    assert read_as_received(raw, classified, orders_rejects.TABLE) == [
        (2, "reject", ["bad_quantity"]),
        (3, "duplicate", ["exact"]),
    ]
