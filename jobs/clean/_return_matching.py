"""Returns and the order lines that they are matched to, in plain Python: what each return takes of each line.

A line gives back no more pieces and no more money than were sold on it. A return in the foreign currency of its line counts at
the rate of its own day, and is held against the line at the rate of the line. First each return is matched to the order that
it names, or whose number it has; what is left then to lines of the same customer, product and price.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from jobs.clean._spreading import UNIT, from_units, spread, to_units

UNKNOWN_PRODUCT = "unknown"
_ZERO, _CENT = Decimal(0), Decimal("0.01")


@dataclass(slots=True)
class Line:
    """An order line: `pieces` and `money` (home currency, at its `rate`) are what is left of it to be given back."""

    number: int
    product_id: str
    line_kind: str
    unit_price: Decimal
    currency: str
    rate: Decimal
    pieces: Decimal
    money: Decimal


@dataclass(slots=True)
class Return:
    """A return line: `pieces` (0 where the source has none) and `money` are what is left of it to be matched."""

    number: int
    product_id: str
    line_kind: str
    unit_price: Decimal
    currency: str
    rate: Decimal
    names_order: bool
    pieces: Decimal
    money: Decimal
    surplus: Decimal = _ZERO
    last_line: int | None = None
    is_settled: bool = False
    whole: tuple[Decimal, Decimal] = field(init=False)

    def __post_init__(self):
        self.whole = self.pieces, self.money

    @property
    def is_counted(self) -> bool:
        """Whether the source says how many pieces."""
        return self.whole[0] > 0

    @property
    def is_open(self) -> bool:
        """Whether pieces are left, or money of a return without pieces."""
        return not self.is_settled and (self.pieces > 0 if self.is_counted else self.money > 0)

    @property
    def is_amount(self) -> bool:
        """Whether it gives back a sum of money, such as postage, and no product."""
        return self.line_kind != "product" or self.product_id == UNKNOWN_PRODUCT


class Match(NamedTuple):
    """What a return takes of a line, or of none, by a rule; `over_amount` is money beyond what was sold and is left."""

    returned: int
    line: int | None
    rule: str
    pieces: Decimal
    amount: Decimal
    over_amount: Decimal = _ZERO


def match_order(lines: Sequence[Line], returned: Sequence[Return]) -> Iterator[Match]:
    """Match the returns about one order, in order of time, to its lines, at least one. Those left over stay open.

    A return takes of lines of its product, of its price first, then of later lines first. An amount without a product, and a
    product that the order does not have, is spread over all lines in proportion to the money left on them. What is more than
    was sold is `over_return`. A product that is not in the order of the same number stays open.
    """
    for back in returned:
        of_product = _find_lines(lines, back)
        if not (of_product or back.is_amount or back.names_order):
            continue
        matches = list(_take_in_turn(back, of_product, "by_order", takes_money=True))
        if back.money > 0 and (back.is_amount or not of_product):
            matches = _add_up([*matches, *_take_in_proportion(back, lines)])
        yield from matches
        if back.money > 0 or back.pieces > 0 or not matches:
            yield _surplus(back, lines[0].number)
        back.is_settled = True


def match_price(lines: Sequence[Line], returned: Return) -> Iterator[Match]:
    """Match a return to lines of its customer, product and price, the latest last; pieces that are left are `unmatched`.

    Money that matched pieces did not cost is `over_return`.
    """
    yield from _take_in_turn(returned, lines[::-1], "by_price", takes_money=False)
    if returned.is_open or returned.last_line is None:
        yield Match(returned.number, None, "unmatched", returned.pieces, returned.money)
    if returned.surplus > 0:
        yield Match(returned.number, returned.last_line, "over_return", _ZERO, _ZERO, returned.surplus)


def _find_lines(lines: Sequence[Line], back: Return) -> list[Line]:
    """Return the lines of a return's product, or of its kind where it is none: of its price first, then later ones first."""
    alike = [
        line for line in reversed(lines) if line.product_id == back.product_id or (line.line_kind == back.line_kind != "product")
    ]
    return sorted(alike, key=lambda line: (line.unit_price, line.currency) != (back.unit_price, back.currency))


def _take_in_turn(back: Return, lines: Sequence[Line], rule: str, *, takes_money: bool) -> Iterator[Match]:
    """Take pieces with their share of the money, line by line; then, where `takes_money`, money that is left on the lines."""
    taken: dict[int, tuple[Decimal, Decimal]] = {}
    for line in lines:
        if not back.is_open:
            break
        pieces = min(back.pieces, line.pieces)
        share = back.money if pieces == back.pieces else (back.whole[1] * pieces / back.whole[0]).quantize(UNIT)
        amount = min(share, _find_room(back, line), back.money)
        if pieces > 0 or amount > 0:
            if not takes_money:
                back.surplus += share - amount
                back.money -= share - amount
            taken[line.number] = _take(back, line, pieces, amount)
    for line in lines if takes_money else ():
        if (amount := min(back.money, _find_room(back, line))) > 0:
            pieces, before = taken.get(line.number, (_ZERO, _ZERO))
            _take(back, line, _ZERO, amount)
            taken[line.number] = pieces, before + amount
    for number, (pieces, amount) in taken.items():
        yield Match(back.number, number, rule, pieces, amount)


def _take_in_proportion(back: Return, lines: Sequence[Line]) -> Iterator[Match]:
    """Take the money of a return of all lines in proportion to the money left on them. Its pieces stand on the first match."""
    shares = spread(to_units(back.money), [to_units(_find_room(back, line)) for line in lines])
    for line, share in zip(lines, shares, strict=True):
        if share:
            pieces, back.pieces = back.pieces, _ZERO
            yield Match(back.number, line.number, "by_amount", pieces, _take(back, line, _ZERO, from_units(share))[1])


def _find_room(back: Return, line: Line) -> Decimal:
    """Return the money left on a line, at the rate of the return where it is in the currency of the line.

    A cent is added to what is left of a foreign line, because both rates are rounded.
    """
    if line.rate == back.rate or line.currency != back.currency or not line.money:
        return line.money
    return (line.money * back.rate / line.rate).quantize(UNIT) + _CENT


def _take(back: Return, line: Line, pieces: Decimal, amount: Decimal) -> tuple[Decimal, Decimal]:
    """Take pieces and money of a line. A line whose money is all given back has no pieces left."""
    is_foreign = line.rate != back.rate and line.currency == back.currency
    at_line = (amount * line.rate / back.rate).quantize(UNIT) if is_foreign else amount
    rest = line.money - at_line
    line.pieces -= pieces
    line.money = _ZERO if is_foreign and rest < _CENT else rest
    if amount > 0 and line.money == 0:
        line.pieces = _ZERO
    back.pieces -= pieces
    back.money -= amount
    back.last_line = line.number
    return pieces, amount


def _add_up(matches: Sequence[Match]) -> list[Match]:
    """Return one match for each line: the rule of the first, and the sums."""
    by_line: dict[int | None, Match] = {}
    for match in matches:
        before = by_line.get(match.line)
        pieces, amount = (before.pieces, before.amount) if before else (_ZERO, _ZERO)
        by_line[match.line] = (before or match)._replace(pieces=pieces + match.pieces, amount=amount + match.amount)
    return list(by_line.values())


def _surplus(back: Return, line: int) -> Match:
    return Match(back.number, line, "over_return", back.pieces, _ZERO, back.money)
