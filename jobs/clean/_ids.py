"""The ids of bronze rows, cleaned alike wherever they are read, and what was noted of them."""

from collections.abc import Collection, Mapping
from datetime import date
from decimal import Decimal

import polars as pl
import pyarrow as pa

from jobs import parsing
from jobs.clean import _rows
from jobs.progress import log

NullWords = Mapping[str, Collection[str]]  # words in lower case that are no ids, by column
NO_WORDS: NullWords = {}
# The rules of jobs/clean/rules.py that correct an id, and what a log says of it.
CORRECTED = {
    "null_word": "are words that are no ids: null",
    "decimal_id": "have a decimal point, such as 17850.0: taken as whole numbers",
}
REFUSED = "scientific_id"
_COUNTED = pl.Decimal(38, 4)


def clean_ids(raw: pa.Table, columns: Collection[str], null_words: NullWords) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the id columns of bronze rows, and what was noted of some values: position, rule, column."""
    cleaned = {column: parsing.clean_id(raw[column], null_words.get(_kind(column), ())) for column in columns}
    noted = [rows.with_columns(column=pl.lit(column)) for column, (_, rows) in cleaned.items()]
    return pl.DataFrame([ids.alias(column) for column, (ids, _) in cleaned.items()]), pl.concat(noted)


def _kind(column: str) -> str:
    """Return the column of the policy whose words hold for a column."""
    return {"merged_into": "customer_id", "original_order_id": "order_id"}.get(column, column)


def is_scientific(noted: pl.DataFrame) -> pl.Expr:
    """Whether a row (position) has an id in scientific notation."""
    return pl.col("position").is_in(noted.filter(pl.col("rule") == REFUSED)["position"].implode())


def measure_corrections(raw: pa.Table, noted: pl.DataFrame) -> pl.DataFrame:
    """Return how many ids were corrected: day, measure (<rule>_<column>), value."""
    days = _rows.take_column(raw, "day")
    corrected = noted.filter(pl.col("rule").is_in(list(CORRECTED)))
    corrected = corrected.with_columns(day=days.gather(corrected["position"]))
    measure = pl.concat_str("rule", "column", separator="_")
    return corrected.group_by("day", measure=measure).agg(value=pl.len().cast(_COUNTED))


def group_measures(measures: pl.DataFrame) -> dict[date, dict[str, Decimal]]:
    """Return the measures of measure_corrections, of all buckets, by day."""
    by_day: dict[date, dict[str, Decimal]] = {}
    for day, measure, value in measures.group_by("day", "measure").agg(pl.col("value").sum()).sort("day", "measure").iter_rows():
        by_day.setdefault(day, {})[measure] = value
    return by_day


def describe(null_words: NullWords) -> list[tuple[str, list[str]]]:
    """Return the words in an order of their own, as something that a day depends on."""
    return sorted((column, sorted(words)) for column, words in null_words.items())


def log_corrections(table: str, measures: Collection[Mapping[str, object]]) -> None:
    """Say how many ids of a table were corrected; `measures` are those of its days."""
    for rule, text in CORRECTED.items():
        counts = [int(value) for row in measures for name, value in row.items() if name.startswith(rule)]
        if counts:
            log(f"ids   {table:<28} {sum(counts):>12,} {text}")
