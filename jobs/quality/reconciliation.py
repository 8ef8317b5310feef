"""quality.reconciliation: one row per table and day, with what became of every row, and what the day was computed from.

Rows in = rows out + rejects by rule + duplicates by rule, counted in the tables themselves after they were written.
Where there is money, the amount that came in = the amount in the tables + refused + repeated + uncounted (returns and discounts
beyond what was sold), to the cent. `inputs` is a
fingerprint of everything the day was computed from: a day is due when it differs.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.errors import UserError
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    `table` STRING NOT NULL COMMENT 'table',
    day DATE NOT NULL COMMENT 'day',
    rows_in BIGINT COMMENT 'rows that came in',
    rows_out BIGINT COMMENT 'rows in the table',
    rejects MAP<STRING, BIGINT> COMMENT 'refused rows by their first rule',
    duplicates MAP<STRING, BIGINT> COMMENT 'repeated rows by rule',
    difference BIGINT COMMENT 'rows in less all the others; 0 or the day fails',
    measures MAP<STRING, DECIMAL(18,4)> COMMENT 'sums over the rows that came in and over what became of them',
    inputs STRING COMMENT 'fingerprint of what the day was computed from',
    revision STRING COMMENT 'changes whenever the rows of the day may have changed'"""
NOT_KEPT = ("refused_", "repeated_", "uncounted_")  # how measures begin of money that came in and is not in the tables
_CENT_OF_A_CENT = Decimal("0.0001")
TABLE = Table("quality.reconciliation", __doc__.split("\n\n")[0], SCHEMA)


@dataclass
class Account:
    """What became of the rows of one table's day."""

    day: date
    rows_in: int
    rows_out: int
    inputs: str
    rejects: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    measures: dict[str, Decimal] = field(default_factory=dict)

    @property
    def difference(self) -> int:
        """The rows that came in and are not accounted for."""
        return self.rows_in - self.rows_out - sum(self.rejects.values()) - sum(self.duplicates.values())

    @property
    def all_measures(self) -> dict[str, Decimal]:
        """The measures; where there is an amount, also what of it is `unaccounted` for, in the home currency."""
        if "amount" not in self.measures:
            return self.measures
        not_kept = sum(value for name, value in self.measures.items() if name.startswith(NOT_KEPT))
        return self.measures | {"unaccounted": self.measures["amount"] - self.measures["net"] - not_kept}

    def to_row(self, table: str, revision: str) -> dict:
        """Return the account as a row of quality.reconciliation."""
        measures = {name: Decimal(value).quantize(_CENT_OF_A_CENT) for name, value in self.all_measures.items()}
        return {
            "table": table, "day": self.day, "rows_in": self.rows_in, "rows_out": self.rows_out,
            "rejects": sorted(self.rejects.items()), "duplicates": sorted(self.duplicates.items()), "difference": self.difference,
            "measures": sorted(measures.items()), "inputs": self.inputs, "revision": revision,
        }  # fmt: skip


def fingerprint_inputs(*inputs: object) -> str:
    """Return a short hash of these values, the same for the same values in the same order."""
    return hashlib.sha256("\n".join(map(str, inputs)).encode()).hexdigest()[:16]


def read_revisions(lake: Lake, table: str) -> dict[date, str]:
    """Return the revision of every day of a table that has an account."""
    rows = lake.read_small_table(TABLE, ["day", "revision"], ds.field("table") == table)
    return {row["day"]: row["revision"] for row in rows}


def count_rows_in(lake: Lake, table: str) -> dict[date, int]:
    """Return the rows that came in on every day of a table that has an account."""
    return {row["day"]: row["rows_in"] for row in lake.read_small_table(TABLE, ["day", "rows_in"], ds.field("table") == table)}


def due_days(lake: Lake, table: str, inputs: Mapping[date, str], requested: Iterable[date]) -> list[date]:
    """Return the days to compute: those requested, and those whose inputs differ from what the table was computed from."""
    rows = lake.read_small_table(TABLE, ["day", "inputs"], ds.field("table") == table)
    computed_from = {row["day"]: row["inputs"] for row in rows}
    changed = {day for day, fingerprint in inputs.items() if computed_from.get(day) != fingerprint}
    return sorted(changed | (set(requested) & set(inputs)))


def write_accounts(lake: Lake, accounts: Mapping[str, list[Account]]) -> None:
    """Replace the accounts of these tables' days in one commit; raise UserError where one does not add up."""
    accounts = {table: days for table, days in accounts.items() if days}
    if not accounts:
        return
    revisions = _next_revisions(lake, accounts)
    rows = [a.to_row(table, revisions[table, a.day]) for table, days in accounts.items() for a in days]
    replaced = {(row["table"], row["day"]) for row in rows}
    others = [row for row in lake.read_small_table(TABLE) if (row["table"], row["day"]) not in replaced]
    _write_rows(lake, others + rows)
    _raise_for_difference(accounts)


def _next_revisions(lake: Lake, accounts: Mapping[str, list[Account]]) -> dict[tuple[str, date], str]:
    """Return the revision of each table and day: the stored one where the inputs are the same, else a new one."""
    rows = lake.read_small_table(TABLE, ["table", "day", "inputs", "revision"], ds.field("table").isin(list(accounts)))
    stored = {(row["table"], row["day"]): (row["inputs"], row["revision"]) for row in rows}
    revisions = {}
    for table, days in accounts.items():
        for account in days:
            inputs, revision = stored.get((table, account.day), (account.inputs, account.inputs))
            is_same = inputs == account.inputs
            revisions[table, account.day] = revision if is_same else fingerprint_inputs(account.inputs, revision)
    return revisions


def _raise_for_difference(accounts: Mapping[str, list[Account]]) -> None:
    """Raise UserError for the first day whose rows, or whose money, is not accounted for."""
    wrong = [(table, account) for table, days in accounts.items() for account in days if account.difference]
    if wrong:
        table, first = wrong[0]
        raise UserError(
            f"reconcile: {table}, day {first.day}: {first.rows_in:,} rows in, {first.difference:+,} unaccounted for "
            f"({len(wrong)} days in all); look at quality.reconciliation"
        )
    for table, account in ((table, account) for table, days in accounts.items() for account in days):
        if unaccounted := account.all_measures.get("unaccounted"):
            raise UserError(
                f"reconcile: {table}, day {account.day}: {account.measures['amount']:,.2f} came in, {unaccounted:+,.4f} of it"
                " unaccounted for; look at the measures in quality.reconciliation"
            )


def mark_restated(lake: Lake, table: str, days: Iterable[date], cause: str) -> None:
    """Change the revision of days whose rows changed although their own inputs did not."""
    _change_rows(lake, table, days, lambda row: {"revision": fingerprint_inputs(row["revision"], cause)})


def mark_due(lake: Lake, table: str, days: Iterable[date]) -> None:
    """Make days due again although their own inputs did not change."""
    _change_rows(lake, table, days, lambda _: {"inputs": "due again"})


def _change_rows(lake: Lake, table: str, days: Iterable[date], change: Callable[[dict], dict]) -> None:
    days = set(days)
    rows = lake.read_small_table(TABLE) if days else []
    changed = [row | change(row) if row["table"] == table and row["day"] in days else row for row in rows]
    if changed != rows:
        _write_rows(lake, changed)


def _write_rows(lake: Lake, rows: list[dict]) -> None:
    in_order = sorted(rows, key=lambda row: (row["table"], row["day"]))
    lake.replace_rows(TABLE, pa.Table.from_pylist(in_order, TABLE.arrow_schema))
