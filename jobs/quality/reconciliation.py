"""quality.reconciliation: nothing vanishes, and which days have to be worked on.

One row per table and day: rows in = rows out + rejects by rule + duplicates by rule, counted in the tables themselves
after they were written. Where there is money: the amount that came in = what is in the tables + refused + repeated,
to the cent. `inputs` is a fingerprint of everything the day was made from: a day is due when it differs.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

import pyarrow.dataset as ds
from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.errors import UserError
from jobs.storage.lake import Lake
from jobs.storage.table import Table, days_predicate

SCHEMA = """
    `table` STRING NOT NULL COMMENT 'table',
    day DATE NOT NULL COMMENT 'day',
    rows_in BIGINT COMMENT 'rows that came in',
    rows_out BIGINT COMMENT 'rows in the table',
    rejects MAP<STRING, BIGINT> COMMENT 'refused rows by their first rule',
    duplicates MAP<STRING, BIGINT> COMMENT 'repeated rows by rule',
    difference BIGINT COMMENT 'rows in less all the others; 0 or the day fails',
    measures MAP<STRING, DECIMAL(18,4)> COMMENT 'sums over the rows that came in and over what became of them',
    inputs STRING COMMENT 'fingerprint of what the day was made from',
    revision STRING COMMENT 'changes whenever the rows of the day may have changed'"""
TABLE = Table("quality.reconciliation", __doc__.split("\n\n")[0], SCHEMA)


@dataclass
class Day:
    """The account of one table's day."""

    day: date
    rows_in: int
    rows_out: int
    inputs: str
    rejects: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    measures: dict[str, Decimal] = field(default_factory=dict)

    @property
    def difference(self) -> int:
        return self.rows_in - self.rows_out - sum(self.rejects.values()) - sum(self.duplicates.values())

    @property
    def money(self) -> dict[str, Decimal]:
        """The measures; where there is an amount, with what of it is `unaccounted` for, in the home currency."""
        if "amount" not in self.measures:
            return self.measures
        apart = sum(value for name, value in self.measures.items() if name.startswith(("refused_", "repeated_")))
        return self.measures | {"unaccounted": self.measures["amount"] - self.measures["net"] - apart}


def fingerprint(*parts: object) -> str:
    """A short hash of everything given, the same for the same values in the same order."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]


def revisions(lake: Lake, table: str) -> dict[date, str]:
    """The revision of every day of a table that was reconciled."""
    rows = lake.read_small_table(TABLE, ["day", "revision"], ds.field("table") == table)
    return {row["day"]: row["revision"] for row in rows}


def due(lake: Lake, table: str, wanted: Mapping[date, str], forced: Iterable[date]) -> list[date]:
    """The days to work on: those asked for, and those whose inputs are not what the table was made from."""
    rows = lake.read_small_table(TABLE, ["day", "inputs"], ds.field("table") == table)
    made_from = {row["day"]: row["inputs"] for row in rows}
    asked = set(forced) & set(wanted)
    return sorted(asked | {day for day, inputs in wanted.items() if made_from.get(day) != inputs})


def record(lake: Lake, accounts: Mapping[str, list[Day]]) -> None:
    """Write the accounts of these tables' days in one commit; raises UserError where one does not add up."""
    accounts = {table: days for table, days in accounts.items() if days}
    if not accounts:
        return
    earlier = lake.read_small_table(TABLE, ["table", "day", "inputs", "revision"], ds.field("table").isin(list(accounts)))
    before = {(row["table"], row["day"]): (row["inputs"], row["revision"]) for row in earlier}

    def revision(table: str, a: Day) -> str:
        inputs, revision = before.get((table, a.day), (a.inputs, a.inputs))
        return revision if inputs == a.inputs else fingerprint(a.inputs, revision)

    rows = [
        (table, a.day, a.rows_in, a.rows_out, a.rejects, a.duplicates, a.difference, a.money, a.inputs, revision(table, a))
        for table, days in accounts.items()
        for a in days
    ]
    of_tables = (f"(table = '{t}' AND ({days_predicate(sorted(a.day for a in days))}))" for t, days in accounts.items())
    lake.replace(TABLE, lake.spark.createDataFrame(rows, SCHEMA), " OR ".join(of_tables))
    wrong = [(table, a) for table, days in accounts.items() for a in days if a.difference]
    if wrong:
        table, first = wrong[0]
        raise UserError(
            f"reconcile: {table}, day {first.day}: {first.rows_in:,} rows in, {first.difference:+,} unaccounted for "
            f"({len(wrong)} days in all); look at quality.reconciliation"
        )
    for table, a in ((table, a) for table, days in accounts.items() for a in days if a.money.get("unaccounted")):
        raise UserError(
            f"reconcile: {table}, day {a.day}: {a.money['amount']:,.2f} came in, {a.money['unaccounted']:+,.4f} of it unaccounted"
            " for; look at the measures in quality.reconciliation"
        )


def restate(lake: Lake, table: str, days: Iterable[date], cause: str) -> None:
    """Mark days whose rows changed although their own inputs did not."""
    _change(lake, table, days, "revision", F.md5(F.concat("revision", F.lit(cause))))


def make_due(lake: Lake, table: str, days: Iterable[date]) -> None:
    """Have days worked on again although their own inputs did not change."""
    _change(lake, table, days, "inputs", F.lit("to be made anew"))


def _change(lake: Lake, table: str, days: Iterable[date], column: str, value: Column) -> None:
    days = sorted(set(days))
    if days:
        where = f"table = '{table}' AND ({days_predicate(days)})"
        lake.replace(TABLE, lake.read(TABLE).where(where).withColumn(column, value), where)
