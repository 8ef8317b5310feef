"""What the clean tables share: text and numbers parsed, rows refused with their rules, and accounts of all rows."""

from collections import Counter
from collections.abc import Mapping
from datetime import date
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs import business_day
from jobs.clean import rules as declared
from jobs.config.settings import Settings
from jobs.quality.reconciliation import Account
from jobs.storage.lake import Lake
from jobs.storage.table import Table

VERSION = 7  # raise it when cleaning changes what the same input becomes: every day is then due again
_RAW_SCHEMA = """_extra MAP<STRING, STRING> COMMENT 'what the mapping does not name; a malformed row as text',
    _source STRING COMMENT 'source',
    _file STRING COMMENT 'file of origin',
    _row BIGINT COMMENT 'row in that file',
    _file_day DATE COMMENT 'day the file name states',
    _landed_at TIMESTAMP COMMENT 'when it was landed',
    outcome STRING NOT NULL COMMENT 'reject or duplicate',
    rules ARRAY<STRING> NOT NULL COMMENT 'why, the deciding rule first',
    day DATE NOT NULL COMMENT 'day it counts on'"""


def rejects_table(name: str, columns: tuple[str, ...], origin: str = "") -> Table:
    """Return the contract of clean.<name>_rejects: the raw row, the rules, the day; `origin` is DDL of further columns."""
    raw = "".join(f"{c} STRING COMMENT 'as received',\n    " for c in columns)
    return Table(
        f"clean.{name}_rejects",
        f"Rows that clean.{name} refused, as received, with the rules.",
        raw + (f"{origin},\n    " if origin else "") + _RAW_SCHEMA,
    )


def to_frame(rows: pa.Table) -> pl.DataFrame:
    """Return a table as a frame, not copied where the types allow."""
    return pl.DataFrame(pl.from_arrow(rows))


def take_column(rows: pa.Table, name: str) -> pl.Series:
    """Return a column as a series of that name."""
    return pl.Series(pl.from_arrow(rows[name])).alias(name)


def take_origin(raw: pa.Table) -> pl.DataFrame:
    """Return where each bronze row comes from: _file, _row, day, and its position among these rows."""
    origin = pl.DataFrame([take_column(raw, name) for name in ("_file", "_row", "day")])
    return origin.with_row_index("position")


def describe_zone(settings: Settings) -> tuple[str, ...]:
    """Return what the fingerprint of a day says of the shop's time zone: nothing where it is UTC."""
    return () if settings.business_time_zone == business_day.UTC else (settings.business_time_zone,)


def find_broken_rules(raw: pa.Table, typed: pl.DataFrame, rules: Mapping[str, pl.Expr]) -> pl.Series:
    """Return the names of the rules that each row breaks, in the order given. A malformed row breaks that rule alone.

    Raises ValueError for a rule that jobs/clean/rules.py does not declare.
    """
    declared.check_declared(rules)
    malformed = pl.Series(pl.from_arrow(pc.is_valid(pc.map_lookup(raw["_extra"], pa.scalar("_malformed"), "first"))))
    others = ((rule.fill_null(False) & ~malformed).alias(name) for name, rule in rules.items())
    broken = typed.select(malformed.alias("malformed"), *others)
    is_broken = broken.select(pl.any_horizontal(pl.all())).to_series()
    names = [pl.when(pl.col(name)).then(pl.lit(name)) for name in broken.columns]
    refused = broken.filter(is_broken).select(pl.concat_list(names).list.drop_nulls()).to_series()
    lists = pl.concat([pl.Series([[]], dtype=pl.List(pl.String)), refused])
    return lists.gather(is_broken.cast(pl.UInt32).cum_sum() * is_broken.cast(pl.UInt32)).alias("rules")


def select_rejects(raw: pa.Table, outcomes: pl.DataFrame, table: Table) -> pa.Table:
    """Return the rows of `raw` that were refused or repeated, as received, with their outcome and rules.

    `outcomes` has a row for each of them: position, outcome, rules.
    """
    not_kept = outcomes.filter(pl.col("outcome") != "kept").sort("position")
    rows = raw.take(not_kept["position"].to_arrow())
    for name in ("outcome", "rules"):
        rows = rows.append_column(name, not_kept[name].to_arrow())
    return rows.select(table.columns)


def encode_extra(maps: pa.ChunkedArray) -> pl.Series:
    """Return each map as text, the same for maps with equal entries in any order."""
    entries = pl.DataFrame({"entry": pl.Series(pl.from_arrow(maps))}).with_row_index("position")
    in_order = (
        entries.explode("entry", empty_as_null=False).drop_nulls("entry").sort("position", pl.col("entry").struct.field("key"))
        .group_by("position", maintain_order=True).agg(pl.col("entry").struct.json_encode().str.join(","))
    )  # fmt: skip
    return entries.select("position").join(in_order, "position", "left", maintain_order="left")["entry"].fill_null("")


def account_days(
    lake: Lake, kept: Mapping[date, int], refused: Table, days: list[date], rows_in: Mapping[date, int],
    inputs: Mapping[date, str], measures: Mapping[date, dict[str, Decimal]] | None = None,
) -> list[Account]:  # fmt: skip
    """Return the account of each day: rows in as counted at landing, the others as counted in the written tables.

    `kept` counts the accepted source rows by day.
    """
    counts: dict[tuple[date, str], Counter] = {}
    for row in lake.read_small_table(refused, ["day", "outcome", "rules"], ds.field("day").isin(days)):
        counts.setdefault((row["day"], row["outcome"]), Counter())[row["rules"][0]] += 1
    return [
        Account(
            day,
            rows_in.get(day, 0),
            kept.get(day, 0),
            inputs[day],
            dict(counts.get((day, "reject"), {})),
            dict(counts.get((day, "duplicate"), {})),
            (measures or {}).get(day, {}),
        )
        for day in days
    ]


def count_by_day(lake: Lake, name: str, days: list[date]) -> dict[date, int]:
    """Return the number of rows of a table by day."""
    return {day: n for (day,), n in lake.count_by(name, ["day"], ds.field("day").isin(days)).items()}
