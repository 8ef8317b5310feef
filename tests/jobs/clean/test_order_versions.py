"""Versions of orders: as of a past day an order is as it was known then, however and in whatever order files came."""

from datetime import date, timedelta
from random import Random

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from jobs.clean import _order_rows, customers, orders, orders_rejects, returns
from jobs.quality import reconciliation
from jobs.storage.lake import Lake
from tests.jobs.clean import order_histories, order_kernels
from tests.jobs.clean.rejects import land

DAYS = [order_histories.FIRST + timedelta(days=n) for n in range(order_histories.N_FILES)]
RANDOM = {
    "deadline": None,
    "phases": [Phase.explicit, Phase.generate],
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
}


def clean(rows: list[dict]) -> list[list[dict]]:
    """Return the rows of clean.orders and clean.returns of these rows of bronze.orders."""
    return [table.to_pylist() for table in order_kernels.match(order_kernels.classify(order_histories.to_bronze(rows)))]


def state(kept: list[dict], back: list[dict], day: date) -> list[dict]:
    """Return what clean.orders and clean.returns say, asked as of a day."""
    lines = [row for row in kept if row["known_from"] <= day < row["known_until"] and not row["is_unmatched"]]
    net = [
        {"customer": row["customer_id"], "day": row["day"], "order": row["order_id"], "line": row["line_no"],
         "pieces": row["quantity"], "paid": row["gross_amount"],
         "cancelled": row["status"] == "cancelled" and row["returned_at"].date() <= day}
        for row in lines
    ]  # fmt: skip
    returned = [row for row in back if row["day"] <= day]
    net += [{"customer": row["customer_id"], "day": row["day"], "returned": row["amount"]} for row in returned]
    return sorted(net, key=str)


@settings(max_examples=15, **RANDOM)
@given(seed=st.integers(0, 10**6), delivery=st.sampled_from(["snapshots", "changes"]))
def test_a_past_day_is_the_same_after_later_files(seed, delivery):
    rows = order_histories.deliver(seed, delivery)
    now = clean(rows)
    for day in DAYS:
        assert state(*clean([row for row in rows if row["_file_day"] <= day]), day) == state(*now, day)


def read_all(lake):
    tables = (orders.TABLE, returns.TABLE, orders_rejects.TABLE)
    return [sorted(lake.read_small_table(table), key=str) for table in tables]


def clean_all(lake, rows, days):
    accounts = order_kernels.clean_days(lake, order_histories.to_bronze([row for row in rows if row["day"] in days]), days)
    assert not any(account.difference for account in accounts.values())
    assert not any(account.all_measures.get("unaccounted") for account in accounts.values())


@settings(max_examples=4, **RANDOM)
@given(seed=st.integers(0, 10**6), delivery=st.sampled_from(["snapshots", "changes"]))
@example(seed=17896, delivery="changes")  # a cancellation has no line at first, and lies on a day without landed orders
def test_files_in_any_portions_and_days_in_any_order_give_the_same_tables(tmp_path_factory, seed, delivery):
    """Also where an order moves to another day: then the day that it left is cleaned too."""
    rows = [row | {"_row": n} for n, row in enumerate(order_histories.deliver(seed, delivery, delivery == "snapshots"), 1)]
    whole, portions = (Lake(None, str(tmp_path_factory.mktemp(name))) for name in ("whole", "portions"))
    clean_all(whole, rows, sorted({row["day"] for row in rows}))
    random, landed = Random(seed), []  # noqa: S311
    files = sorted({row["_file"] for row in rows})
    while files:
        portion = [files.pop(random.randrange(len(files))) for _ in range(min(len(files), random.choice((1, 2))))]
        new = [row for row in rows if row["_file"] in portion]
        landed += new
        for day in random.sample(days := sorted({row["day"] for row in new}), len(days)):
            clean_all(portions, sorted(landed, key=lambda row: row["_row"]), [day])
    assert read_all(portions) == read_all(whole)


MERGED = pl.DataFrame(
    [("old", "new", date(2024, 5, 4)), ("old", "newest", date(2024, 5, 7))], ["customer_id", "owner", "since"], orient="row"
)


def versions(raw, people=order_kernels.NO_CUSTOMERS, merges=None):
    """Return (customer, known from, known until) of the order lines, days of May 2024; None for what still holds."""
    kept, _ = order_kernels.match(order_kernels.classify(raw, people=people, merges=merges))
    rows = [(row["customer_id"], row["known_from"], row["known_until"]) for row in kept.to_pylist()]
    return [(who, since.day, until.day if until < orders.FOREVER else None) for who, since, until in rows]


def line(**more):
    return {"order_id": "1", "line_no": "1", "ordered_at": "2024-05-02 10:00:00", "product_id": "pot", "quantity": "1",
            "unit_price": "5.00", "day": date(2024, 5, 2), **more}  # fmt: skip


def test_an_order_of_a_merged_account_is_the_new_ones_from_the_merge_on():
    raw = land(_order_rows.BRONZE, line(customer_id="old"))
    assert versions(raw, merges=MERGED) == [("old", 2, 4), ("new", 4, 7), ("newest", 7, None)]


@pytest.mark.parametrize(("placed", "expected"), [(5, [("new", 5, 7), ("newest", 7, None)]), (8, [("newest", 8, None)])])
def test_an_order_after_the_merge_is_the_new_accounts_from_its_day_on(placed, expected):
    at = date(2024, 5, placed)
    raw = land(_order_rows.BRONZE, line(customer_id="old", ordered_at=f"{at} 10:00:00", day=at))
    assert versions(raw, merges=MERGED) == expected


def test_a_guests_order_follows_the_account_that_its_address_gets_and_where_that_is_merged():
    holders = (("old", date(2024, 5, 3)), ("late", date(2024, 5, 9)))
    people = [{"customer_id": who, "email_key": "mail", "day": since} for who, since in holders]
    addresses = pa.Table.from_pylist(people, customers.TABLE.arrow_schema)
    raw = land(_order_rows.BRONZE, line(email_key="mail"))
    assert versions(raw, addresses) == [(None, 2, 3), ("old", 3, None)]
    assert versions(raw, addresses, MERGED) == [(None, 2, 3), ("old", 3, 4), ("new", 4, 7), ("newest", 7, None)]


def test_a_cancellation_that_a_later_file_brings_changes_the_revision_of_both_days(tmp_path):
    """The order's day has a cancelled order, and the day of the cancellation, on which nothing was landed, a return."""
    lake = Lake(None, str(tmp_path))
    first = line(customer_id="ann", _delivery="snapshots", _file="a", _file_day=date(2024, 5, 2))
    later = first | {"kind": "cancellation", "_file": "b", "_file_day": date(2024, 5, 6)}
    of_bob = line(customer_id="bob", order_id="2", ordered_at="2024-05-03 10:00:00", day=date(2024, 5, 3), _file="a")
    days = [date(2024, 5, 2), date(2024, 5, 3)]
    accounts = order_kernels.clean_days(lake, land(_order_rows.BRONZE, first, of_bob), days)
    reconciliation.write_accounts(lake, {orders.TABLE.name: list(accounts.values())})
    before = reconciliation.read_revisions(lake, orders.TABLE.name)
    accounts = order_kernels.clean_days(lake, land(_order_rows.BRONZE, first, later), days[:1])
    assert {day: account.rows_in for day, account in accounts.items()} == {days[0]: 2, date(2024, 5, 6): 0}
    back = line(customer_id="bob", order_id="R", ordered_at="2024-05-04 10:00:00", day=date(2024, 5, 4), kind="return")
    order_kernels.clean_days(lake, land(_order_rows.BRONZE, back), [date(2024, 5, 4)])
    after = reconciliation.read_revisions(lake, orders.TABLE.name)
    assert (before[days[1]] != after[days[1]], before[days[0]] == after[days[0]]) == (True, True)
