"""marts.segment_demand: what customers ordered and looked at, by the segment they had on that day."""

from datetime import date, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from jobs.business_day import FOREVER
from jobs.marts import segment_demand
from jobs.quality import reconciliation
from jobs.segment_history import HISTORY
from jobs.storage.lake import Lake
from tests.jobs import planted
from tests.jobs.marts.shop import replace_days, to_arrow, write_assignments, write_history

DAY = date(2024, 3, 1)
BEFORE, NEXT, LAST = (DAY + timedelta(days=n) for n in (-1, 1, 2))
SEGMENTS = to_arrow(HISTORY, [{"customer_id": "a", "segment_id": 1}, {"customer_id": "b", "segment_id": 2}])


def order(customer: str | None, order_id: str, category: str | None, units: int, day: date = DAY, **columns) -> dict:
    row = {"customer_id": customer, "order_id": order_id, "category": category, "day": day, "line_kind": "product"}
    row |= {"quantity": units, "returned_quantity": 0, "net_amount": 10 * units, "known_until": FOREVER} | columns
    return row | {name: Decimal(row[name]) for name in ("quantity", "returned_quantity", "net_amount")}


def event(customer: str | None, event_type: str, category: str | None, day: date = DAY, **columns) -> dict:
    row = {"customer_id": customer, "event_type": event_type, "category": category, "day": day}
    return row | {"product_id": "p", "is_bot": False} | columns


def sum_demand(orders: list[dict], events: list[dict], products: list[dict] = ()) -> pa.Table:
    """Return the demand of DAY, of which the segments are SEGMENTS."""
    tables = (segment_demand.ORDERS, orders), (segment_demand.EVENTS, events), (segment_demand.PRODUCTS, list(products))
    return segment_demand.sum_demand(*(to_arrow(table, rows) for table, rows in tables), SEGMENTS, DAY)


def to_tuples(rows) -> list[tuple]:
    return [tuple(row.values())[1:] for row in rows.to_pylist()]


def test_orders_and_clicks_are_counted_by_segment_and_category():
    orders = [
        order("a", "o1", "tea", 2), order("a", "o1", "tea", 1, returned_quantity=1, net_amount=0), order("a", "o1", "cups", 1),
        order("b", "o2", "tea", 5), order(None, "guest", "tea", 1), order("new", "o3", None, 1),
    ]  # fmt: skip
    events = [event("a", "view", "tea"), event("a", "add_to_cart", "tea"), event(None, "view", "tea"), event("b", "view", "tea")]

    demand = sum_demand(orders, events)

    assert to_tuples(demand) == [
        (None, None, 1, 1, 0, 10, 1, 0, 0), (None, "tea", 1, 1, 0, 10, 0, 1, 0),
        (1, "cups", 1, 1, 0, 10, 1, 0, 0), (1, "tea", 1, 3, 1, 20, 1, 1, 1), (2, "tea", 1, 5, 0, 50, 1, 1, 0),
    ]  # fmt: skip
    assert set(demand["day"].to_pylist()) == {DAY}


@pytest.mark.parametrize(
    "row",
    [
        order("a", "o1", "tea", 1, line_kind="postage"),
        order("a", "o1", "tea", 1, known_until=NEXT),  # an earlier version of the order
        order("a", "credit", "tea", 0, net_amount=-10),  # a return without a known line
        event("a", "view", "tea", is_bot=True),
        event("a", "view", None, product_id=None),
        event("a", "search", None),
    ],
)
def test_what_is_no_demand_for_a_product_is_left_out(row):
    orders, events = ([row], []) if "order_id" in row else ([], [row])

    assert sum_demand(orders, events).num_rows == 0


def test_an_event_without_a_category_has_that_of_its_product_on_the_day():
    events = [event("a", "view", None), event("a", "view", "tea"), event("a", "view", None, product_id="unknown")]

    demand = sum_demand(
        [], events, [{"product_id": "p", "day": BEFORE, "category": "mugs"}, {"product_id": "p", "day": DAY, "category": "cups"}]
    )

    assert [(row["category"], row["views"]) for row in demand.to_pylist()] == [(None, 1), ("cups", 1), ("tea", 1)]


def test_a_shop_without_events_has_no_counts_of_them():
    (row,) = sum_demand([order("a", "o1", "tea", 1)], []).to_pylist()

    assert (row["units"], row["views"], row["cart_adds"]) == (1, None, None)


class Days:
    """A lake with an order of one customer on each of three days, who is segmented on the first and the last."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.settings = lake, planted.settings(lake)
        for day in (DAY, NEXT, LAST):
            self.clean(day, [order("a", "o1", "tea", 1, day)])
        self.segment(DAY, 1)
        self.segment(LAST, 2)

    def clean(self, day: date, orders: list[dict]) -> None:
        replace_days(self.lake, segment_demand.ORDERS, orders, [day])
        account = reconciliation.Account(day, len(orders), len(orders), reconciliation.fingerprint_inputs(orders))
        reconciliation.write_accounts(self.lake, {"clean.orders": [account]})

    def segment(self, day: date, segment_id: int) -> None:
        row = {"customer_id": "a", "day": day, "segment_id": segment_id, "is_outlier": False, "model_version": "v1"}
        write_assignments(self.lake, day, [row])
        write_history(self.lake)

    def publish(self, day: date) -> dict[date, tuple]:
        """Return the segment and the pieces of each day once `day` is published."""
        segment_demand.run(self.lake, self.settings, day)
        rows = self.lake.read_arrow(segment_demand.TABLE).to_pylist()
        return {row["day"]: (row["segment_id"], int(row["units"])) for row in sorted(rows, key=lambda row: row["day"])}

    @property
    def version(self) -> int:
        return self.lake.version(segment_demand.TABLE.name)


@pytest.fixture
def days(tmp_path):
    return Days(Lake(None, str(tmp_path / "lake")))


def test_a_day_has_the_segment_that_held_on_it_and_a_day_to_come_has_no_rows_yet(days):
    assert days.publish(DAY) == {DAY: (1, 1), NEXT: (1, 1)}
    assert days.publish(LAST) == {DAY: (1, 1), NEXT: (1, 1), LAST: (2, 1)}


def test_a_late_order_restates_its_own_day_when_a_later_day_is_published(days):
    days.publish(LAST)
    days.clean(DAY, [order("a", "o1", "tea", 1), order("a", "late", "tea", 3)])

    assert days.publish(LAST) == {DAY: (1, 4), NEXT: (1, 1), LAST: (2, 1)}


def test_only_the_published_day_is_written_again_where_nothing_changed(days):
    days.publish(LAST)
    before = days.lake.read_arrow(segment_demand.TABLE, days=[DAY])
    files = days.lake.count_rows_by_day(segment_demand.TABLE.name)
    version = days.version

    days.publish(LAST)

    assert (days.version, days.lake.count_rows_by_day(segment_demand.TABLE.name)) == (version + 1, files)
    assert days.lake.read_arrow(segment_demand.TABLE, days=[DAY]) == before


@pytest.mark.parametrize("day", [NEXT, LAST])
def test_a_day_that_is_segmented_late_changes_the_days_until_the_next_known_one(days, day):
    days.publish(LAST)
    days.segment(NEXT, 3)

    assert days.publish(day) == {DAY: (1, 1), NEXT: (3, 1), LAST: (2, 1)}
