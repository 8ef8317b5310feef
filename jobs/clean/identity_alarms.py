"""clean.identity_alarms: one row per visitor, e-mail address or customer id that too many people share.

Inputs: clean.identities, clean.customers, clean.identity_days. From `since` on it identifies nobody: no event and no order gets a
customer by it.
"""

import polars as pl
import pyarrow as pa

from jobs.clean import _rows, customers, identities
from jobs.config.settings import Clean
from jobs.progress import log
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    rule STRING NOT NULL COMMENT 'shared_visitor, shared_mail or shared_customer',
    id STRING NOT NULL COMMENT 'the visitor_id, email_key or customer_id',
    since DATE NOT NULL COMMENT 'day on which it was known to be shared by too many',
    n_customers BIGINT NOT NULL COMMENT 'customers known on it by now; of an id its addresses, orders or visitors'"""
TABLE = Table("clean.identity_alarms", __doc__.split("\n\n")[0], SCHEMA)


SHARED_CUSTOMER = "shared_customer"


def read_shared_customers(lake: Lake, with_n: bool = False) -> pl.DataFrame:
    """Return the customer ids that guests share: customer_id, since, and on request n."""
    alarms = _rows.to_frame(lake.read_arrow(TABLE)).filter(pl.col("rule") == SHARED_CUSTOMER)
    return alarms.select("since", customer_id="id", n="n_customers").select(["customer_id", "since", *(["n"] if with_n else [])])


def write_shared_customers(lake: Lake, shared: pl.DataFrame) -> None:
    """Replace the alarms of customer ids by these: customer_id, since, n."""
    others = _rows.to_frame(lake.read_arrow(TABLE)).filter(pl.col("rule") != SHARED_CUSTOMER)
    _write(lake, [others, _to_alarms(SHARED_CUSTOMER, shared.rename({"customer_id": "id", "n": "n_customers"}))])


def find_alarms(links: pa.Table, mails: pl.DataFrame) -> list[pl.DataFrame]:
    """Return the alarms of visitors, out of clean.identities, and of addresses, out of customers.find_shared_mails."""
    shared = _rows.to_frame(links).drop_nulls("shared_since")
    visitors = shared.group_by(id="visitor_id", since="shared_since").agg(n_customers=pl.col("customer_id").n_unique())
    return [_to_alarms("shared_visitor", visitors), _to_alarms("shared_mail", mails.rename({"email_key": "id"}))]


def _to_alarms(rule: str, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(rule=pl.lit(rule), n_customers=pl.col("n_customers").cast(pl.Int64)).select(TABLE.columns)


def run(lake: Lake, learned: pl.DataFrame | None, settings: Clean) -> None:
    """Bring the alarms up to date and say how many there are; nothing is written where they are as they were.

    `learned` are the holders of addresses that take the place of clean.customers (customers.find_mail_owners).
    """
    shared = read_shared_customers(lake, with_n=True)
    accounts = lake.read_arrow(customers.TABLE)
    mails = customers.find_shared_mails(accounts, settings.max_customers_per_mail, learned, shared.select("customer_id", "since"))
    links = lake.read_arrow(identities.TABLE, ["visitor_id", "customer_id", "shared_since"])
    customer_ids = _to_alarms(SHARED_CUSTOMER, shared.rename({"customer_id": "id", "n": "n_customers"}))
    visitors, addresses = find_alarms(_drop_shared(links, shared), mails)
    _write(lake, [visitors, addresses, customer_ids])
    if len(visitors) + len(addresses) + len(customer_ids):
        log(
            f"alarm {TABLE.name:<28} {len(visitors):,} visitors, {len(addresses):,} addresses, {len(customer_ids):,} customer"
            " ids: too many people, merged with nobody"
        )


def _drop_shared(links: pa.Table, shared: pl.DataFrame) -> pa.Table:
    """Return the links of visitors without those of customer ids that guests share, which end by themselves."""
    rows = _rows.to_frame(links)
    return rows.join(shared, "customer_id", "anti").to_arrow() if len(shared) else links


def _write(lake: Lake, alarms: list[pl.DataFrame]) -> None:
    in_order = pl.concat(alarms).sort(TABLE.columns).to_arrow().cast(TABLE.arrow_schema)
    if in_order != lake.read_arrow(TABLE).sort_by([(name, "ascending") for name in TABLE.columns]):
        lake.replace_rows(TABLE, in_order)
