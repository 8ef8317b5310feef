"""What becomes of each row of bronze.orders: kept, refused or repeated."""

import polars as pl
import pyarrow as pa

from jobs import parsing
from jobs.clean import _order_versions, _rows, returns
from jobs.clean._order_versions import ORDER, SNAPSHOTS

# What makes a row of an order another one: what the mapping names, but for where and when it was written.
_CONTENT = [
    "ordered_at", "customer_id", "email_key", "product_id", "quantity", "exact_price", "discount", "currency", "kind",
    "line_kind", "undoes_order_id", "_left_out",
]  # fmt: skip
_FURTHER = ["category", "country", "product_name", "line_amount", "order_discount", "order_shipping", "order_tax"]
_SAME_LINE = [*ORDER, "day", "line", "is_refused"]


def find_outcomes(ruled: pl.DataFrame, raw: pa.Table) -> tuple[pl.DataFrame, list[str]]:
    """Add outcome and rules, and the days since and until which a row stands; return also the columns by which rows are equal.

    Of equal rows one counts (`exact`), and of several versions the newest (`superseded`).
    """
    sent = [name for name in _FURTHER if raw[name].null_count < raw.num_rows]
    texts = parsing.clean_texts(raw, sent).rename({name: f"sent_{name}" for name in sent})
    line = pl.coalesce("line_id", pl.col("line_no").cast(pl.String))
    rows = ruled.hstack(texts).with_columns(
        is_refused=pl.col("rules").list.len() > 0,
        line=line,
        version=pl.when(line.is_not_null() & (pl.col("_delivery") != SNAPSHOTS)).then("updated_at"),
        is_undoing=pl.col("kind").is_in(returns.UNDOING),
        file_rank=_order_versions.rank_files(ruled["_file"]),
    )
    alike = _number_alike(rows, [*_SAME_LINE, *_CONTENT, *texts.columns, "version"], raw)
    content = [*_CONTENT, *texts.columns, "nth"]
    rows = rows.join(alike, "position", "left", maintain_order="left").with_columns(pl.col("nth").fill_null(0))
    rows = _order_versions.find_intervals(rows, content)
    rows = rows.with_columns(is_first=_find_first_of_equal(rows, alike, [*_SAME_LINE, *content, "version"]))
    counts = pl.col("is_current") & pl.col("is_first")
    return rows.with_columns(
        outcome=pl.when(~counts).then(pl.lit("duplicate")).when("is_refused").then(pl.lit("reject")).otherwise(pl.lit("kept")),
        rules=pl.when(counts).then("rules").otherwise(
            pl.concat_list(pl.when("is_first").then(pl.lit("superseded")).otherwise(pl.lit("exact")))
        ),
    ), content  # fmt: skip


def _number_alike(rows: pl.DataFrame, columns: list[str], raw: pa.Table) -> pl.DataFrame:
    """Return the rows that equal another one in these columns, with `nth`: the different lines among them have different ones.

    Rows of one file without a line number that differ in what the mapping does not name are different lines. In another file,
    such as a later export of the same orders, that difference says nothing.
    """
    alike = rows.filter(rows.select(columns).is_duplicated()).select("position", *columns, "file_rank", "_row")
    extra = _rows.encode_extra(raw["_extra"].take(alike["position"].to_arrow())).alias("extra")
    in_file = [*columns, "file_rank"]
    first_row = pl.col("_row").min().over(*in_file, "extra")
    nth = pl.when(pl.col("line").is_null()).then(first_row.rank("dense").over(in_file)).otherwise(0)
    return alike.with_columns(extra).select("position", nth=nth.cast(pl.UInt32))


def _find_first_of_equal(rows: pl.DataFrame, alike: pl.DataFrame, columns: list[str]) -> pl.Series:
    """Return whether each row is the first of those equal to it: of the newest version, else the first in the files."""
    in_order = rows.join(alike, "position", "semi").sort(pl.col("is_current").not_(), "file_rank", "_row")
    firsts = in_order.unique(columns, keep="first", maintain_order=True)["position"]
    is_repeated = pl.col("position").is_in(alike["position"].implode()) & ~pl.col("position").is_in(firsts.implode())
    return rows.select(~is_repeated).to_series()
