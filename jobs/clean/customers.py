"""clean.customers: one row per customer and day on which its attributes became known or changed.

The attributes as known at a day are the newest row up to it.
"""

from datetime import date

import polars as pl
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.clean import _rows, _versions
from jobs.event_time import parse_time
from jobs.storage.table import Table

SCHEMA = """
    customer_id STRING NOT NULL COMMENT 'customer',
    day DATE NOT NULL COMMENT 'day from which this is known; 1970-01-01 where the source states none',
    email_key STRING COMMENT 'keyed hash of the e-mail address',
    registered_at TIMESTAMP COMMENT 'when registered, UTC; null where unknown (1970-01-01 is unknown)',
    country STRING COMMENT 'country',
    attributes MAP<STRING, STRING> COMMENT 'what else the source says'"""
TABLE = Table("clean.customers", __doc__.split("\n\n")[0], SCHEMA)
VALUES = ["email_key", "registered_at", "country", "_attributes"]


def classify_customers(raw: DataFrame) -> DataFrame:
    """Return every bronze customer, typed, with its `outcome` and `rules`."""
    registered = parse_time("registered_at")
    typed = raw.select(
        "_extra", "_file", "_row", "day",
        _rows.text("customer_id").alias("customer_id"),
        _rows.text("email_key").alias("email_key"),
        F.when(F.to_date(registered) > F.lit("1970-01-01").cast("date"), registered).alias("registered_at"),
        _rows.text("country").alias("country"),
        F.col("_extra").alias("attributes"),
        F.array_sort(F.map_entries("_extra")).alias("_attributes"),  # maps cannot be compared, their entries can
    )  # fmt: skip
    rules = {"no_customer": F.col("customer_id").isNull()}
    return _versions.versions(typed.withColumn("rules", _rows.broken_rules(rules)), "customer_id", VALUES)


def holders(customers: DataFrame) -> DataFrame:
    """Return who held an e-mail address, in order, until the next had it too: _mail, _customer, _since, _until, _nth."""
    held = customers.where("email_key IS NOT NULL").groupBy(
        F.col("email_key").alias("_mail"), F.col("customer_id").alias("_customer")
    )
    in_order = Window.partitionBy("_mail").orderBy("_since", "_customer")
    next_since = F.coalesce(F.lead("_since").over(in_order), F.lit("9999-12-31").cast("date"))
    return held.agg(F.min("day").alias("_since")).withColumns({"_until": next_since, "_nth": F.row_number().over(in_order)})


def mail_owners(customers: DataFrame, most: int = 1) -> DataFrame:
    """Return whom an e-mail address names: _mail, _customer, _since, _until (exclusive).

    It names its newest holder, and nobody from the day on which it has more than `most` holders.
    """
    return holders(customers).where((F.col("_nth") <= most) & (F.col("_until") > F.col("_since"))).drop("_nth")


def add_known_customer(rows: DataFrame, customers: DataFrame, most: int = 1) -> DataFrame:
    """Add known_customer_id, the customer that a row (customer_id, email_key, day) names by id or e-mail."""
    mails = mail_owners(customers, most)
    same = (rows.email_key == mails._mail) & (rows.day >= mails._since) & (rows.day < mails._until)
    return (
        rows.join(mails, same, "left")
        .withColumn("known_customer_id", F.coalesce("customer_id", "_customer"))
        .drop(*mails.columns)
    )


def mail_validity(customers: DataFrame, most: int = 1) -> DataFrame:
    """Return whom an e-mail address names, and when: key, since, until (exclusive), value."""
    return mail_owners(customers, most).toDF("key", "value", "since", "until")


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
