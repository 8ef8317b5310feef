"""clean.orders_rejects: refused and repeated order lines, as received."""

from datetime import date

from jobs.clean import _order_rows
from tests.jobs.clean import order_kernels
from tests.jobs.clean.rejects import land, read_as_received


def test_refused_and_repeated_lines_are_kept_as_received():
    line = {"order_id": "1", "ordered_at": "2024-03-01 10:00:00", "product_id": "mug", "day": date(2024, 3, 1)}
    line |= {"quantity": "2", "unit_price": "3.00"}
    raw = land(_order_rows.BRONZE, line, line | {"quantity": "two"}, line)
    rejects = order_kernels.classify(raw)["rejects"]
    assert read_as_received(raw.drop_columns(["undoes_order_id"]), rejects) == [
        (2, "reject", ["bad_quantity"]),
        (3, "duplicate", ["exact"]),
    ]


def test_a_malformed_row_breaks_that_rule_alone():
    raw = land(_order_rows.BRONZE, {"_extra": [("_malformed", "1;2;3")], "quantity": "two", "day": date(2024, 3, 1)})
    assert read_as_received(raw.drop_columns(["undoes_order_id"]), order_kernels.classify(raw)["rejects"]) == [
        (1, "reject", ["malformed"]),
    ]
