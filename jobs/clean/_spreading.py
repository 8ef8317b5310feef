"""Money shared out over lines, so that the shares add up to it."""

from collections.abc import Sequence
from decimal import Decimal

UNIT = Decimal("0.0001")  # what the smallest amount of a table is a multiple of
_CENT = 100  # in units


def to_units(amount: Decimal) -> int:
    """Return an amount of four decimals in units of 0.0001."""
    return int(amount.scaleb(4))


def from_units(units: int) -> Decimal:
    """Return units of 0.0001 as an amount of four decimals."""
    return units * UNIT


def spread(amount: int, room: Sequence[int]) -> list[int]:
    """Share out `amount` in proportion to the room of each line, at most all of it; no share is larger than its room.

    All are in units of 0.0001, none below 0. Shares are whole cents where the amount and the room are. What rounding down
    leaves goes to the largest remainders, of equal ones to the first.

    >>> spread(10_0000, [10_0000, 10_0000, 10_0000])
    [33400, 33300, 33300]
    >>> spread(10_0000, [1_0000, 2_0000])
    [10000, 20000]
    """
    total = sum(room)
    if amount >= total:
        return list(room)
    unit = 1 if any(value % _CENT for value in (amount, *room)) else _CENT
    shares, remainders = zip(*(divmod(amount // unit * size, total) for size in room), strict=True)
    left = amount // unit - sum(shares)
    largest = set(sorted(range(len(room)), key=lambda n: (-remainders[n], n))[:left])
    return [(share + (n in largest)) * unit for n, share in enumerate(shares)]
