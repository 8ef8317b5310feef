"""Feed damaged files and wild values to landing and cleaning: `python -m benchmarks.fuzz --cases 10000 --seed 1`.

Half of the cases are files: random bytes, tables with wild values, and tables that were cut, mixed up or damaged. Each is either
read to its last row or refused with one line that names it. Wild values must come out as they went in.
The other half are rows with wild values in the columns of every table, landed and cleaned together. Each must be kept, a reject
or a duplicate. The first case that breaks a rule ends the run with exit code 1 and its seed.
"""

import argparse
import csv
import gzip
import io
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from jobs.bronze import _reading
from jobs.config.source_mapping import COLUMNS, TableMapping
from jobs.errors import UserError

SECRET = "secret of the fuzz test"  # noqa: S105
PERSON = "someone@private.example"
LAST = date(2024, 3, 5)
DAYS = [LAST - timedelta(days=n) for n in range(3)]
WILD = (
    "", " ", "NULL", "null", "None", "nan", "NaN", "Infinity", "-inf", "-0", "0", "1e400", "1e-400", "9" * 40, "0.00000001",
    "1,5", "1_000", "0x1F", "９９", "١٢", "--1", "+-2", "true", "\\N", "\\", "'", "'' OR 1=1 --", "%s", "{}", "${x}", "a|b",
    "\x00", "\x1f\x7f", "\u2028", "\ufeff", "\u202eabc", "e\u0301", "🛒" * 50, "x" * 5_000, "\t",
    "2024-02-30", "2024-03-04", "2024-3-4 5:6:7", "2024-13-01", "24:00:00", "10:00", "T10:00", "now", "today", "epoch",
    "0000-00-00", "0001-01-01", "1582-10-10", "-0044-03-15", "+12345-01-01", "9999-12-31T23:59:59-18:00",
    "+294247-01-10T04:00:54.775807Z", "2024-03-04T10:00:00+99:00", "1709546400", "12/31/2024", "GBP", "EUR",
    "view", "VIEW ", "purchase", "login", "sale", "return", "gift_card", "cancellation",
)  # fmt: skip


def random_value(rng: random.Random) -> str:
    """Return a wild value or a plain one."""
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(WILD)
    if kind < 0.75:
        return "".join(chr(rng.choice((rng.randrange(32, 127), rng.randrange(0xA0, 0x2FFF)))) for _ in range(rng.randrange(12)))
    if kind < 0.9:
        return str(rng.choice((rng.randrange(-5, 50), round(rng.uniform(-10, 1000), rng.randrange(8)))))
    return f"{rng.choice(DAYS)} {rng.randrange(24):02}:{rng.randrange(60):02}:00"


def make_file(seed: int) -> tuple[str, bytes, TableMapping, list[list[str]] | None]:
    """Return (file name, content, mapping, expected rows) of a case; the rows are None where the file may be refused."""
    rng = random.Random(seed)  # noqa: S311
    mapping = TableMapping("events", "*", {}, personal={"mail": "email"})
    if rng.random() < 0.15:
        return rng.choice(("f.csv", "f.csv.gz")), rng.randbytes(rng.randrange(400)), mapping, None
    columns = ["a", "mail", *(f"c {n}" for n in range(rng.randrange(4)))]
    rows = [[random_value(rng), PERSON, *(random_value(rng) for _ in columns[2:])] for _ in range(rng.randrange(30))]
    mapping = replace(mapping, delimiter=rng.choice(",;\t|"), encoding=rng.choice(("utf8", "utf8", "utf-16", "utf-8-sig")))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=mapping.delimiter, quoting=csv.QUOTE_ALL, lineterminator=rng.choice(("\n", "\r\n")))
    writer.writerows([columns, *rows])
    content = text.getvalue().encode(mapping.encoding)
    name = rng.choice(("f.csv", "f.csv.gz"))
    if rng.random() < 0.4:
        return name, gzip.compress(content) if name.endswith("gz") else content, mapping, rows
    content = damage(content, rng)
    if name.endswith("gz"):
        content = gzip.compress(content)
        content = content[: rng.randrange(len(content))] if rng.random() < 0.5 else content
    return name, content, mapping, None


def damage(content: bytes, rng: random.Random) -> bytes:
    """Return the content with a few bytes removed or replaced."""
    damaged = bytearray(content)
    for _ in range(rng.randrange(1, 6)):
        start = rng.randrange(len(damaged))
        damaged[start : start + rng.randrange(6)] = rng.choice((b"", b'"', b"\n", b"\r", b",", b";", b"\x00", rng.randbytes(3)))
    return bytes(damaged)


def is_file_refused(folder: Path, seed: int) -> bool:
    """Read the file of a case and return whether it was refused. Raises AssertionError where a rule is broken."""
    name, content, mapping, expected = make_file(seed)
    (folder / name).write_bytes(content)
    try:
        used = _reading.read_header(str(folder), name, mapping)[:1]
        rows = [row for batch in _reading.read_rows(str(folder), name, mapping, used, SECRET) for row in batch.to_pylist()]
    except UserError as error:
        assert name in str(error), f"names no file: {error}"
        assert "\n" not in str(error), f"more than a line: {error}"
        assert expected is None, f"a good file is refused: {error}"
        return True
    assert sorted(row["_row"] for row in rows) == list(range(1, len(rows) + 1)), "a row is missing or occurs twice"
    if expected is not None:
        assert [row["a"] for row in rows] == [fields[0] or None for fields in expected]
        assert [len(row["_extra"]) for row in rows] == [sum(map(bool, fields[1:])) for fields in expected]
        assert PERSON not in str(rows)
    return False


def plain_value(rng: random.Random, column: str) -> str:
    """Return a valid value; there are few ids, so that rows share them."""
    if column.endswith(("_id", "_key")):
        return rng.choice(("1", "2", "anna", "bert"))
    if column.endswith(("_at", "_on")):
        return f"{rng.choice(DAYS)} {rng.randrange(24):02}:{rng.randrange(60):02}:00"
    return {"event_type": "view", "quantity": "2", "unit_price": "1.50", "rate": "0.85", "currency": "GBP"}.get(column, "")


def make_rows(table: str, cases: int, seed: int) -> Iterator[list[str]]:
    """Yield rows with wild values, in every column or in one."""
    rng = random.Random(f"{table} {seed}")  # noqa: S311
    for _ in range(cases):
        wild_columns = COLUMNS[table] if rng.random() < 0.4 else (rng.choice(COLUMNS[table]),)
        yield [random_value(rng) if column in wild_columns else plain_value(rng, column) for column in COLUMNS[table]]


def write_shop(folder: Path, cases: int, seed: int) -> None:
    """Write a vendor's files with `cases` wild rows for each table, events and orders by day, and its mapping."""
    folder.mkdir(parents=True)
    mapping = ['name = "wild"', 'currency = "GBP"']
    for table, columns in COLUMNS.items():
        by_day = table in ("events", "orders")
        mapping += [f"[{table}]", f'files = "{table}*.csv"', *(["file_day = '(\\d{4}-\\d{2}-\\d{2})'"] if by_day else [])]
        mapping += [f"[{table}.columns]", *(f'{c} = "{c}"' for c in columns)]
        rows = list(make_rows(table, cases, seed))
        for n, day in enumerate(DAYS if by_day else DAYS[:1]):
            with (folder / (f"{table}-{day}.csv" if by_day else f"{table}.csv")).open("w", newline="", encoding="utf8") as file:
                csv.writer(file, quoting=csv.QUOTE_ALL).writerows([columns, *(rows[n :: len(DAYS)] if by_day else rows)])
    (folder / "wild.toml").write_text("\n".join(mapping) + "\n")


def reconcile_shop(lake, folder: Path, cases: int, seed: int) -> dict[str, tuple[int, int]]:
    """Land and clean a wild shop and return (rows in, rows out) by table. Raises AssertionError where rows are lost."""
    from jobs import steps
    from jobs.config.settings import load_settings

    write_shop(folder, cases, seed)
    shop_settings = replace(load_settings({}), input=str(folder), source=str(folder / "wild.toml"))
    for step in ("land", "clean"):
        steps.run_on_lake(lake, (step,), shop_settings, steps.Options([LAST]))
    counts: dict[str, tuple[int, int]] = {}
    for row in lake.read_small_table("quality.reconciliation"):
        assert row["difference"] == 0, f"rows are unaccounted for: {row}"
        rows_in, rows_out = counts.get(row["table"], (0, 0))
        counts[row["table"]] = rows_in + row["rows_in"], rows_out + row["rows_out"]
    for table in ("events", "orders", "products", "customers"):
        assert counts[f"clean.{table}"][0] == counts[f"bronze.{table}"][0] == cases, f"{table}: {counts}"
    return counts


def main() -> int:
    """Run the cases; returns 1 at the first that fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__.split("\n\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    n_files = arguments.cases // 2
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        n_refused = 0
        for seed in range(arguments.seed, arguments.seed + n_files):
            try:
                n_refused += is_file_refused(Path(folder), seed)
            except Exception as error:
                print(f"seed {seed}: {type(error).__name__}: {str(error)[:500]}")
                return 1
        print(f"{n_files:,} files, {n_refused:,} refused with one line, the others read: {time.monotonic() - started:.0f} s")
        from jobs.storage.lake import Lake

        rows_per_table = -(-(arguments.cases - n_files) // len(COLUMNS))
        counts = reconcile_shop(Lake(None, f"{folder}/lake"), Path(folder) / "wild", rows_per_table, arguments.seed)
        for table, (rows_in, rows_out) in sorted(counts.items()):
            print(f"{table:<20}{rows_in:>10,} rows in{rows_out:>10,} kept         0 unaccounted")
        verdict = f"{arguments.cases:,} fuzz cases, seed {arguments.seed}: no crash, every row accounted for"
        print(f"{verdict}  {time.monotonic() - started:.0f} s  met")
    return 0


if __name__ == "__main__":
    sys.exit(main())
