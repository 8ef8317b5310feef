"""clean.identity_days: one row per day, table, customer id and e-mail address that rows of the day name together.

Inputs: bronze.events and bronze.orders. It is small beside them, and says without reading them again whom an address belongs to,
which customer ids guests share, and which days look up an id or an address.
"""

from datetime import timedelta

import polars as pl
import pyarrow as pa

from jobs import parsing
from jobs.clean import _ids, _rows
from jobs.config.settings import Clean
from jobs.storage.table import Table

SCHEMA = """
    day DATE NOT NULL COMMENT 'day, in the business time zone',
    named_in STRING NOT NULL COMMENT 'events or orders',
    customer_id STRING COMMENT 'customer id that the rows name; null where they name an address alone',
    email_key STRING COMMENT 'keyed hash of the e-mail address that they name',
    n BIGINT NOT NULL COMMENT 'different orders, or different visitors of events'"""
TABLE = Table(
    "clean.identity_days", __doc__.split("\n\n")[0], SCHEMA, "day", {"named": "customer_id IS NOT NULL OR email_key IS NOT NULL"}
)
# What is counted of each table, and the columns that are read of it.
COUNTED = {"events": "visitor_id", "orders": "order_id"}


def columns_of(named_in: str) -> tuple[str, ...]:
    """Return the columns of a bronze table that are read."""
    return (COUNTED[named_in], "customer_id", "email_key", "day")


def find_identity(rows: pa.Table, null_words: _ids.NullWords) -> pa.Array:
    """Return the customer id, else the address of each bronze row: the key of list_identities."""
    ids, _ = _ids.clean_ids(rows, ["customer_id"], null_words)
    return ids.select(pl.coalesce("customer_id", parsing.clean_text(rows["email_key"]))).to_series().to_arrow()


def find_stored_identity(rows: pa.Table) -> pa.Array:
    """Return the key of rows of clean.identity_days."""
    return _rows.to_frame(rows).select(pl.coalesce("customer_id", "email_key")).to_series().to_arrow()


def list_identities(tables: dict[str, pa.Table], settings: Clean, null_words: _ids.NullWords) -> dict[str, pa.Table]:
    """Count what bronze rows name, and find ids with too many addresses.

    Key: customer id, else address. Inputs: `events` and `orders`, rows of bronze of the due days, with the columns columns_of;
    `stored`, clean.identity_days of the other days around. Outputs: `rows`, clean.identity_days of the due days; `holders`, those
    of them with an id and an address; `shared` (customer_id, since, n): ids that come with too many addresses; `counts` (day,
    named_in, n, n_ids) and `largest` (day, named_in, customer_id, n): how many orders or visitors ids have on a day. About 0.3 µs
    of CPU a row.
    """
    fresh = pl.concat([_count_named(tables[name], name, null_words) for name in COUNTED])
    rows = pl.concat([fresh, _rows.to_frame(tables["stored"])])
    totals = rows.drop_nulls("customer_id").group_by("day", "named_in", "customer_id").agg(pl.col("n").sum())
    outputs = {
        "rows": fresh.sort("day", "named_in", "customer_id", "email_key"),
        "holders": fresh.drop_nulls(["customer_id", "email_key"]).select("email_key", "customer_id", "day"),
        "shared": _find_many_addresses(rows, settings),
        "counts": totals.group_by("day", "named_in", "n").agg(n_ids=pl.len().cast(pl.Int64)),
        "largest": totals.filter(pl.col("n") >= settings.shared_customer_least).select("day", "named_in", "customer_id", "n"),
    }
    return {name: frame.to_arrow() for name, frame in outputs.items()}


def _count_named(raw: pa.Table, named_in: str, null_words: _ids.NullWords) -> pl.DataFrame:
    """Return clean.identity_days of the rows of one bronze table."""
    ids, _ = _ids.clean_ids(raw, [COUNTED[named_in], "customer_id"], null_words)
    rows = ids.with_columns(
        parsing.clean_text(raw["email_key"]).alias("email_key"), pl.Series("day", pl.from_arrow(raw["day"]), pl.Date)
    )
    named = rows.filter(pl.col("customer_id").is_not_null() | pl.col("email_key").is_not_null())
    counted = named.group_by("day", "customer_id", "email_key").agg(n=pl.col(COUNTED[named_in]).n_unique().cast(pl.Int64))
    return counted.select("day", pl.lit(named_in).alias("named_in"), "customer_id", "email_key", "n")


def _find_many_addresses(rows: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Return the ids that come with too many addresses within some days, and since when: customer_id, since, n."""
    pairs = rows.drop_nulls(["customer_id", "email_key"]).select("customer_id", "email_key", "day").unique()
    many = pairs.filter(pl.col("email_key").n_unique().over("customer_id") > settings.max_mails_per_customer)
    window = timedelta(days=settings.customers_within_days)
    days = many.select("customer_id", since="day").unique()
    near = days.join(many, "customer_id", "inner").filter(
        (pl.col("day") <= pl.col("since")) & (pl.col("day") > pl.col("since") - window)
    )
    counted = near.group_by("customer_id", "since").agg(n=pl.col("email_key").n_unique().cast(pl.Int64))
    return take_first(counted.filter(pl.col("n") > settings.max_mails_per_customer))


def take_first(days: pl.DataFrame) -> pl.DataFrame:
    """Return the first day of each id: customer_id, since, n."""
    return days.sort("customer_id", "since", "n").unique("customer_id", keep="first").select("customer_id", "since", "n")


def find_far_larger(counts: pl.DataFrame, largest: pl.DataFrame, settings: Clean) -> pl.DataFrame:
    """Return the ids that have far more orders or visitors on a day than the rest, and since when: customer_id, since, n.

    Far more is more than `shared_customer_factor` times the 99th percentile of the ids of the day, and at least
    `shared_customer_least`. Arguments are `counts` and `largest` of list_identities.
    """
    sums = counts.group_by("day", "named_in", "n").agg(pl.col("n_ids").sum()).sort("day", "named_in", "n")
    is_at = pl.col("n_ids").cum_sum().over("day", "named_in") > ((pl.col("n_ids").sum().over("day", "named_in") - 1) * 99 // 100)
    percentiles = sums.filter(is_at).group_by("day", "named_in").agg(percentile=pl.col("n").min())
    far = largest.join(percentiles, ["day", "named_in"], "inner").filter(
        pl.col("n") > settings.shared_customer_factor * pl.col("percentile")
    )
    return take_first(far.select("customer_id", pl.col("day").alias("since"), "n"))
