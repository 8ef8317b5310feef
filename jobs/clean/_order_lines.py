"""Standing rows of orders as order lines and returns: their numbers, and the returns that stand on the row of their own sale."""

import polars as pl

from jobs import business_day
from jobs.business_day import FOREVER
from jobs.clean._order_versions import ORDER, SNAPSHOTS

_ORDER_DAY = [*ORDER, "day"]
# The columns of a row that lines and returns are made of.
_USED = [
    "position", "shop", "order_id", "day", "line_no", "line_id", "line", "ordered_at", "updated_at", "customer_id", "email_key",
    "is_guest", "product_id", "line_kind", "category", "quantity", "unit_price", "currency", "gross", "discount", "price_source",
    "kind", "is_undoing", "is_negative", "is_counted", "undoes_order_id", "since", "until", "file_rank", "_row", "_delivery",
    "order_discount", "order_shipping", "order_tax",
]  # fmt: skip
_IN_FILE = [*ORDER, "file_rank", "until"]


def select_standing(outcomes: pl.DataFrame, content: list[str]) -> pl.DataFrame:
    """Return the rows that stand on some day, in the order of shop, order, day, file and row.

    Of equal rows of an earlier version one stands, as of the newest.
    """
    is_kept = pl.col("outcome") == "kept"
    kept = outcomes.filter(is_kept)
    earlier = outcomes.filter(~is_kept & ~pl.col("is_refused") & (pl.col("until") < pl.lit(FOREVER)))
    same = [*_ORDER_DAY, "line", "since", *content]
    standing = pl.concat([kept, earlier.unique(same, keep="first", maintain_order=True)]) if len(earlier) else kept
    standing = standing.select(list(dict.fromkeys([*_USED, *content])))
    return standing.sort("order_id", "shop", "day", "file_rank", "_row")


def number_lines(standing: pl.DataFrame) -> pl.DataFrame:
    """Fill line_no: the received number, else the place of line_id in the order of the day, else the place of the row.

    Rows come in the order of select_standing. A line with an id has the same number in all versions.
    """
    rows = standing.with_columns(place=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over(*_ORDER_DAY, "since"))
    has_number, has_id = pl.col("line_no").is_not_null(), pl.col("line_id").is_not_null()
    if rows.select(has_number.any() | has_id.any()).item():
        rows = rows.with_row_index("row")
        by_id = pl.col("row").min().over(*_ORDER_DAY, "line_id")
        ranks = pl.when(has_id & ~has_number).then(by_id).rank("dense").over(_ORDER_DAY).cast(pl.Int32)
        rows = rows.with_columns(by_id=ranks)
        received = pl.col("line_no").max().over(_ORDER_DAY).fill_null(0)
        identified = pl.col("by_id").max().over(_ORDER_DAY).fill_null(0)
        rows = rows.with_columns(place=received + identified + pl.col("place"), by_id=received + pl.col("by_id"))
        rows = rows.with_columns(place=pl.coalesce("by_id", "place")).drop("by_id", "row")
    return rows.with_columns(line_no=pl.coalesce("line_no", "place")).drop("place")


def mark_own_sales(standing: pl.DataFrame) -> pl.DataFrame:
    """Add is_own_sale: the row is a sale that was cancelled or given back, and no other row of its version is that sale.

    A snapshot states so by the status of the line. A row below 0 is a return beside its sale.
    """
    is_turned = (
        (pl.col("_delivery") == SNAPSHOTS) & pl.col("is_return") & ~pl.col("is_negative")
        & (pl.col("undoes_order_id").is_null() | (pl.col("undoes_order_id") == pl.col("order_id")))
    )  # fmt: skip
    if not standing.select(is_turned.any()).item():
        return standing.with_columns(is_own_sale=pl.lit(False))
    sales = standing.filter(~pl.col("is_return"))
    turned = standing.filter(is_turned)
    by_line = turned.join(sales, [*_IN_FILE, "line"], "semi", nulls_equal=True).filter(pl.col("line").is_not_null())
    by_product = turned.filter(pl.col("line").is_null()).join(sales, [*_IN_FILE, "product_id"], "semi", nulls_equal=True)
    beside = pl.concat([by_line, by_product])["position"].implode()
    return standing.with_columns(is_own_sale=is_turned & ~pl.col("position").is_in(beside))


def date_returns(
    returned: pl.DataFrame, sales: pl.DataFrame, outcomes: pl.DataFrame, content: list[str], time_zone: str
) -> pl.DataFrame:
    """Return the returns with `at`, when they happened; one with the number and line of its own sale undoes that order.

    Without line numbers the product stands for the line.

    Such a row often has the time of the order. It then happened when it was first seen: at its updated_at, else on the day of
    its file, unless the order came in that file. `outcomes` are all rows, also those that this one repeats.
    """
    line = [*ORDER, pl.coalesce(pl.lit("line ") + pl.col("line"), pl.lit("product ") + pl.col("product_id")).alias("own_line")]
    unnamed = pl.col("undoes_order_id").is_null() | (pl.col("undoes_order_id") == pl.col("order_id"))
    asked = returned.filter(unnamed).with_columns(line[-1])
    goods = sales.join(asked.select(ORDER), ORDER, "semi", nulls_equal=True).filter(pl.col("line_kind") != "discount")
    ordered = goods.group_by(line).agg(sold_at=pl.col("ordered_at").min())
    own = asked.join(ordered, [*ORDER, "own_line"], "inner", nulls_equal=True).drop("own_line")
    if own.is_empty():
        return returned.with_columns(at="ordered_at")
    of_orders = outcomes.join(own.select(ORDER), ORDER, "semi", nulls_equal=True)
    of_orders = of_orders.with_columns(is_first_file=pl.col("file_rank") == pl.col("file_rank").min().over(ORDER))
    file_time = business_day.start_of_day(pl.col("_file_day"), time_zone)
    seen_at = pl.coalesce("updated_at", pl.when(~pl.col("is_first_file")).then(file_time))
    same = [*ORDER, "day", "line", *content]
    seen = of_orders.group_by(same).agg(seen_at=seen_at.min())
    dated = own.join(seen, same, "left", nulls_equal=True).with_columns(
        at=pl.when(pl.col("ordered_at") <= pl.col("sold_at")).then(pl.max_horizontal("ordered_at", "seen_at"))
        .otherwise("ordered_at"),
        undoes_order_id="order_id",
    )  # fmt: skip
    others = returned.join(own.select("position"), "position", "anti").with_columns(at="ordered_at")
    in_order = returned.select("position")
    return in_order.join(pl.concat([others, dated.select(others.columns)]), "position", "left", maintain_order="left")


def number_repeated_returns(returned: pl.DataFrame) -> pl.DataFrame:
    """Give each further return of a line with the number of the same order on the same day a number of its own."""
    of_line = [*ORDER, "row_day", "line_no"]
    repeats = returned.with_columns(repeat=pl.int_range(pl.len(), dtype=pl.Int32).over(of_line))
    if not (repeats["repeat"] > 0).any():
        return returned
    of_order = [*ORDER, "row_day"]
    further = (pl.col("repeat") > 0).cast(pl.Int32).cum_sum().over(of_order)
    number = pl.when(pl.col("repeat") > 0).then(pl.col("line_no").max().over(of_order) + further).otherwise("line_no")
    return repeats.with_columns(line_no=number).drop("repeat")
