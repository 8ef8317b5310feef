"""Random histories of a shop's orders, as files that are delivered day by day."""

from datetime import date, timedelta
from random import Random

import pyarrow as pa

from jobs.clean import _order_rows
from tests.jobs.clean.rejects import land

FIRST = date(2024, 5, 1)
N_FILES = 5


def deliver(seed: int, delivery: str, may_move: bool = False) -> list[dict]:
    """Return the rows of bronze.orders of all files, each of a day; `may_move`: orders of snapshots may move to another day."""
    random = Random(seed)  # noqa: S311
    rows = []
    for number in range(random.choice((1, 3, 6))):
        placed = random.randrange(3)
        lines, customer, kind = _draw_lines(random), random.choice(("ann", "bob", None)), None
        for file in range(placed, N_FILES):
            event = random.choice(("same", "same", "silent", "edited", "moved", "cancelled", "redated"))
            if file > placed and kind is None:
                lines = _edit_lines(random, lines, delivery) if event == "edited" else lines
                customer = "cid" if event == "moved" else customer
                kind = "cancellation" if event == "cancelled" else kind
                placed = (placed + 1) % 3 if event == "redated" and may_move else placed
            if event != "silent" or file == placed:
                rows += [_row(number, line, file, placed, customer, kind, delivery) for line in lines]
    return rows


def _draw_lines(random: Random) -> list[tuple[int, str, int]]:
    return [(n, random.choice(("pot", "pan")), random.choice((0, 1, 2))) for n in range(1, random.choice((2, 3, 4)))]


def _edit_lines(random: Random, lines: list, delivery: str) -> list[tuple[int, str, int]]:
    """Changes can only change lines; a line that comes later restates its day from the first day on."""
    drawn = _draw_lines(random)
    if delivery == "snapshots":
        return drawn
    return [next((new for new in drawn if new[0] == line[0]), line) for line in lines]


def _row(number: int, line: tuple, file: int, placed: int, customer: str | None, kind: str | None, delivery: str) -> dict:
    line_no, product, pieces = line
    at = FIRST + timedelta(days=placed)
    return {
        "order_id": f"o{number}", "line_no": str(line_no), "ordered_at": f"{at} 1{number}:00:00", "customer_id": customer,
        "product_id": product, "quantity": str(pieces), "unit_price": "5.00", "kind": kind, "day": at, "_delivery": delivery,
        "_file": f"orders_{file + 8}", "_file_day": FIRST + timedelta(days=file),
    }  # fmt: skip


def to_bronze(rows: list[dict]) -> pa.Table:
    """Return the rows in the contract of bronze.orders."""
    return land(_order_rows.BRONZE, *rows)
