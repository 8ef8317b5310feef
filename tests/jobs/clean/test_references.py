"""Products and customers as reference tables: days of events and orders become due where a lookup gives another answer."""

from dataclasses import replace
from datetime import date

import pytest

from jobs.bronze import customers as bronze_customers
from jobs.bronze import events as bronze_events
from jobs.bronze import products as bronze_products
from jobs.clean import _references, customers, identity_days, orders, products
from jobs.config.settings import load_settings
from jobs.config.source_mapping import COLUMNS, TableMapping
from jobs.quality import reconciliation
from jobs.storage.lake import Lake
from tests.jobs.clean.order_kernels import SHOP
from tests.jobs.clean.rejects import land

DAYS = [date(2024, 3, day) for day in (1, 2, 3)]
SOURCE = replace(
    SHOP, mappings={t: (TableMapping(t, "*", {c: c for c in COLUMNS[t]}),) for t in ("events", "orders", "customers")}
)


@pytest.fixture
def lake(tmp_path):
    """A lake with an event and an order of a guest on each day, and their accounts."""
    lake = Lake(None, str(tmp_path / "lake"))
    guests = [{"email_key": " mail ", "product_id": "mug", "quantity": "1", "day": day} for day in DAYS]
    named = {"email_key": "mail", "customer_id": "anna", "product_id": "cup", "unit_price": "2", "category": "c", "day": DAYS[2]}
    lake.replace_rows(orders.BRONZE, land(orders.BRONZE, *guests, named), DAYS)
    views = [{"email_key": row["email_key"], "day": row["day"]} for row in guests[:2]]
    lake.replace_rows(bronze_events.TABLE, land(bronze_events.TABLE, *views), DAYS[:2])
    accounts = [reconciliation.Account(day, 0, 0, "cleaned") for day in DAYS]
    reconciliation.write_accounts(lake, {"clean.events": accounts, "clean.orders": accounts})
    return lake


def refresh(lake, reference, bronze, *rows):
    """Land rows in the place of a reference table's, and refresh it. Returns the due days of events and orders."""
    lake.replace_rows(bronze, land(bronze, *rows))
    entry = {"files": [str(rows)], "n_rows": {bronze.name: len(rows)}}
    named = {
        table: {day: {"files": ["file"], "n_rows": {f"bronze.{table}": 2}} for day in DAYS} for table in ("events", "orders")
    }
    landed = {bronze.name.split(".")[1]: {DAYS[0]: entry}} | named
    if reference is _references.refresh_people:
        accounts = _references.refresh_people(lake, load_settings({}), SOURCE, landed, DAYS[-1])
        reconciliation.write_accounts(lake, {identity_days.TABLE.name: accounts[identity_days.TABLE.name]})
    else:
        _references.refresh_reference_table(lake, reference(lake, load_settings({}), SOURCE), landed)
    due = [row for row in lake.read_small_table(reconciliation.TABLE) if row["inputs"] != "cleaned"]
    return [[row["day"].day for row in due if row["table"] == table] for table in ("clean.events", "clean.orders")]


def test_days_on_which_an_address_comes_to_name_a_customer_become_due(lake):
    """Those before the account is known too: a guest is stitched to it from then on."""
    anna = {"customer_id": "anna", "email_key": "mail", "day": DAYS[1]}
    bert = {"customer_id": "bert", "email_key": "own", "day": DAYS[1]}
    assert refresh(lake, _references.refresh_people, bronze_customers.TABLE, bert) == [[], []]
    assert refresh(lake, _references.refresh_people, bronze_customers.TABLE, bert, anna) == [[1, 2], [1, 2, 3]]
    assert sorted(row["email_key"] for row in lake.read_small_table(customers.TABLE)) == ["mail", "own"]


def test_only_orders_without_a_price_or_category_become_due_when_a_product_changes(lake):
    mug = {"product_id": "mug", "price": "2", "category": "kitchen", "day": DAYS[0]}
    dearer, cup = mug | {"price": "3", "day": DAYS[2]}, mug | {"product_id": "cup"}
    assert refresh(lake, _references.product_reference, bronze_products.TABLE, mug, cup, dearer) == [[], [1, 2, 3]]
    assert len(lake.read_small_table(products.TABLE)) == 3


def test_a_change_is_due_from_its_day_on_and_no_change_is_due_never(lake):
    mug = {"product_id": "mug", "price": "2", "category": "kitchen", "day": DAYS[0]}
    refresh(lake, _references.product_reference, bronze_products.TABLE, mug)
    accounts = [reconciliation.Account(day, 0, 0, "cleaned") for day in DAYS]
    reconciliation.write_accounts(lake, {"clean.orders": accounts})
    dearer, cup = mug | {"price": "3", "day": DAYS[2]}, mug | {"product_id": "cup"}
    assert refresh(lake, _references.product_reference, bronze_products.TABLE, mug, cup) == [[], []]
    assert refresh(lake, _references.product_reference, bronze_products.TABLE, mug, cup, dearer) == [[], [3]]
