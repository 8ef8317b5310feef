"""clean.identity_alarms: one row per visitor or e-mail address that too many customers share.

Inputs: clean.identities, clean.customers. From `since` on it identifies nobody: no event and no order gets a customer by it.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.clean import customers, identities
from jobs.config.settings import Clean
from jobs.progress import log
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    rule STRING NOT NULL COMMENT 'shared_visitor or shared_mail',
    id STRING NOT NULL COMMENT 'the visitor_id or email_key',
    since DATE NOT NULL COMMENT 'day on which it was known to be shared by too many',
    n_customers BIGINT NOT NULL COMMENT 'customers known on it by now'"""
TABLE = Table("clean.identity_alarms", __doc__.split("\n\n")[0], SCHEMA)


def identity_alarms(links: DataFrame, known: DataFrame, settings: Clean) -> DataFrame:
    """clean.identity_alarms out of clean.identities and clean.customers."""
    visitors = links.where("shared_since IS NOT NULL").groupBy(
        F.lit("shared_visitor").alias("rule"), F.col("visitor_id").alias("id"), F.col("shared_since").alias("since")
    )
    holders = customers.holders(known).groupBy(F.lit("shared_mail").alias("rule"), F.col("_mail").alias("id"))
    one_too_many = F.min(F.when(F.col("_nth") > settings.max_customers_per_mail, F.col("_since")))
    mails = holders.agg(one_too_many.alias("since"), F.count("*").alias("n_customers")).where("since IS NOT NULL")
    return visitors.agg(F.count_distinct("customer_id").alias("n_customers")).unionByName(mails).select(*TABLE.columns)


def run(lake: Lake, settings: Clean) -> None:
    """Bring the alarms up to date and say how many there are; nothing is written where they are as they were."""
    found = identity_alarms(lake.read(identities.TABLE), lake.read(customers.TABLE), settings)
    rows = sorted(tuple(row) for row in found.collect())
    if rows != sorted(tuple(row[c] for c in TABLE.columns) for row in lake.read_small_table(TABLE)):
        lake.replace(TABLE, lake.spark.createDataFrame(rows, SCHEMA))
    lake.create(TABLE)
    if rows:
        mails = sum(row[0] == "shared_mail" for row in rows)
        log(f"alarm {TABLE.name:<28} {len(rows) - mails:,} visitors, {mails:,} addresses: too many customers, merged with nobody")
