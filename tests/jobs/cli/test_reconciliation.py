"""`shoal reconcile` on a small lake."""

import re
from datetime import date
from decimal import Decimal

import pytest

from jobs.clean import orders
from jobs.cli.reconciliation import format_reconciliation
from jobs.errors import UserError
from jobs.storage import currency
from jobs.storage.lake import Lake
from tests.jobs.report.lake import DAY, EVE, make_reconciliation, make_settings, write_rows


def test_rows_are_listed_by_table_and_by_rule(tmp_path):
    settings = make_settings(tmp_path)
    write_rows(settings.lake, "quality.reconciliation", make_reconciliation())
    text, differences = format_reconciliation(settings, [EVE, DAY])
    lines = [re.split(r"  +", line.strip()) for line in text.splitlines()]
    assert lines[0] == ["2026-03-30 to 2026-03-31, days with rows: 2"]
    assert lines[2] == ["table", "rows in", "rows out", "refused", "repeated", "unaccounted"]
    assert lines[4:6] == [["clean.events", "9,138", "9,120", "10", "8", "0"], ["clean.orders", "107", "98", "5", "4", "0"]]
    assert ["clean.events", "refused", "malformed", "10", "–"] in lines
    assert ["clean.orders", "repeated", "same_id", "1", "–"] in lines
    assert differences == []


def test_money_is_listed_by_day(tmp_path):
    """An order of 10 with a discount of 1 and a return of 4 on the next day, and a gift card of 50, which is no sale."""
    settings = make_settings(tmp_path)

    def make_account(day, **measures):
        empty = {"rows_in": 1, "rows_out": 1, "rejects": [], "duplicates": [], "difference": 0}
        return {"table": "clean.orders", "day": day, **empty, "measures": [(n, Decimal(v)) for n, v in measures.items()]}

    def read_lines():
        text, differences = format_reconciliation(settings, [EVE, DAY])
        return [re.split(r"  +", line.strip()) for line in text.splitlines()], differences

    gift = make_account(EVE, amount=59, net=9, refused_gift_card=50) | {"rejects": [("gift_card", 1)]}
    write_rows(settings.lake, "quality.reconciliation", [gift, make_account(DAY, amount=-4)])
    order = {"day": EVE, "gross_amount": 10, "discount_amount": 1, "returned_amount": 4, "net_amount": 5}
    refund = {"day": DAY, "order_day": EVE, "amount": 4}
    write_rows(settings.lake, "clean.orders", [{k: v if k == "day" else Decimal(v) for k, v in order.items()}])
    write_rows(settings.lake, "clean.returns", [refund | {"amount": Decimal(4)}])
    lines, differences = read_lines()
    assert ["clean.orders", "refused", "gift_card", "1", "50.00"] in lines
    assert lines[-5:] == [
        ["day", "came in", "refused", "repeated", "uncounted", "gross", "discounts", "returns", "net", "given back"],
        lines[-4],
        ["2026-03-30", "59.00", "50.00", "0.00", "0.00", "10.00", "1.00", "4.00", "5.00", "0.00"],
        ["2026-03-31", "-4.00", "0.00", "0.00", "0.00", "0.00", "0.00", "0.00", "0.00", "4.00"],
        ["in all", "55.00", "50.00", "0.00", "0.00", "10.00", "1.00", "4.00", "5.00", "4.00"],
    ]
    assert differences == []
    write_rows(settings.lake, "clean.returns", [refund | {"amount": Decimal(3)}])
    assert read_lines()[1] == ["clean.orders, day 2026-03-30, money"]


def test_money_beyond_what_was_sold_is_an_alarm_in_the_currency_of_the_lake(tmp_path):
    """The source configured now has another currency than the lake."""
    settings = make_settings(tmp_path)
    account = {"table": "clean.orders", "day": DAY, "rows_in": 1, "rows_out": 1, "rejects": [], "duplicates": [], "difference": 0}
    measures = {
        "amount": -20,
        "net": 0,
        "uncounted_over_return": -12,
        "uncounted_over_discount": -8,
        "differing_order_amounts": 1,
    }
    write_rows(settings.lake, "quality.reconciliation", [account | {"measures": [(n, Decimal(v)) for n, v in measures.items()]}])
    lines = format_reconciliation(settings, [DAY])[0].splitlines()
    assert "money in home currency: returns by the day of their order, given back by the day of refund" in lines
    lake = Lake(None, settings.lake)
    lake.create(orders.TABLE)
    lake.set_property(orders.TABLE, currency.PROPERTY, "SEK")
    text, differences = format_reconciliation(settings, [DAY])
    assert "money in SEK: returns by the day of their order, given back by the day of refund" in text
    assert "alarm: 12.00 were said to be given back beyond what was sold" in text
    assert "alarm: 8.00 of discounts are more than their orders cost" in text
    assert "alarm: 1 orders state an amount of the order differently" in text
    assert re.split(r"  +", text.splitlines()[-4].strip()) == ["2026-03-31", "-20.00", *["0.00"] * 2, "-20.00", *["0.00"] * 5]
    assert differences == []


def test_days_with_a_difference_or_without_rows_are_named(tmp_path):
    settings = make_settings(tmp_path)
    rows = make_reconciliation()
    write_rows(settings.lake, "quality.reconciliation", [rows[0] | {"difference": 2}, rows[1] | {"difference": -2}])
    _, differences = format_reconciliation(settings, [EVE, DAY])
    assert differences == ["clean.events, day 2026-03-30", "clean.events, day 2026-03-31"]
    with pytest.raises(UserError, match="no rows for 2025-01-01; run first: shoal clean --day 2025-01-01"):
        format_reconciliation(settings, [date(2025, 1, 1)])
