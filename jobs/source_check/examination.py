"""The first rows of a source, landed and cleaned as a refresh would, in a scratch lake that is removed at once."""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import datetime

import polars as pl

from jobs import business_day
from jobs.bronze import files
from jobs.bronze import pipeline as bronze
from jobs.bronze._new_files import MappedFiles
from jobs.clean import pipeline as clean
from jobs.config.settings import Settings
from jobs.config.source_mapping import COLUMNS, Source
from jobs.storage import scratch
from jobs.storage.lake import Lake

_TOLD = ("drift", "quote")  # what landing says that is of use here


@dataclass
class Outcome:
    """What became of the rows of a table: numbers of rows, and of refused and repeated ones by rule."""

    n_read: int = 0
    n_kept: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)

    @property
    def n_left_out(self) -> int:
        """The rows that the mapping leaves out."""
        return self.refused.get("left_out", 0)


@dataclass
class TableExamination:
    """The first rows of a table: its files by mapping, the landed texts, and what became of them."""

    table: str
    mapped: list[MappedFiles]
    rows: pl.DataFrame
    outcome: Outcome


def examine_source(settings: Settings, source: Source, now: datetime, most_rows: int) -> tuple[list[TableExamination], list[str]]:
    """Return what becomes of the first rows of each table of a source, and lines that landing says of its files.

    Raises UserError as a refresh does. Nothing is kept.
    """
    with scratch.open_scratch() as folder, redirect_stdout(io.StringIO()) as said:
        lake = Lake(None, f"{folder}/lake")
        settings = replace(settings, engine="local", lake=lake.root)
        new = bronze.land_first_rows(
            lake, settings, source, business_day.find_day(now, settings.business_time_zone), now, most_rows
        )
        days = files.read_days(lake, [f"bronze.{table}" for table in new if table in ("events", "orders")])
        landed = replace(source, mappings={table: source.mappings[table] for table in new})
        if days:
            clean.run(lake, settings, landed, sorted(days))
        accounts = lake.read_small_table("quality.reconciliation")
        tables = [
            TableExamination(table, part.mapped, _read_rows(lake, table), _sum_accounts(accounts, table))
            for table, part in new.items()
        ]
    return tables, [line for line in said.getvalue().splitlines() if line.startswith(_TOLD)]


def _read_rows(lake: Lake, table: str) -> pl.DataFrame:
    """Return the landed rows, without those that the mapping leaves out of snapshots."""
    rows = pl.DataFrame(pl.from_arrow(lake.read_arrow(bronze.TABLES[table])))
    if "_left_out" in rows.columns:
        rows = rows.filter(~pl.col("_left_out").fill_null(False))
    return rows.select(*COLUMNS[table], "_file", "_row", "_file_day", "day").sort("_file", "_row")


def _sum_accounts(accounts: list[dict], table: str) -> Outcome:
    """Return the sums over all days: of bronze what was read and left out, of clean what was kept, refused and repeated."""
    outcome = Outcome()
    for account in accounts:
        if account["table"] == f"bronze.{table}":
            outcome.n_read += account["rows_in"] or 0
            _add(outcome.refused, account["rejects"])
        if account["table"] == f"clean.{table}":
            outcome.n_kept += account["rows_out"] or 0
            _add(outcome.refused, account["rejects"])
            _add(outcome.repeated, account["duplicates"])
    return outcome


def _add(counts: dict[str, int], pairs: list | dict | None) -> None:
    for rule, n in dict(pairs or ()).items():
        counts[rule] = counts.get(rule, 0) + n
