"""quality.reconciliation: when a day is due, when its revision changes, and money that vanished stops the day."""

from datetime import date
from decimal import Decimal

import pytest

from jobs.errors import UserError
from jobs.quality import reconciliation
from jobs.quality.reconciliation import Day

DAY = date(2024, 3, 1)
MONEY = {"amount": Decimal(9), "net": Decimal(6), "refused_void": Decimal(2), "repeated_exact": Decimal(1)}


def test_a_day_made_due_gets_another_revision_and_a_day_done_again_keeps_its_own(lake):
    def recorded():
        reconciliation.record(lake, {"clean.orders": [Day(DAY, 1, 1, "made of this")]})
        return reconciliation.revisions(lake, "clean.orders")[DAY]

    def due():
        return reconciliation.due(lake, "clean.orders", {DAY: "made of this"}, [])

    assert due() == [DAY]
    first = recorded()
    assert due() == []
    reconciliation.make_due(lake, "clean.orders", [DAY])
    assert due() == [DAY]
    second = recorded()
    assert second != first
    assert due() == []
    assert recorded() == second


def test_money_that_came_in_is_in_the_tables_refused_or_repeated():
    assert Day(DAY, 1, 1, "", measures=MONEY).money["unaccounted"] == 0
    assert Day(DAY, 1, 1, "", measures=MONEY | {"net": Decimal(5)}).money["unaccounted"] == 1
    assert Day(DAY, 1, 1, "", measures={"customers": Decimal(3)}).money == {"customers": Decimal(3)}


def test_money_unaccounted_for_stops_the_day_in_one_line(lake):
    with pytest.raises(UserError) as error:
        reconciliation.record(lake, {"clean.orders": [Day(DAY, 1, 1, "", measures=MONEY | {"amount": Decimal("9.01")})]})
    assert str(error.value) == (
        "reconcile: clean.orders, day 2024-03-01: 9.01 came in, +0.0100 of it unaccounted for;"
        " look at the measures in quality.reconciliation"
    )
