"""bronze.customers: one row per customer as received."""

from datetime import date, datetime

from jobs.bronze._landing import Landed, bronze_table, land
from jobs.config.settings import Settings
from jobs.config.source_mapping import Source
from jobs.storage.lake import Lake

MEANINGS = {
    "customer_id": "customer",
    "email_key": "hash of the e-mail",
    "registered_at": "when registered",
    "country": "country",
}
TABLE = bronze_table("customers", __doc__, MEANINGS, partition=None)


def run(lake: Lake, settings: Settings, source: Source, day: date, landed_at: datetime) -> Landed:
    """Land what is new for bronze.customers, up to `day`; returns the files for the register."""
    return land(lake, settings, source, TABLE, day, landed_at)
