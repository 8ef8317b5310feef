"""clean.returns: the line that a return is matched to. The scenarios of orders have the cases of money."""

from datetime import date
from decimal import Decimal

from jobs.clean.returns import Entry, match_entries


def entry(order_id, day, quantity, is_return=False, price="2.00", undoes=None):
    pieces, price = Decimal(quantity), Decimal(price)
    return Entry(is_return, None, order_id, 1, date(2024, 3, day), price, "GBP", undoes, pieces, pieces * price)


def match(*entries):
    """Return (return, pieces, money, line) of each match."""
    return [
        (entries[m.returned].order_id, int(m.quantity), str(m.amount), None if m.line is None else entries[m.line].order_id)
        for m in match_entries(entries)
    ]


def test_a_return_is_matched_to_the_latest_earlier_line_of_its_price_first():
    matches = match(entry("1", 1, 5), entry("2", 2, 3), entry("3", 3, 3, price="9.00"), entry("R", 4, 4, True))
    assert matches == [("R", 3, "6.0000", "2"), ("R", 1, "2.0000", "1")]


def test_a_return_takes_no_more_pieces_than_are_left():
    matches = match(entry("1", 1, 2), entry("R", 2, 2, True), entry("S", 3, 1, True))
    assert matches == [("R", 2, "4.00", "1"), ("S", 1, "2.00", None)]


def test_a_return_is_matched_to_the_order_it_names_whatever_the_price():
    matches = match(entry("1", 1, 2, price="5.00"), entry("2", 2, 2), entry("R", 3, 1, True, undoes="1"))
    assert matches == [("R", 1, "2.00", "1")]


def test_the_money_of_a_split_return_adds_up_to_the_cent():
    split = entry("R", 4, 3, True)._replace(amount=Decimal("5.0000"))
    matches = match(entry("1", 1, 1), entry("2", 2, 1), entry("3", 3, 1), split)
    assert sum(Decimal(money) for _, _, money, _ in matches) == Decimal("5.0000")
