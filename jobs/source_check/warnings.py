"""What looks wrong in the first rows of a table, each as one line that says what to do."""

from collections.abc import Iterator
from datetime import UTC

import polars as pl

from jobs import parsing
from jobs.bronze._days import TIME_COLUMNS
from jobs.source_check.examination import TableExamination
from jobs.source_guess import values as looks

_IDS = ("order_id", "customer_id", "visitor_id", "product_id", "line_id", "original_order_id", "event_id")
_NUMBERS = (
    "quantity",
    "unit_price",
    "line_amount",
    "discount_amount",
    "order_discount",
    "order_shipping",
    "order_tax",
    "price",
    "rate",
)
_PER_LINE = ("discount_amount", "line_amount")  # amounts of a line, which an export may state of the whole order
_NO_IDS = ("null", "none", "nan", "undefined", "guest", "0", "(not set)", "n/a", "na")
_MANY = 0.5  # share of rows from which something is worth a line
_FEW_ROWS = 5  # with fewer nothing is said of how values are spread


def find_warnings(examined: TableExamination) -> list[str]:
    """Return what looks wrong, the worst first."""
    rows = examined.rows
    columns = sorted({column for part in examined.mapped for column in part.mapper.mapping.columns})
    expressions = {column: e for part in examined.mapped for column, e in part.mapper.mapping.columns.items()}
    if not len(rows):
        n = examined.outcome.n_read
        return [
            f"none of the {n:,} rows read is taken: more --rows may show one; else look at `where`, `unnest`, `select`, `files`"
        ]
    return [
        *_warn_refused(examined),
        *_warn_times(rows, [c for c in TIME_COLUMNS.get(examined.table, ("rated_on", "known_on")) if c in columns], expressions),
        *_warn_numbers(rows, [c for c in _NUMBERS if c in columns], expressions),
        *_warn_ids(rows, [c for c in _IDS if c in columns]),
        *_warn_customers(rows, examined.table, columns),
        *_warn_order_amounts(rows, [c for c in _PER_LINE if c in columns]),
        *_warn_nulls(rows, columns),
        *_warn_event_types(rows, columns),
    ]


def _warn_refused(examined: TableExamination) -> Iterator[str]:
    outcome = examined.outcome
    refused = {rule: n for rule, n in outcome.refused.items() if rule != "left_out"}
    n_refused = sum(refused.values())
    if not n_refused or n_refused < _MANY * (n_refused + outcome.n_kept):
        return
    rule = max(refused, key=refused.get)
    which = "every row is" if not outcome.n_kept else f"{n_refused:,} of {n_refused + outcome.n_kept:,} rows are"
    yield f"{which} refused, most by `{rule}`: docs/rules.md says when"
    if rule == "future" and examined.rows["_file_day"].null_count() < len(examined.rows):
        yield "rows are later than the day in the name of their file: remove file_day, or correct its time zone"


def _texts(rows: pl.DataFrame, column: str) -> pl.Series:
    texts = rows[column].cast(pl.String).str.strip_chars()
    return texts.filter(texts.is_not_null() & (texts != ""))


def _warn_times(rows: pl.DataFrame, columns: list[str], expressions: dict[str, str]) -> Iterator[str]:
    for column in columns:
        texts = _texts(rows, column)
        unread = texts.filter(parsing.parse_time(texts).is_null())
        if not len(unread):
            continue
        place, first = expressions[column], unread.to_list()
        share = f"{len(unread):,} of {len(texts):,}"
        if (unit := looks.find_epoch_unit(first[0])) and looks.is_plain(place):
            words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}[unit]
            yield f"{column}: {words} since 1970, taken as text: write from_epoch_{unit}({looks.quote(place)})"
        elif looks.is_plain(place) and (form := looks.guess_time(place, first)) and form.expression != place:
            yield f"{column}: {share} values are times in another form ({form.note}): write {form.expression}"
        else:
            yield f"{column}: {share} values are no times"


def _warn_numbers(rows: pl.DataFrame, columns: list[str], expressions: dict[str, str]) -> Iterator[str]:
    for column in columns:
        texts = _texts(rows, column)
        unread = texts.filter(parsing.parse_number(texts).is_null())
        if not len(unread):
            continue
        place = expressions[column]
        guess = (
            looks.guess_number(place, unread.to_list()) if looks.is_plain(place) and len(unread) >= _MANY * len(texts) else None
        )
        hint = f" ({guess[1]}): write {guess[0]}" if guess and guess[0] != place else ""
        yield f"{column}: {len(unread):,} of {len(texts):,} values are no numbers{hint}"


def _warn_ids(rows: pl.DataFrame, columns: list[str]) -> Iterator[str]:
    for column in columns:
        values = _texts(rows, column).to_list()
        if n := sum(map(looks.is_scientific, values)):
            yield f"{column}: {n:,} ids in scientific notation; their last digits are lost: export them as text"
        with_zero = [value for value in values if value.endswith(".0") and looks.is_number(value)]
        if with_zero and any(value.isdigit() for value in values):
            yield f"{column}: {len(with_zero):,} ids end in .0 and others do not: write regexp_replace(..., '\\.0$', '')"
    if "order_id" in columns and "ordered_at" in rows.columns:
        orders = rows.drop_nulls("order_id").group_by("order_id").agg(days=pl.col("day").n_unique())
        if len(orders) >= _FEW_ROWS and (orders["days"] > 3).mean() > _MANY:
            yield "order_id: most orders are on more than 3 days; is it the number of an order?"


def _warn_customers(rows: pl.DataFrame, table: str, columns: list[str]) -> Iterator[str]:
    if table not in ("events", "orders"):
        return
    if not {"customer_id", "visitor_id", "email_key"} & set(columns):
        yield "nothing says who bought: map customer_id or email_key, else no customer has an order"
        return
    if "customer_id" not in columns:
        return
    customers = _texts(rows, "customer_id")
    if no_ids := customers.filter(customers.str.to_lowercase().is_in(_NO_IDS)).unique().to_list():
        yield f"customer_id: {', '.join(sorted(no_ids))} is no id: write nullif(..., '{no_ids[0]}'), or list it in the policy"
    counts = customers.value_counts(sort=True)
    if len(rows) < _FEW_ROWS or not len(counts):
        return
    n = counts["count"][0]
    if len(counts) == 1 and n > 1:
        yield f"customer_id: every customer is the same, in {n:,} rows"
    elif table == "orders" and len(rows) >= 4 * _FEW_ROWS and n > _MANY * len(rows):
        yield f"customer_id: one customer has {n:,} of {len(rows):,} rows; is it the number of all guests?"


def _warn_order_amounts(rows: pl.DataFrame, columns: list[str]) -> Iterator[str]:
    """Warn of amounts that are the same on each of the different lines of an order."""
    for column in columns:
        amounts = rows.with_columns(
            amount=pl.col(column).cast(pl.Float64, strict=False), line=pl.struct("product_id", "unit_price", "quantity")
        )
        orders = (
            amounts.filter(pl.col("amount").fill_null(0) != 0)
            .group_by("_file", "order_id")
            .agg(n=pl.len(), n_lines=pl.col("line").n_unique(), n_amounts=pl.col("amount").n_unique())
            .filter((pl.col("n") > 1) & (pl.col("n_lines") == pl.col("n")))
        )
        n_same = int((orders["n_amounts"] == 1).sum())
        if n_same > 1 and n_same > _MANY * len(orders):
            ours = "order_discount" if column == "discount_amount" else "an amount of the line"
            yield f"{column}: the same on all lines of {n_same:,} of {len(orders):,} orders; is it the order's? Map {ours}"


def _warn_nulls(rows: pl.DataFrame, columns: list[str]) -> Iterator[str]:
    blank = [column for column in columns if not len(_texts(rows, column))]
    if len(blank) * 2 >= len(columns):
        names = ", ".join(blank[:6])
        yield f"{len(blank)} of {len(columns)} mapped columns are null in all rows ({names}): look at delimiter, header and names"
    elif blank:
        yield f"null in all rows seen: {', '.join(blank)}"


def _warn_event_types(rows: pl.DataFrame, columns: list[str]) -> Iterator[str]:
    if "event_type" in columns and len(rows) >= _FEW_ROWS and set(_texts(rows, "event_type")) == {"other"}:
        yield "event_type: every event is `other`: translate the vendor's words with CASE"


def format_time(text: str) -> str:
    """Return a time as cleaning reads it, or 'no time'.

    >>> format_time("2024-03-01 10:14:00 -0500"), format_time("soon")
    ('2024-03-01 15:14:00 UTC', 'no time')
    """
    time = parsing.parse_time(pl.Series([text])).to_list()[0]
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if time else "no time"
