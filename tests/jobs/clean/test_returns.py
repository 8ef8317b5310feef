"""clean.returns: the line that a return is matched to. The scenarios of orders have the cases of money."""

from datetime import date
from decimal import Decimal

from jobs.clean.returns import match_returns


def entry(order_id, at, quantity, is_return=False, price="2.00", undoes=None):
    amount = Decimal(quantity) * Decimal(price)
    return {
        "order_id": order_id, "line_no": 1, "day": date(2024, 3, at), "at": at, "is_return": is_return,
        "customer_id": "anna", "product_id": "mug", "line_kind": "product", "category": None, "kind": "return",
        "unit_price": Decimal(price), "currency": "GBP", "is_guest": False, "undoes_order_id": undoes,
        "quantity": Decimal(quantity), "amount": amount,
    }  # fmt: skip


def pieces(*entries):
    return [(row[0], int(row[13]), str(row[14]), row[15], row[18]) for row in match_returns(list(entries))]


def test_a_return_is_matched_to_the_latest_earlier_line_of_its_price_first():
    matches = pieces(entry("1", 1, 5), entry("2", 2, 3), entry("3", 3, 3, price="9.00"), entry("R", 4, 4, True))
    assert matches == [("R", 3, "6.0000", "2", "by_price"), ("R", 1, "2.0000", "1", "by_price")]


def test_a_return_takes_no_more_pieces_than_are_left():
    matches = pieces(entry("1", 1, 2), entry("R", 2, 2, True), entry("S", 3, 1, True))
    assert matches == [("R", 2, "4.00", "1", "by_price"), ("S", 1, "2.00", None, "unmatched")]


def test_a_return_is_matched_to_the_order_it_names_whatever_the_price():
    matches = pieces(entry("1", 1, 2, price="5.00"), entry("2", 2, 2), entry("R", 3, 1, True, undoes="1"))
    assert matches == [("R", 1, "2.00", "1", "by_order")]


def test_the_money_of_a_split_return_adds_up_to_the_cent():
    matches = pieces(
        entry("1", 1, 1), entry("2", 2, 1), entry("3", 3, 1), {**entry("R", 4, 3, True), "amount": Decimal("5.0000")}
    )
    assert sum(Decimal(piece[2]) for piece in matches) == Decimal("5.0000")
