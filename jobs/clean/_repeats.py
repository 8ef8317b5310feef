"""Events that say again what another one said: copies, the twin of a second tag, and a purchase that is sent again later.

All rows of a visitor stand in the same table, so that a rule compares rows of it alone.
"""

from collections.abc import Iterator

import polars as pl

from jobs.config.settings import Clean

_SAME_ID = ["visitor_id", "day", "event_id"]
_TWIN = ["visitor_id", "event_type", "product_id", "page", "search_term"]
_PLACE = ["event_at", "_file", "_row"]
# People put the same product into the cart twice at once, and rows of an unknown type say too little.
_TAGGED_TYPES = ("view", "search", "begin_checkout", "purchase", "login")
_ALONE = ("begin_checkout", "purchase", "login")  # types that say what happened without a product, a page or words
_SECOND = 1_000_000  # in microseconds
_COLUMNS = list(dict.fromkeys([*_SAME_ID, *_TWIN, *_PLACE, "source_id", "order_id"]))
TRANSACTION = ["visitor_id", "transaction_id", "product_id", "event_at"]
NO_TRANSACTIONS = pl.DataFrame(
    schema=dict.fromkeys(TRANSACTION[:3], pl.String) | {"event_at": pl.Datetime("us", "UTC"), "day": pl.Date}
)


def find_repeated(accepted: pl.DataFrame, earlier: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Return the rows that repeat another one, and by which rule: row, rule.

    `earlier` are purchases of days before, with the columns of TRANSACTION and the day.
    """
    rows = accepted.select(_COLUMNS).with_row_index("row")
    copies = _find_copies(rows)
    rows = rows.filter(~pl.col("row").is_in(copies["row"].implode())) if len(copies) else rows
    twins = _find_twins(rows, settings.double_tag_seconds)
    rows = rows.filter(~pl.col("row").is_in(twins["row"].implode())) if len(twins) else rows
    return pl.concat([copies, twins, _find_same_transactions(rows, earlier, settings.transaction_days)])


def _find_copies(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows before which an equal event stands in the files of the day."""
    groups = rows.select("row", "source_id", *_SAME_ID, "_file", "_row").filter(rows.select(_SAME_ID).is_duplicated())
    in_order = groups.sort("_file", "_row")
    copies = in_order.filter(~in_order.select(pl.struct(_SAME_ID).is_first_distinct()).to_series())
    has_id = pl.col("source_id").is_not_null()
    return copies.select("row", rule=pl.when(has_id).then(pl.lit("same_id")).otherwise(pl.lit("same_event")))


def _find_twins(rows: pl.DataFrame, seconds: float) -> pl.DataFrame:
    """Return the rows that a second tag sent: the same event of the visitor came up to so many seconds before.

    Without ids of their own two events are twins only less than a second apart: whole seconds do not show which came from one
    click. An event has one twin at most, so that robots stay busy.
    """
    says_what = pl.col("event_type").is_in(_ALONE) | pl.any_horizontal(pl.col("product_id", "page", "search_term").is_not_null())
    tagged = rows.select("row", "source_id", *_TWIN, *_PLACE).filter(pl.col("event_type").is_in(_TAGGED_TYPES) & says_what)
    key = tagged.select(pl.struct(_TWIN).hash(seed=17)).to_series()
    again = tagged.with_columns(key=key).filter(key.is_duplicated()).sort("key", *_PLACE)
    apart = pl.col("event_at").diff().dt.total_microseconds()
    is_same = pl.all_horizontal(pl.col(column).eq_missing(pl.col(column).shift(1)) for column in _TWIN)
    has_ids = pl.col("source_id").is_not_null() & pl.col("source_id").shift(1).is_not_null()
    is_near = (apart <= seconds * _SECOND) & (has_ids | (apart < _SECOND)) & (seconds > 0)
    follows = again.select(
        "row", twin=(is_same & is_near).fill_null(False), run=(~(is_same & is_near).fill_null(False)).cum_sum()
    )
    place = pl.int_range(pl.len()).over("run")
    return follows.filter((place % 2) == 1).select("row", rule=pl.lit("double_tag"))


def list_transactions(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the purchases that name their transaction, by order or by an id of their own, with all columns of the rows."""
    purchases = rows.filter(pl.col("event_type") == "purchase")
    return purchases.with_columns(transaction_id=pl.coalesce("order_id", "source_id")).drop_nulls("transaction_id")


def _find_same_transactions(rows: pl.DataFrame, earlier: pl.DataFrame, days: int) -> pl.DataFrame:
    """Return the purchases whose transaction and product the visitor had before, up to so many days ago.

    Rows of one moment are the items of one purchase.
    """
    purchases = list_transactions(rows).select("row", *TRANSACTION, "day", *_PLACE[1:])
    before = earlier.select(pl.lit(None, pl.UInt32).alias("row"), *TRANSACTION, "day")
    history = pl.concat([before, purchases], how="diagonal")
    same = TRANSACTION[:3]
    again = history.filter(history.select(same).is_duplicated()).sort(*same, *_PLACE, nulls_last=True)
    repeated = [row for rows in again.partition_by(same, maintain_order=True) for row in _list_repeated(rows, days)]
    return pl.DataFrame({"row": pl.Series(repeated, dtype=pl.UInt32)}).with_columns(rule=pl.lit("same_transaction"))


def _list_repeated(purchases: pl.DataFrame, days: int) -> Iterator[int]:
    """Yield the rows of one transaction and product, in order, that come within so many days of one that counts."""
    counted = None
    for row, at, day in purchases.select("row", "event_at", "day").iter_rows():
        if counted is None or at == counted[0] or (day - counted[1]).days > days:
            counted = (at, day)
        elif row is not None:
            yield row
