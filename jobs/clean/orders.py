"""clean.orders: one row per order line, and one per return that is matched to no known line.

Inputs: bronze.orders, clean.products (a line without a price takes the list price of its day), clean.customers (a guest
is the customer with the same e-mail, if just one has it), bronze.rates. Rules that may be debated:
- The same order and line again is a newer version, and the latest is kept. Without line numbers an equal row is a copy.
- Gift cards, test orders, voids, bad debts and bookkeeping adjustments are no sales. Foreign money without a rate is
  refused.
- Postage and fees are money of the customer's, but no products: they have no category, and may have no product id.
- A discount line only reduces the order, whatever its sign: it has a discount_amount and no gross, and no return is
  matched to it.
- A return reduces the line that it is matched to, on whatever day it comes. clean.returns has the matches.
"""

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.clean import _rows, _versions, returns
from jobs.clean import customers as _customers
from jobs.event_time import parse_time
from jobs.storage.lake import Cache, Lake, with_cached_frames
from jobs.storage.table import Table

SCHEMA = """
    order_id STRING NOT NULL COMMENT 'order; the credit note for a return without a known line',
    line_no INT NOT NULL COMMENT 'line in the order, counted by us where the source has none',
    day DATE NOT NULL COMMENT 'day of the order, UTC',
    ordered_at TIMESTAMP NOT NULL COMMENT 'when, UTC',
    customer_id STRING COMMENT 'customer; null for an unknown guest',
    product_id STRING NOT NULL COMMENT 'product; what the line is where it is none and has no code',
    line_kind STRING NOT NULL COMMENT 'product, postage, fee or discount',
    category STRING COMMENT 'category of the product',
    quantity DECIMAL(18,4) NOT NULL COMMENT 'pieces ordered; 0 for a return without a known line',
    unit_price DECIMAL(18,4) NOT NULL COMMENT 'price of one, in the currency beside it',
    currency STRING NOT NULL COMMENT 'currency of unit_price; all amounts are in the home currency',
    gross_amount DECIMAL(18,4) NOT NULL COMMENT 'quantity times price, home currency; 0 on a discount line',
    discount_amount DECIMAL(18,4) NOT NULL COMMENT 'taken off, home currency',
    returned_quantity DECIMAL(18,4) NOT NULL COMMENT 'pieces given back so far',
    returned_amount DECIMAL(18,4) NOT NULL COMMENT 'money given back so far, home currency',
    returned_at TIMESTAMP COMMENT 'when last given back, UTC',
    net_amount DECIMAL(18,4) NOT NULL COMMENT 'gross less discount less returned, home currency',
    status STRING NOT NULL COMMENT 'placed, cancelled, returned or partly_returned',
    is_guest BOOLEAN NOT NULL COMMENT 'came without a customer id',
    price_source STRING NOT NULL COMMENT 'line: as sent; list: the list price of the product'"""
TABLE = Table(
    "clean.orders", __doc__.split("\n\n")[0], SCHEMA, "day",
    {
        "adds_up": "net_amount = gross_amount - discount_amount - returned_amount",
        "status_known": "status IN ('placed', 'cancelled', 'returned', 'partly_returned')",
        "line_kind_known": "line_kind IN ('product', 'postage', 'fee', 'discount')",
    },
)  # fmt: skip
UNDOING = ("return", "cancellation")
# What a line is and what happened are two columns of a mapping; a vendor may have one for both, so their words may
# stand in either. These are refused by the rule of that name.
LINE_KINDS = ("product", "postage", "fee", "discount")
_NO_SALE = {
    "gift_card": "gift_card",
    "test": "test_order",
    "void": "void",
    "bad_debt": "bad_debt",
    "adjustment": "adjustment",
}
_MONEY = "DECIMAL(18,4)"


def classify_orders(
    raw: DataFrame, products: DataFrame, customers: DataFrame, rates: DataFrame, currency: str, most_per_mail: int = 1,
    rate_days: int = 0,
) -> DataFrame:  # fmt: skip
    """Return every bronze order row, typed and in the home currency, with its `outcome` and `rules`.

    A rate holds for `rate_days` days more; an e-mail address that over `most_per_mail` customers share names none.
    """
    typed = raw.select(
        "_extra", "_file", "_row", "day",
        _rows.text("order_id").alias("order_id"),
        _rows.number("line_no", "INT").alias("line_no"),
        parse_time("ordered_at").alias("ordered_at"),
        parse_time("updated_at").alias("updated_at"),
        _rows.text("customer_id").alias("customer_id"),
        _rows.text("email_key").alias("email_key"),
        _rows.text("product_id").alias("product_id"),
        _rows.text("category").alias("category"),
        _rows.number("quantity").alias("quantity"),
        _rows.number("unit_price").alias("unit_price"),
        _rows.text("unit_price").isNotNull().alias("_priced"),
        F.when(_rows.text("discount_amount").isNull(), F.lit(0).cast(_MONEY)).otherwise(_rows.number("discount_amount")).alias(
            "discount"
        ),
        F.coalesce(F.upper(_rows.text("currency")), F.lit(currency)).alias("currency"),
        F.coalesce(F.lower(_rows.text("kind")), F.lit("sale")).alias("kind"),
        F.lower(_rows.text("line_kind")).alias("line_kind"),
        _rows.text("original_order_id").alias("undoes_order_id"),
    )  # fmt: skip
    priced = (
        typed.transform(_with_kinds)
        .transform(_with_product, products, currency)
        .transform(_with_customer, customers, most_per_mail)
    )
    return _without_duplicates(priced.transform(_with_amounts, rates, currency, rate_days).transform(_with_rules))


def product_lookups(raw: DataFrame) -> DataFrame:
    """Return the rows (key, day) of bronze.orders that look up clean.products."""
    lacks = _rows.text("unit_price").isNull() | _rows.text("category").isNull()
    return raw.where(lacks).select(_rows.text("product_id").alias("key"), "day")


def customer_lookups(raw: DataFrame) -> DataFrame:
    """Return the rows (key, day) of bronze.orders that look up clean.customers."""
    return raw.where(_rows.text("customer_id").isNull()).select(_rows.text("email_key").alias("key"), "day")


def _with_kinds(typed: DataFrame) -> DataFrame:
    """`kind` says what happened, `line_kind` what the line is, wherever the mapping said it."""
    says_what = F.col("kind").isin(*LINE_KINDS)
    what = F.coalesce("line_kind", F.when(says_what, F.col("kind")), F.lit("product"))
    named = F.coalesce("product_id", F.when(what.isin(*LINE_KINDS[1:]), what))
    return typed.withColumns({"product_id": named, "line_kind": what, "kind": F.when(says_what, "sale").otherwise(F.col("kind"))})


def _with_product(typed: DataFrame, products: DataFrame, currency: str) -> DataFrame:
    """Fills price and category from the product as known on the day."""
    known = _versions.intervals(products, "product_id").select(
        F.col("product_id").alias("_product"), F.col("category").alias("_category"), F.col("price").alias("_list_price"),
        F.col("currency").alias("_list_currency"), "valid_from", "valid_to",
    )  # fmt: skip
    holds = (F.col("day") >= F.col("valid_from")) & (F.col("valid_to").isNull() | (F.col("day") < F.col("valid_to")))
    from_list = ~F.col("_priced") & F.col("_list_price").isNotNull()
    return (
        typed.join(known, (typed.product_id == known._product) & holds, "left")
        .withColumn("category", F.when(F.col("line_kind") == "product", F.coalesce("category", "_category")))
        .withColumn("price_source", F.when(from_list, "list").otherwise("line"))
        .withColumn("currency", F.when(from_list, F.coalesce("_list_currency", F.lit(currency))).otherwise(F.col("currency")))
        .withColumn("unit_price", F.when(from_list, F.col("_list_price")).otherwise(F.col("unit_price")))
        .drop("_product", "_category", "_list_price", "_list_currency", "valid_from", "valid_to")
    )


def _with_customer(typed: DataFrame, customers: DataFrame, most_per_mail: int) -> DataFrame:
    """A guest whose e-mail named a customer on that day is that customer."""
    named = _customers.add_known_customer(typed, customers, most_per_mail).withColumn("is_guest", F.col("customer_id").isNull())
    return named.withColumn("customer_id", F.col("known_customer_id")).drop("known_customer_id")


def _with_amounts(typed: DataFrame, rates: DataFrame, currency: str, rate_days: int) -> DataFrame:
    """Amounts in the home currency by the last rate up to the day; null where they are too large or the rate is missing."""
    by_day = rates.groupBy(
        F.expr("to_date(try_cast(trim(rated_on) AS TIMESTAMP))").alias("_on"),
        F.upper(F.trim("currency")).alias("_currency"),
    ).agg(F.max_by(F.expr("try_cast(trim(rate) AS DECIMAL(18,8))"), F.struct("_file", "_row")).alias("_rate"))
    next_on = F.lead("_on").over(Window.partitionBy("_currency").orderBy("_on"))
    known = by_day.withColumn("_until", F.least(next_on, F.date_add("_on", rate_days + 1)))
    holds = (typed.currency == known._currency) & (typed.day >= known._on) & (typed.day < known._until)
    joined = typed.join(F.broadcast(known), holds, "left")
    is_discount = F.col("line_kind") == "discount"
    rate = F.when(F.col("currency") == currency, F.lit(1).cast("DECIMAL(18,8)")).when(F.col("_rate") > 0, F.col("_rate"))
    return (
        joined.withColumn("_rate", rate)
        .withColumn("gross", F.expr(f"try_cast(try_multiply(try_multiply(abs(quantity), unit_price), _rate) AS {_MONEY})"))
        .withColumn("discount", F.expr(f"try_cast(try_multiply(discount, _rate) AS {_MONEY})"))
        .withColumn(
            "discount", F.when(is_discount, F.expr(f"try_cast(abs(gross) + discount AS {_MONEY})")).otherwise(F.col("discount"))
        )
        .withColumn("unit_price", F.when(is_discount, F.abs("unit_price")).otherwise(F.col("unit_price")))
        .withColumn("gross", F.when(is_discount, F.col("gross") * 0).otherwise(F.col("gross")).cast(_MONEY))
        .drop("_on", "_until", "_currency")
    )


def _with_rules(typed: DataFrame) -> DataFrame:
    kinds = {rule: (F.col("kind") == word) | (F.col("line_kind") == word) for word, rule in _NO_SALE.items()}
    is_discount = F.col("line_kind") == "discount"
    signed = F.col("kind").isin(*UNDOING) | is_discount
    rules = {
        "no_time": F.col("ordered_at").isNull(),
        "future": F.to_date("ordered_at") > F.col("day"),
        "no_order_id": F.col("order_id").isNull(),
        **kinds,
        "unknown_kind": ~F.col("kind").isin("sale", *UNDOING, *_NO_SALE) | ~F.col("line_kind").isin(*LINE_KINDS, *_NO_SALE),
        "no_product": F.col("product_id").isNull(),
        "bad_quantity": F.col("quantity").isNull() | (F.col("quantity") == 0) | (~signed & (F.col("quantity") < 0)),
        "bad_price": F.col("unit_price") < 0,
        "no_price": F.col("unit_price").isNull() & ~F.col("_priced"),
        "missing_rate": F.col("_rate").isNull(),
        "bad_amount": F.col("gross").isNull()
        & F.col("quantity").isNotNull()
        & F.col("unit_price").isNotNull()
        & F.col("_rate").isNotNull(),
        "bad_discount": F.col("discount").isNull() & F.col("_rate").isNotNull()
        | (F.col("discount") < 0)
        | (~is_discount & (F.col("gross") >= 0) & (F.col("discount") > F.col("gross"))),
    }
    unreadable = F.col("_priced") & F.col("unit_price").isNull()
    rules["bad_price"] = F.coalesce(rules["bad_price"], F.lit(False)) | unreadable
    return typed.withColumn("rules", _rows.broken_rules(rules))


# What makes two lines of an order equal, beside what the mapping does not name.
_CONTENT = (
    "ordered_at", "customer_id", "email_key", "product_id", "quantity", "unit_price", "discount", "currency", "kind",
    "line_kind", "undoes_order_id",
)  # fmt: skip


def _without_duplicates(ruled: DataFrame) -> DataFrame:
    """Outcome and rules: of equal lines one is kept (`exact`), of a numbered line its latest version (`superseded`)."""
    refused = F.size("rules") > 0
    numbered = F.col("line_no").isNotNull()
    version = F.when(numbered, F.col("updated_at"))
    others = F.array_sort(F.map_entries("_extra"))
    line = Window.partitionBy("order_id", "day", "line_no", refused)
    equal = Window.partitionBy("order_id", "day", "line_no", "_content", refused)
    in_file_order = ("_file", "_row")
    latest = line.orderBy(F.desc_nulls_last("updated_at"), F.desc("_file"), F.desc("_row"))
    kept = F.when(numbered, F.row_number().over(latest) == 1).otherwise(F.row_number().over(equal.orderBy(*in_file_order)) == 1)
    first = F.row_number().over(equal.orderBy(F.desc("_kept"), *in_file_order)) == 1
    outcomes = (
        ruled.repartition("order_id")
        .withColumn("_content", F.md5(F.to_json(F.struct(*_CONTENT, version.alias("version"), others.alias("others")))))
        .withColumn("_kept", kept)
        .withColumn("_rule", F.when(first, "superseded").otherwise("exact"))
        .withColumn(
            "outcome", F.when(refused & (numbered | F.col("_kept")), "reject").when(F.col("_kept"), "kept").otherwise("duplicate")
        )
        .withColumn("rules", F.when(F.col("outcome") == "duplicate", F.array("_rule")).otherwise(F.col("rules")))
    )
    counted = Window.partitionBy("order_id", "day", F.col("outcome") == "kept").orderBy("_file", "_row")
    return outcomes.withColumn("line_no", F.coalesce("line_no", F.row_number().over(counted)))


def split_lines_and_returns(outcomes: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Return the kept rows as (order lines, return lines), with the columns that matching needs."""
    kept = outcomes.where("outcome = 'kept'").withColumns(
        {
            "at": F.col("ordered_at"),
            "quantity": F.abs("quantity"),
            "amount": (F.col("gross") - F.col("discount")).cast(_MONEY),
            "key": returns.match_key(),
        }
    )
    undoing = F.col("kind").isin(*UNDOING) & (F.col("line_kind") != "discount")
    return kept.where(~undoing), kept.where(undoing)


def orders(lines: DataFrame, undone: DataFrame) -> DataFrame:
    """Return clean.orders from order lines (earlier returned_* columns are dropped) and the rows of clean.returns."""
    totals = undone.where("order_id IS NOT NULL").groupBy("order_id", "line_no", F.col("order_day").alias("day")).agg(
        F.sum("quantity").cast(_MONEY).alias("returned_quantity"),
        F.sum("amount").cast(_MONEY).alias("returned_amount"),
        F.max("returned_at").alias("returned_at"),
        F.max_by("kind", "returned_at").alias("_undone_by"),
    )  # fmt: skip
    zero = F.lit(0).cast(_MONEY)
    sold = lines.join(totals, ["order_id", "line_no", "day"], "left").select(
        "order_id", "line_no", "day", "ordered_at", "customer_id", "product_id", "line_kind", "category", "quantity",
        "unit_price", "currency", "gross_amount", "discount_amount",
        F.coalesce("returned_quantity", zero).alias("returned_quantity"),
        F.coalesce("returned_amount", zero).alias("returned_amount"),
        "returned_at", "_undone_by", "is_guest", "price_source",
    )  # fmt: skip
    alone = undone.where("order_id IS NULL").select(
        F.col("return_order_id").alias("order_id"), F.col("return_line_no").alias("line_no"), "day",
        F.col("returned_at").alias("ordered_at"), "customer_id", "product_id", "line_kind", "category", zero.alias("quantity"),
        "unit_price", "currency", zero.alias("gross_amount"), zero.alias("discount_amount"),
        F.col("quantity").alias("returned_quantity"), F.col("amount").alias("returned_amount"), "returned_at",
        F.lit("return").alias("_undone_by"), "is_guest", F.lit("line").alias("price_source"),
    )  # fmt: skip
    net = F.col("gross_amount") - F.col("discount_amount") - F.col("returned_amount")
    status = (
        F.when(F.col("returned_quantity") == 0, "placed")
        .when(F.col("returned_quantity") < F.col("quantity"), "partly_returned")
        .when(F.col("_undone_by") == "cancellation", "cancelled")
        .otherwise("returned")
    )
    whole = sold.unionByName(alone).withColumns({"net_amount": net.cast(_MONEY), "status": status})
    return whole.select(*TABLE.columns)


@with_cached_frames
def write_orders(keep: Cache, lake: Lake, outcomes: DataFrame, days: list[date]) -> list[date]:
    """Write clean.orders and clean.returns for `days`, and every other day on which a return of theirs changes a line.

    Returns all the days of clean.orders that were written.
    """
    lines, returned = split_lines_and_returns(outcomes)
    lines = lines.withColumnsRenamed({"gross": "gross_amount", "discount": "discount_amount"})
    worked = F.col("day").isin(*days)
    if not lake.exists(TABLE.name):
        undone = keep(returns.returns(lines.select(*_LINE), returned.select(*_LINE)))
        lake.replace(returns.TABLE, undone)
        lake.replace(TABLE, orders(lines, undone))
        return days
    old_lines, old_returns = _read_matched(lake, days)
    with_returns = old_returns.select("key").distinct()
    touched = keep(
        returned.select("key")
        .unionByName(old_returns.where(worked | F.col("order_day").isin(*days)).select("key"))
        .unionByName(lines.select("key").join(with_returns, "key", "left_semi"))
        .distinct()
    )
    earlier = keep(old_lines.join(touched, "key", "left_semi"))
    again = old_returns.where(~worked).join(touched, "key", "left_semi")
    sold = lines.join(touched, "key", "left_semi").select(*_LINE).unionByName(_as_entries(earlier).select(*_LINE))
    undone = keep(returns.returns(sold, returned.select(*_LINE).unionByName(_as_returned(again).select(*_LINE))))
    names = [c for c in lines.columns if c in earlier.columns and c not in ("key", "undoes_order_id")]
    now = orders(earlier.select(*names), undone.where("order_id IS NOT NULL"))
    restated = now.subtract(earlier.select(*TABLE.columns))
    changed = _days(undone.select("day").union(restated.select("day")).union(again.select("day")))
    rewritten = sorted(set(days) | changed)
    others = sorted(changed - set(days))
    untouched = old_returns.where(~worked).join(touched, "key", "left_anti")
    lake.replace(returns.TABLE, untouched.select(*returns.TABLE.columns).unionByName(undone))
    same_day = lake.read(returns.TABLE)
    kept_lines = old_lines.where(F.col("day").isin(*others)) if others else old_lines.limit(0)
    days_returns = same_day.where(F.col("order_id").isNotNull() | F.col("day").isin(*rewritten))
    lake.replace_days(TABLE, orders(lines.select(*names).unionByName(kept_lines.select(*names)), days_returns), rewritten)
    return rewritten


def _read_matched(lake: Lake, days: list[date]) -> tuple[DataFrame, DataFrame]:
    """Return the stored order lines of other days than `days`, and all stored returns, with the key of matching."""
    for table in (TABLE, returns.TABLE):  # an older lake may lack a column that is read here
        lake.create(table)
    lines = lake.read(TABLE).where(~F.col("day").isin(*days) & (F.col("quantity") > 0))
    lines = lines.withColumn("undoes_order_id", F.lit(None).cast("string")).withColumn("key", returns.match_key())
    stored = lake.read(returns.TABLE).withColumns({"_undone": F.col("order_id"), "order_id": F.col("return_order_id")})
    stored = stored.withColumn("key", returns.match_key()).drop("order_id").withColumnRenamed("_undone", "order_id")
    return lines, stored


_LINE = (
    "key", "at", "order_id", "line_no", "day", "customer_id", "product_id", "line_kind", "category", "kind", "unit_price",
    "currency", "is_guest", "undoes_order_id", "quantity", "amount",
)  # fmt: skip


def _as_entries(lines: DataFrame) -> DataFrame:
    """Stored order lines as matching wants them."""
    amount = (F.col("gross_amount") - F.col("discount_amount")).cast(_MONEY)
    return lines.withColumns({"at": F.col("ordered_at"), "kind": F.lit("sale"), "amount": amount})


def _as_returned(rows: DataFrame) -> DataFrame:
    """Stored rows of clean.returns put together again as the return lines they came from."""
    first = [F.first(c).alias(c) for c in _LINE if c not in ("at", "order_id", "line_no", "quantity", "amount")]
    return (
        rows.groupBy("return_order_id", "return_line_no")
        .agg(
            F.first("returned_at").alias("at"),
            F.sum("quantity").cast(_MONEY).alias("quantity"),
            F.sum("amount").cast(_MONEY).alias("amount"),
            *first,
        )
        .withColumnsRenamed({"return_order_id": "order_id", "return_line_no": "line_no"})
    )


def _days(frame: DataFrame) -> set[date]:
    return {row.day for row in frame.select("day").distinct().collect()}
