"""What the clean tables share: text and numbers parsed, rows refused with their rules, and accounts of all rows."""

from collections import Counter
from collections.abc import Mapping
from datetime import date
from decimal import Decimal

import pyarrow.dataset as ds
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.clean import rules as declared
from jobs.quality.reconciliation import Account
from jobs.storage.lake import Lake
from jobs.storage.table import Table

VERSION = 5  # raise it when cleaning changes what the same input becomes: every day is then due again
_RAW_SCHEMA = """_extra MAP<STRING, STRING> COMMENT 'what the mapping does not name; a malformed row as text',
    _source STRING COMMENT 'source',
    _file STRING COMMENT 'file of origin',
    _row BIGINT COMMENT 'row in that file',
    _file_day DATE COMMENT 'day the file name states',
    _landed_at TIMESTAMP COMMENT 'when it was landed',
    outcome STRING NOT NULL COMMENT 'reject or duplicate',
    rules ARRAY<STRING> NOT NULL COMMENT 'why, the deciding rule first',
    day DATE NOT NULL COMMENT 'day it counts on'"""


def rejects_table(name: str, columns: tuple[str, ...]) -> Table:
    """Return the contract of clean.<name>_rejects: the raw row, the rules, the day."""
    raw = "".join(f"{c} STRING COMMENT 'as received',\n    " for c in columns)
    return Table(f"clean.{name}_rejects", f"Rows that clean.{name} refused, as received, with the rules.", raw + _RAW_SCHEMA)


def text(name: str) -> Column:
    """Return a text column without control characters, byte-order marks, zero-width spaces and outer blanks; empty is null."""
    return F.nullif(F.trim(F.regexp_replace(F.col(name), r"[\x00-\x1F\x7F-\x9F\x{FEFF}\x{200B}]", "")), F.lit(""))


def number(name: str, sql_type: str = "DECIMAL(18,4)") -> Column:
    """Return a text column as a number; null where it is no number."""
    return F.expr(f"try_cast(trim({name}) AS {sql_type})")


def broken_rules(rules: Mapping[str, Column]) -> Column:
    """Return the names of the rules a row breaks, in the order given. A malformed row breaks that rule alone.

    Raises ValueError for a rule that jobs/clean/rules.py does not declare.
    """
    if undeclared := set(rules) - declared.rule_names(declared.REFUSED):
        raise ValueError(f"jobs/clean/rules.py does not declare {', '.join(sorted(undeclared))}")
    others = F.array_compact(F.array(*(F.when(broken, F.lit(name)) for name, broken in rules.items())))
    return F.when(F.col("_extra")["_malformed"].isNotNull(), F.array(F.lit("malformed"))).otherwise(others)


def select_rejects(outcomes: DataFrame, raw: DataFrame, table: Table) -> DataFrame:
    """Return the refused rows of `outcomes` (columns _file, _row, outcome, rules, day), as received, in their table's shape."""
    refused = outcomes.where(F.col("outcome") != "kept").select("day", "_file", "_row", "outcome", "rules")
    return raw.join(F.broadcast(refused), ["day", "_file", "_row"], "inner").select(*table.columns)


def write_rejects(lake: Lake, outcomes: DataFrame, raw: DataFrame, table: Table, days: list[date] | None = None) -> None:
    """Write the refused rows of `days` (of the whole table, where None); nothing where there are and were none."""
    refused = select_rejects(outcomes, raw, table)
    were = ds.field("day").isin(days) if days else None
    if outcomes.where(F.col("outcome") != "kept").isEmpty() and not lake.read_small_table(table, ["day"], were):
        lake.create(table)
    elif days:
        lake.replace_days(table, refused, days)
    else:
        lake.replace(table, refused)


def account_days(
    lake: Lake, kept: Mapping[date, int], refused: Table, days: list[date], rows_in: Mapping[date, int],
    inputs: Mapping[date, str], measures: Mapping[date, dict[str, Decimal]] | None = None,
) -> list[Account]:  # fmt: skip
    """Return the account of each day: rows in as counted at landing, the others as counted in the written tables.

    `kept` counts the accepted source rows by day.
    """
    found: dict[tuple[date, str], Counter] = {}
    for row in lake.read_small_table(refused, ["day", "outcome", "rules"], ds.field("day").isin(days)):
        found.setdefault((row["day"], row["outcome"]), Counter())[row["rules"][0]] += 1
    return [
        Account(
            day,
            rows_in.get(day, 0),
            kept.get(day, 0),
            inputs[day],
            dict(found.get((day, "reject"), {})),
            dict(found.get((day, "duplicate"), {})),
            (measures or {}).get(day, {}),
        )
        for day in days
    ]


def count_by_day(lake: Lake, name: str, days: list[date]) -> dict[date, int]:
    """Return the number of rows of a table by day."""
    return {day: n for (day,), n in lake.count_by(name, ["day"], ds.field("day").isin(days)).items()}
