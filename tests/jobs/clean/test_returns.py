"""clean.returns: the lines that returns are matched to. The scenarios of orders have the cases of money."""

import random
from datetime import date, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.clean import orders, returns
from jobs.clean._return_matching import Line, Return, match_order, match_price
from jobs.storage.lake import Lake
from tests.jobs.clean import order_kernels
from tests.jobs.clean.rejects import land

ONE = Decimal(1)


def line(number, pieces, price="2.00", product="mug", kind="product", currency="GBP", rate=ONE):
    pieces, price = Decimal(pieces), Decimal(price)
    return Line(number, product, kind, price, currency, rate, pieces, pieces * price * rate)


def back(pieces, price="2.00", product="mug", kind="product", money=None, names=False, currency="GBP", rate=ONE):
    pieces, price = Decimal(pieces), Decimal(price)
    return Return(
        0, product, kind, price, currency, rate, names, pieces, pieces * price * rate if money is None else Decimal(money)
    )


def summarize(matches):
    """Return (rule, line, pieces, money, money over) of each match."""
    return [(m.rule, m.line, int(m.pieces), float(m.amount), float(m.over_amount)) for m in matches]


def test_a_return_is_matched_to_the_latest_earlier_line_of_its_price_first():
    assert summarize(match_price([line(1, 5), line(2, 3)], back(4))) == [("by_price", 2, 3, 6.0, 0), ("by_price", 1, 1, 2.0, 0)]


def test_pieces_that_no_line_has_left_are_unmatched():
    lines = [line(1, 2)]
    assert summarize(match_price(lines, back(2))) == [("by_price", 1, 2, 4.0, 0)]
    assert summarize(match_price(lines, back(1))) == [("unmatched", None, 1, 2.0, 0)]


def test_a_return_by_price_that_gives_back_the_discount_too_is_over():
    discounted = line(1, 2)
    discounted.money -= 1
    assert summarize(match_price([discounted], back(3))) == [
        ("by_price", 1, 2, 3.0, 0), ("unmatched", None, 1, 2.0, 0), ("over_return", 1, 0, 0, 1.0),
    ]  # fmt: skip


def test_a_return_is_matched_to_lines_of_its_order_of_its_price_first():
    lines = [line(1, 2), line(2, 2, "5.00"), line(3, 2, "5.00", "jug")]
    assert summarize(match_order(lines, [back(3)])) == [("by_order", 1, 2, 4.0, 0), ("by_order", 2, 1, 2.0, 0)]


def test_money_without_pieces_is_matched_to_what_is_left_of_the_line():
    lines = [line(1, 1, "30.00")]
    sums = [back(0, "8.00", money="8.00"), back(1, "10.00"), back(1, "30.00")]
    assert summarize(match_order(lines, sums)) == [
        ("by_order", 1, 0, 8.0, 0), ("by_order", 1, 1, 10.0, 0), ("by_order", 1, 0, 12.0, 0), ("over_return", 1, 1, 0, 18.0),
    ]  # fmt: skip


def test_a_product_that_is_not_in_the_order_of_the_same_number_is_left_to_its_price():
    """An exchange at a till: what is given back was bought earlier."""
    till, named = back(1, product="jug"), back(1, product="jug", names=True)
    assert list(match_order([line(1, 1)], [till])) == []
    assert summarize(match_order([line(1, 1)], [named])) == [("by_amount", 1, 1, 2.0, 0)]


def test_a_return_at_another_rate_is_held_against_the_line_in_its_currency():
    """30 kroner sold at 0.07 and given back at 0.08 are all given back, and no more."""
    sold, later = Decimal("0.07"), Decimal("0.08")
    lines = [line(1, 1, "30.00", currency="SEK", rate=sold)]
    sums = [back(0, "10.00", money="0.80", currency="SEK", rate=later), back(1, "30.00", currency="SEK", rate=later)]
    matches = summarize(match_order(lines, sums))
    assert matches[0] == ("by_order", 1, 0, 0.8, 0)
    assert matches[1][:3] == ("by_order", 1, 1)
    assert 1.6 <= matches[1][3] <= 1.61
    assert matches[2][4] == pytest.approx(0.8, abs=0.011)


def test_the_money_of_a_split_return_adds_up_to_the_cent():
    matches = list(match_price([line(1, 1), line(2, 1), line(3, 1)], back(3, money="5.0000")))
    assert sum(m.amount for m in matches) == Decimal("5.0000")


PRODUCTS = ("mug", "jug", None)
_sale = st.fixed_dictionaries({
    "order_id": st.sampled_from("123"), "customer_id": st.sampled_from(["anna", "bert", None]),
    "product_id": st.sampled_from(PRODUCTS), "quantity": st.integers(1, 4).map(str),
    "unit_price": st.decimals(0, 20, places=2).map(str),
    "discount_amount": st.one_of(st.none(), st.decimals(-9, 9, places=2).map(str)),
    "order_discount": st.sampled_from([None, "3.33", "50"]), "order_shipping": st.sampled_from([None, "4.95"]),
})  # fmt: skip
_return = st.fixed_dictionaries({
    "kind": st.sampled_from(returns.UNDOING), "order_id": st.sampled_from("1RS"),
    "original_order_id": st.sampled_from(["1", "2", "3", "9", None]), "customer_id": st.sampled_from(["anna", "bert", None]),
    "product_id": st.sampled_from(PRODUCTS), "quantity": st.one_of(st.none(), st.integers(-4, 4).filter(bool).map(str)),
    "line_amount": st.decimals(-30, 30, places=2).map(str), "line_kind": st.sampled_from(["product", "postage"]),
})  # fmt: skip


def number(rows):
    """Return bronze rows, each a numbered line at a time of its own; they are in random order of time."""
    start = date(2024, 3, 1)
    numbered = []
    for n, row in enumerate(rows):
        day = start + timedelta(days=(n * 7) % 3)
        numbered.append(row | {"line_no": str(n), "ordered_at": f"{day} 10:00:{n:02}", "day": day})
    return numbered


def clean(rows):
    """Return (clean.orders, clean.returns, return lines) of rows."""
    classified = order_kernels.classify(land(orders.BRONZE, *rows))
    return [pl.DataFrame(pl.from_arrow(table)) for table in (*order_kernels.match(classified), classified["returned"])]


@settings(max_examples=60, deadline=None)
@given(st.lists(_sale, min_size=1, max_size=6), st.lists(_return, min_size=1, max_size=6), st.randoms())
def test_never_more_comes_back_than_was_sold_and_nothing_is_lost(sales, given_back, rng):
    rows = number([*sales, *given_back])
    lines, matches, returned = clean(rows)
    sold = lines.filter(pl.col("quantity") > 0)
    assert (sold["returned_amount"] <= sold["gross_amount"] - sold["discount_amount"]).all()
    assert (sold["returned_quantity"] <= sold["quantity"]).all()
    assert (lines.filter(pl.col("line_kind") != "discount")["discount_amount"] >= 0).all()
    stated = returned.select("order_id", "line_no", "day", "quantity", "amount").sort("day", "order_id", "line_no")
    sums = matches.group_by(order_id="return_order_id", line_no="return_line_no", day="day").agg(
        pl.col("quantity").sum(), amount=(pl.col("amount") + pl.col("over_amount")).sum()
    )  # fmt: skip
    assert sums.select(stated.columns).sort("day", "order_id", "line_no").rows() == stated.rows()
    shuffled = list(rows)
    rng.shuffle(shuffled)
    again = clean(shuffled)
    assert sorted(again[0].rows(), key=str) == sorted(lines.rows(), key=str)
    assert sorted(again[1].rows(), key=str) == sorted(matches.rows(), key=str)


def draw_history(seed):
    """Return rows of four days in which orders, returns by name, by number and by price compete for lines."""
    rng, rows = random.Random(seed), []  # noqa: S311
    for n in range(40):
        day = date(2024, 3, 1 + n % 4)
        row = {"line_no": str(n), "ordered_at": f"{day} 10:00:{n:02}", "day": day, "customer_id": rng.choice(["anna", "bert"])}
        row |= {"product_id": rng.choice(["mug", "jug"]), "unit_price": rng.choice(["2.00", "3.00"])}
        row |= {"order_id": rng.choice("12345"), "quantity": str(rng.randint(1, 4)), "kind": "sale"}
        if rng.random() < 0.5:
            row |= {"kind": "return", "order_id": rng.choice(["1", "R", f"R{n}"])}
            row |= {"original_order_id": rng.choice([None, None, "2", "3", "7"]), "product_id": rng.choice(["mug", "jug", None])}
        rows.append(row)
    return rows


@pytest.mark.parametrize("seed", range(2))
def test_days_cleaned_in_any_order_give_the_same_returns_and_orders(tmp_path, seed):
    def clean_days(name, *steps):
        lake = Lake(None, str(tmp_path / name))
        for days, rows in steps:
            chosen = [row for row in rows if row["day"] in days]
            accounts = order_kernels.clean_days(lake, land(orders.BRONZE, *chosen), days)
            assert not any(a.difference or a.all_measures["unaccounted"] for a in accounts.values())
        return [sorted(lake.read_small_table(table), key=str) for table in (orders.TABLE, returns.TABLE)]

    rows = draw_history(seed)
    days = sorted({row["day"] for row in rows})
    whole = clean_days("whole", (days, rows))
    in_turn = random.Random(seed).sample(days, len(days))  # noqa: S311
    assert clean_days("daily", *(([day], rows) for day in in_turn)) == whole
    fewer = [row for row in rows if int(row["line_no"]) % 5]
    assert clean_days("corrected", (days, fewer), *(([day], rows) for day in in_turn)) == whole
    assert {row["rule"] for row in whole[1]} >= {"by_order", "by_price", "over_return"}


def test_a_return_of_a_later_day_finds_the_lines_that_their_orders_gave_back_before(tmp_path):
    """The later return is matched by price alone: its day says nothing of the order that it could be matched to."""
    names = ("order_id", "line_no", "customer_id", "product_id", "quantity", "unit_price", "kind", "original_order_id")
    sent = [
        (1, "1", "1", "anna", "mug", "2", "2.00", "sale", None),
        (2, "R1", "1", None, "mug", "2", "2.00", "return", "1"),
        (3, "R2", "1", "anna", "mug", "1", "2.00", "return", None),
        (4, "2", "1", "anna", "mug", "1", "2.00", "sale", None),
    ]
    lake, days = Lake(None, str(tmp_path)), [date(2024, 3, day) for day, *_ in sent]
    rules = []
    for day, (_, *row) in zip(days, sent, strict=True):
        values = dict(zip(names, row, strict=True)) | {"ordered_at": f"{day} 10:00:00", "day": day}
        order_kernels.clean_days(lake, land(orders.BRONZE, values), [day])
        rules.append({r["return_order_id"]: r["rule"] for r in lake.read_small_table(returns.TABLE)})
    assert rules == [{}, {"R1": "by_order"}, *[{"R1": "by_order", "R2": "unmatched"}] * 2]
