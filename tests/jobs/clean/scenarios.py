"""Rules as examples: pairs of CSV files that a shop owner can read, all cases of a table in one Spark job.

A prefix on every id keeps the cases apart; it is removed before rows are compared.
"""

import csv
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pyarrow as pa

FOLDER = Path(__file__).parent / "scenarios"
PREFIXED = (
    "order_id", "return_order_id", "original_order_id", "customer_id", "former_customer_id", "visitor_id", "email_key",
    "event_id", "user_agent", "id",
)  # fmt: skip
_ORIGIN = [
    ("_extra", pa.map_(pa.string(), pa.string())), ("_source", pa.string()), ("_file", pa.string()), ("_row", pa.int64()),
    ("_file_day", pa.date32()), ("_landed_at", pa.timestamp("us", "UTC")), ("day", pa.date32()),
]  # fmt: skip
_DELIVERY = {"orders": [("_delivery", pa.string()), ("_left_out", pa.bool_())]}


def cases(table: str) -> list[str]:
    """Return the names of a table's cases."""
    names = sorted(p.name.removesuffix("_input.csv") for p in (FOLDER / table).glob("*_input.csv"))
    assert names, f"no scenarios in {FOLDER / table}"
    return names


def read(table: str, case: str, kind: str) -> list[dict[str, str]]:
    """Return the rows of one file of a case; none where it has no such file."""
    path = FOLDER / table / f"{case}_{kind}.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for line in csv.DictReader(file) for row in _unrolled(line)]


def _unrolled(line: dict[str, str]) -> Iterator[dict[str, str]]:
    """The rows of a line: `repeat` of them, `every_seconds` apart in event_at; {n} in a value is the row's number."""
    repeat, every = int(line.pop("repeat", "") or 1), float(line.pop("every_seconds", "") or 0)
    for n in range(repeat):
        row = {column: value.replace("{n}", str(n + 1)) for column, value in line.items()}
        if n and every:
            row["event_at"] = str(datetime.fromisoformat(line["event_at"]) + timedelta(seconds=n * every))
        yield row


def raw_rows(table: str, columns: tuple[str, ...], time: str) -> pa.Table:
    """Return the input of all cases as bronze rows."""
    rows = []
    for case in cases(table):
        for number, line in enumerate(read(table, case, "input"), 1):
            text = {c: line.get(c) or None for c in columns}
            text |= {c: _prefix(case, text[c]) for c in PREFIXED if text.get(c)}
            file_day, day = line.get("_file_day"), line.get("day") or (line.get(time) or "2024-03-01")[:10]
            rows.append(
                text
                | {
                    "_extra": [("_malformed", line["_malformed"])] if line.get("_malformed") else [],
                    "_source": case, "_file": f"{case}~{line.get('_file', '')}", "_row": number,
                    "_file_day": date.fromisoformat(file_day) if file_day else None, "day": date.fromisoformat(day),
                }
            )  # fmt: skip
    texts = [(column, pa.string()) for column in columns]
    return pa.Table.from_pylist(rows, pa.schema([*texts, *_ORIGIN, *_DELIVERY.get(table, ())]))


def _prefix(case: str, text: str) -> str:
    """Return an id with its case, but for one that begins with = and stands for itself."""
    return text.removeprefix("=") if text.startswith("=") else f"{case}~{text}"


def by_case(rows: pa.Table) -> dict[str, list[dict]]:
    """Return rows by case, which prefixes `_file` or another column, without the prefixes."""
    rows_by_case: dict[str, list[dict]] = {}
    for row in rows.to_pylist():
        case = next(v for c in ("_file", *PREFIXED) if (v := row.get(c)) and "~" in v).split("~")[0]
        own = {c: v.split("~", 1)[1] for c in PREFIXED if (v := row.get(c)) and "~" in v}
        rows_by_case.setdefault(case, []).append(row | own)
    return rows_by_case


def assert_rows(actual: list[dict], expected: list[dict[str, str]]) -> None:
    """Assert equal rows in the columns of `expected`, in any order; numbers are compared by value."""
    columns = list(expected[0]) if expected else []
    plain_actual = sorted(tuple(_plain(row[c]) for c in columns) for row in actual)
    plain_expected = sorted(tuple(_plain(row[c]) for c in columns) for row in expected)
    assert len(actual) == len(expected), f"{len(actual)} rows, expected {len(expected)}: {plain_actual}"
    assert plain_actual == plain_expected, f"differ: {set(plain_actual) ^ set(plain_expected)}"


def _plain(value) -> str:
    if isinstance(value, list):
        return " ".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    text = "" if value is None else str(value).removesuffix("+00:00")
    try:
        return str(Decimal(text).normalize())
    except InvalidOperation:
        return text
