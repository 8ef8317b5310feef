"""How orders arrive: files that hold orders as they are now, or what happened once."""

import pytest

from jobs.config.source_mapping import TableMapping, choose_delivery

MAPPING = """
name = "vendor"
currency = "EUR"
[orders]
files = "orders.csv"
where = "state <> 'void'"
[orders.columns]
order_id = "id"
ordered_at = "at"
quantity = "cast(n AS INT)"
"""
ROWS = ("id,at,n,state", "1,2024-03-01 10:00:00,2,paid", "2,2024-03-02 10:00:00,none,void")


def test_rows_that_where_leaves_out_of_snapshots_are_landed_as_such(vendor):
    vendor.map(MAPPING.replace("where", 'delivery = "snapshots"\nwhere'))
    vendor.file("orders.csv", *ROWS)
    vendor.land("orders")
    assert vendor.rows("orders", "order_id", "quantity", "_delivery", "_left_out", "day", "_extra") == [
        ("1", "2", "snapshots", None, "2024-03-01", {}), ("2", None, "snapshots", True, "2024-03-02", None),
    ]  # fmt: skip
    accounts = vendor.lake.read_small_table("quality.reconciliation")
    assert [(a["rows_in"], a["rows_out"], a["difference"]) for a in accounts] == [(1, 1, 0), (1, 1, 0)]


def test_rows_that_where_leaves_out_of_changes_are_counted(vendor):
    vendor.map(MAPPING)
    vendor.file("orders.csv", *ROWS)
    vendor.land("orders")
    assert vendor.rows("orders", "order_id", "_delivery", "_left_out") == [("1", "changes", None)]
    accounts = vendor.lake.read_small_table("quality.reconciliation")
    assert [(a["rows_in"], a["rows_out"], dict(a["rejects"])) for a in accounts] == [(1, 1, {}), (1, 0, {"left_out": 1})]


@pytest.mark.parametrize(
    ("columns", "delivery", "expected"),
    [
        ({}, None, ("changes", "updated_at is not mapped")),
        ({"updated_at": "at"}, None, ("snapshots", "updated_at is mapped")),
        ({"updated_at": "at"}, "changes", ("changes", "the mapping says so")),
    ],
)
def test_the_delivery_follows_from_the_mapping(columns, delivery, expected):
    assert choose_delivery(TableMapping("orders", "*", columns, delivery=delivery)) == expected
