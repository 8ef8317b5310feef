"""A lake that an older version landed, when bronze.orders had the column undoes_order_id, goes on with the same results."""

from datetime import UTC, date, datetime

import pytest

from jobs.bronze import orders as bronze_orders
from jobs.bronze import pipeline as landing
from jobs.bronze._contract import define_table
from jobs.clean import orders, orders_rejects, pipeline, returns
from jobs.clean._rows import rejects_table
from jobs.config import source_mapping
from jobs.config.source_mapping import COLUMNS, load_source
from jobs.storage.currency import read_currency
from tests.jobs.bronze.conftest import Vendor

DAY, LANDED_AT = date(2024, 3, 1), datetime(2024, 3, 2, tzinfo=UTC)
MAPPING = """
name = "vendor"
currency = "GBP"
[orders]
files = "orders.csv"
[orders.columns]
order_id = "id"
ordered_at = "time"
customer_id = "who"
product_id = "sku"
quantity = "n"
unit_price = "price"
kind = "what"
undoes_order_id = "original"
"""
ORDERS = (
    "id,time,who,sku,n,price,what,original",
    "1,2024-03-01 09:00:00,ann,mug,1,5.00,sale,",
    "2,2024-03-01 10:00:00,ann,mug,1,5.00,sale,",  # without a named order, the return would be matched to this line
    "3,2024-03-01 11:00:00,ann,mug,two,5.00,sale,",
    "R,2024-03-01 12:00:00,ann,mug,1,5.00,return,1",
)


@pytest.fixture
def vendor(lake, tmp_path):
    vendor = Vendor(lake, tmp_path / "input")
    vendor.map(MAPPING)
    vendor.file("orders.csv", *ORDERS)
    return vendor


def land_with_old_names(vendor):
    """Land the orders as a version did that had the old name of the column in bronze.orders and clean.orders_rejects."""
    old = tuple("undoes_order_id" if column == "original_order_id" else column for column in COLUMNS["orders"])
    meanings = {"undoes_order_id": "order that a return undoes", **bronze_orders.MEANINGS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COLUMNS, "orders", old)
        patch.setattr(source_mapping, "_OLD_NAMES", {})
        patch.setitem(landing.TABLES, "orders", define_table("orders", bronze_orders.__doc__, meanings, partition="day"))
        landing.run(vendor.lake, vendor.settings, DAY, LANDED_AT)
    vendor.lake.create(rejects_table("orders", old))


def clean(vendor):
    """Clean the day. Returns the order lines, the returns, and the orders of refused rows."""
    source = load_source(vendor.settings.source)
    pipeline.run(vendor.lake, vendor.settings, source, [DAY])
    assert read_currency(vendor.lake.root) == source.currency
    lines, matches = (sorted(vendor.lake.read_small_table(table), key=str) for table in (orders.TABLE, returns.TABLE))
    return lines, matches, [row["order_id"] for row in vendor.lake.read_small_table(orders_rejects.TABLE)]


def test_returns_keep_the_order_that_they_name_before_and_after_the_files_are_landed_again(vendor, capsys):
    land_with_old_names(vendor)
    before = clean(vendor)
    assert [(row["order_id"], row["rule"]) for row in before[1]] == [("1", "by_order")]
    assert before[2] == ["3"]
    capsys.readouterr()
    landing.run(vendor.lake, vendor.settings, DAY, LANDED_AT)
    assert "1 new files of 1" in " ".join(capsys.readouterr().out.split()), "the fingerprint of the mapping is another"
    assert vendor.rows("orders", "_row", "original_order_id", "undoes_order_id")[-1] == (4, "1", None)
    assert clean(vendor) == before
    landing.run(vendor.lake, vendor.settings, DAY, LANDED_AT)
    assert "all landed before" in capsys.readouterr().out
