"""clean.customers: one row per customer and day on which its attributes became known or changed.

The attributes as known at a day are the newest row up to it.
"""

from datetime import date

import polars as pl
import pyarrow as pa

from jobs import parsing
from jobs.clean import _rows, _versions
from jobs.storage.table import Table

SCHEMA = """
    customer_id STRING NOT NULL COMMENT 'customer',
    day DATE NOT NULL COMMENT 'day from which this is known; 1970-01-01 where the source states none',
    email_key STRING COMMENT 'keyed hash of the e-mail address',
    registered_at TIMESTAMP COMMENT 'when registered, UTC; null where unknown (1970-01-01 is unknown)',
    country STRING COMMENT 'country',
    attributes MAP<STRING, STRING> COMMENT 'what else the source says'"""
TABLE = Table("clean.customers", __doc__.split("\n\n")[0], SCHEMA)
VALUES = ["email_key", "registered_at", "country", "attributes_text"]
_UNKNOWN = date(1970, 1, 1)


def classify_customers(raw: pa.Table) -> pl.DataFrame:
    """Return every bronze customer, typed, with its `position`, `outcome` and `rules`.

    `attributes_text` is the text of the attributes, which stand in `raw`. About 3 µs of CPU a row.
    """
    texts = parsing.clean_texts(raw, ["customer_id", "email_key", "country"])
    registered = parsing.parse_time(_rows.take_column(raw, "registered_at")).alias("registered_at")
    attributes = _rows.encode_extra(raw["_extra"]).alias("attributes_text")
    typed = texts.hstack([registered, attributes, *_rows.take_origin(raw)]).with_columns(
        registered_at=pl.when(pl.col("registered_at").dt.date() > _UNKNOWN).then("registered_at")
    )
    rules = _rows.find_broken_rules(raw, typed, {"no_customer": pl.col("customer_id").is_null()})
    return _versions.classify_versions(typed.with_columns(rules), "customer_id", VALUES)


def build_customers(raw: pa.Table, outcomes: pl.DataFrame) -> pa.Table:
    """Return clean.customers out of the rows of classify_customers that are kept, sorted by customer and day."""
    kept = outcomes.filter(pl.col("outcome") == "kept").sort("customer_id", "day")
    attributes = raw["_extra"].take(kept["position"].to_arrow())
    return kept.select(TABLE.columns[:-1]).to_arrow().append_column("attributes", attributes)


def find_mail_validity(customers: pa.Table, most: int = 1) -> pl.DataFrame:
    """Return whom an e-mail address names, and when: key, since, until (exclusive), owner."""
    return find_mail_owners(customers, most).rename({"email_key": "key"})


def find_lookups(raw: pa.Table) -> pl.DataFrame:
    """Return the e-mail addresses (key, day) by which bronze rows may look up clean.customers."""
    mails = pl.DataFrame([parsing.clean_text(raw["email_key"]).alias("key"), _rows.take_column(raw, "day")])
    return mails.drop_nulls().unique()


def add_known_customer(rows: pl.DataFrame, mails: pl.DataFrame) -> pl.DataFrame:
    """Add known_customer_id, the customer that a row (position, customer_id, email_key, day) names by id or e-mail.

    `mails` are those of find_mail_owners.
    """
    if mails.is_empty() or rows["email_key"].null_count() == len(rows):
        return rows.with_columns(known_customer_id="customer_id")
    mailed = rows.select("position", "email_key", "day").join(mails, "email_key", "inner")
    owners = mailed.filter((pl.col("day") >= pl.col("since")) & (pl.col("day") < pl.col("until"))).select("position", "owner")
    joined = rows.join(owners, "position", "left", maintain_order="left")
    return joined.with_columns(known_customer_id=pl.coalesce("customer_id", "owner")).drop("owner")


def find_mail_owners(customers: pa.Table, most: int = 1) -> pl.DataFrame:
    """Return whom an e-mail address names: email_key, owner, since, until (exclusive).

    It names its newest holder, and nobody from the day on which it has more than `most` holders.
    """
    held = list_mail_holders(customers).filter((pl.col("nth") <= most) & (pl.col("until") > pl.col("since")))
    return held.select("email_key", "owner", "since", "until")


def list_mail_holders(customers: pa.Table) -> pl.DataFrame:
    """Return who held an e-mail address, in order, until the next had it too: email_key, owner, since, until, nth."""
    rows = pl.DataFrame(pl.from_arrow(customers.select(["email_key", "customer_id", "day"])))
    held = rows.drop_nulls("email_key").group_by("email_key", owner="customer_id").agg(since=pl.col("day").min())
    return held.sort("email_key", "since", "owner").with_columns(
        until=pl.col("since").shift(-1).over("email_key").fill_null(date(9999, 12, 31)),
        nth=pl.int_range(1, pl.len() + 1).over("email_key"),
    )
