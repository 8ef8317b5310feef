"""quality.reconciliation: when a day is due, when its revision changes, and money that vanished stops the day."""

from datetime import date
from decimal import Decimal

import pytest

from jobs.errors import UserError
from jobs.quality import reconciliation
from jobs.quality.reconciliation import Account

DAY = date(2024, 3, 1)
MONEY = {"amount": Decimal(9), "net": Decimal(6), "refused_void": Decimal(2), "repeated_exact": Decimal(1)}


def test_a_day_marked_due_gets_another_revision_and_a_day_computed_again_keeps_its_own(lake):
    def compute():
        reconciliation.write_accounts(lake, {"clean.orders": [Account(DAY, 1, 1, "inputs")]})
        return reconciliation.read_revisions(lake, "clean.orders")[DAY]

    def due_days():
        return reconciliation.due_days(lake, "clean.orders", {DAY: "inputs"}, [])

    assert due_days() == [DAY]
    first = compute()
    assert due_days() == []
    reconciliation.mark_due(lake, "clean.orders", [DAY])
    assert due_days() == [DAY]
    second = compute()
    assert second != first
    assert due_days() == []
    assert compute() == second


def test_money_that_came_in_is_in_the_tables_refused_or_repeated():
    assert Account(DAY, 1, 1, "", measures=MONEY).all_measures["unaccounted"] == 0
    assert Account(DAY, 1, 1, "", measures=MONEY | {"net": Decimal(5)}).all_measures["unaccounted"] == 1
    assert Account(DAY, 1, 1, "", measures={"customers": Decimal(3)}).all_measures == {"customers": Decimal(3)}


def test_money_unaccounted_for_stops_the_day_in_one_line(lake):
    measures = MONEY | {"amount": Decimal("9.01")}
    with pytest.raises(UserError) as error:
        reconciliation.write_accounts(lake, {"clean.orders": [Account(DAY, 1, 1, "", measures=measures)]})
    assert str(error.value) == (
        "reconcile: clean.orders, day 2024-03-01: 9.01 came in, +0.0100 of it unaccounted for;"
        " look at the measures in quality.reconciliation"
    )
