"""bronze.orders: only the rows that the mapping requests."""


def test_only_rows_that_fulfil_where_are_landed(vendor):
    vendor.file("orders.csv", "id,time,sku,n,state", "1,2024-03-01 10:00:00,mug,2,paid", "2,2024-03-01 10:00:00,mug,2,draft")
    vendor.land("orders")
    assert vendor.rows("orders", "_row", "order_id", "day", "quantity", "unit_price") == [(1, "1", "2024-03-01", "2", None)]
    (account,) = vendor.lake.read_small_table("quality.reconciliation")
    assert (account["table"], account["rows_in"], account["rows_out"], dict(account["rejects"])) == (
        "bronze.orders", 2, 1, {"left_out": 1},
    )  # fmt: skip


def test_an_order_without_a_usable_time_counts_on_the_day_of_landing(vendor):
    vendor.file("orders.csv", "id,time,sku,n,state", "1,never,mug,2,paid", "2,2099-01-01,mug,1,paid")
    vendor.land("orders", "2024-03-05")
    assert vendor.rows("orders", "_row", "day") == [(1, "2024-03-05"), (2, "2024-03-05")]
