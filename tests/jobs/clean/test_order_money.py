"""The money of whole orders, spread over their lines. The scenarios of orders have the cases."""

from hypothesis import given
from hypothesis import strategies as st

from jobs.clean._order_money import Line, settle_order
from jobs.clean._spreading import spread

_amounts = st.integers(0, 10**8)


@given(st.integers(0, 10**9), st.lists(_amounts, max_size=8))
def test_shares_add_up_and_none_is_larger_than_its_room(amount, room):
    shares = spread(amount, room)
    assert sum(shares) == min(amount, sum(room))
    assert all(0 <= share <= size for share, size in zip(shares, room, strict=True))
    total = sum(room)
    assert all(abs(share * total - min(amount, total) * size) <= 100 * total for share, size in zip(shares, room, strict=True))


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
def test_shares_of_whole_cents_are_whole_cents(cents, room):
    shares = spread(cents * 100, [size * 100 for size in room])
    assert not any(share % 100 for share in shares)


_lines = st.lists(
    st.tuples(st.sampled_from(["product", "postage", "fee", "discount"]), _amounts, _amounts, st.booleans()),
    min_size=1,
    max_size=6,
)


@given(_lines, _amounts, st.integers(-(10**8), 10**8), st.integers(-(10**8), 10**8))
def test_the_net_of_an_order_is_what_its_rows_say_but_for_what_is_uncounted(rows, discount, shipping, tax):
    """A discount line has no gross, and is reduced by nothing."""
    lines = [Line(n, kind, 0 if kind == "discount" else gross, *rest) for n, (kind, gross, *rest) in enumerate(rows)]
    lines.sort(key=lambda line: line.is_return)
    settled, measures = settle_order(lines, discount, shipping, tax)

    def sum_net(rows):
        return sum((line.gross - line.discount) * (-1 if line.is_return else 1) for line in rows)

    assert sum_net(lines) + measures["amount"] == sum_net(settled) + measures["uncounted_over_discount"]
    assert all(0 <= line.discount <= line.gross for line in settled if line.line_kind != "discount")
    assert [line for line in settled if line.line_kind == "discount"] == [line for line in lines if line.line_kind == "discount"]
    assert sorted(line.row for line in settled if line.row is not None) == list(range(len(lines)))
    added = sum(line.row is None for line in settled)
    assert added == sum(amount > 0 or (amount < 0 and lines[0].is_return) for amount in (shipping, tax))
