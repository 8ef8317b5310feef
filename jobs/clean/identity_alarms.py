"""clean.identity_alarms: one row per visitor or e-mail address that too many customers share.

Inputs: clean.identities, clean.customers. From `since` on it identifies nobody: no event and no order gets a customer by it.
"""

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

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


def find_alarms(links: pa.Table, accounts: pa.Table, settings: Clean) -> pa.Table:
    """Return clean.identity_alarms out of clean.identities and clean.customers, sorted."""
    shared = pl.DataFrame(pl.from_arrow(links)).drop_nulls("shared_since")
    visitors = shared.group_by(id="visitor_id", since="shared_since").agg(n_customers=pl.col("customer_id").n_unique())
    holders = customers.list_mail_holders(accounts).group_by(id="email_key").agg(
        since=pl.col("since").filter(pl.col("nth") > settings.max_customers_per_mail).min(), n_customers=pl.len()
    )  # fmt: skip
    alarms = pl.concat(
        [
            rows.with_columns(rule=pl.lit(rule), n_customers=pl.col("n_customers").cast(pl.Int64)).select(TABLE.columns)
            for rule, rows in (("shared_visitor", visitors), ("shared_mail", holders.drop_nulls("since")))
        ]
    )
    return alarms.sort(pl.all()).to_arrow().cast(TABLE.arrow_schema)


def run(lake: Lake, settings: Clean) -> None:
    """Bring the alarms up to date and say how many there are; nothing is written where they are as they were."""
    columns = ["visitor_id", "customer_id", "shared_since"]
    alarms = find_alarms(lake.read_arrow(identities.TABLE, columns), lake.read_arrow(customers.TABLE), settings)
    if alarms != lake.read_arrow(TABLE).sort_by([(name, "ascending") for name in TABLE.columns]):
        lake.replace_rows(TABLE, alarms)
    if n := alarms.num_rows:
        mails = pc.sum(pc.equal(alarms["rule"], "shared_mail")).as_py()
        log(f"alarm {TABLE.name:<28} {n - mails:,} visitors, {mails:,} addresses: too many customers, merged with nobody")
