"""bronze.products: one row per product as received."""

from datetime import date, datetime

from jobs.bronze._landing import Landed, bronze_table, land
from jobs.config.settings import Settings
from jobs.config.source_mapping import Source
from jobs.storage.lake import Lake

MEANINGS = {
    "product_id": "product",
    "name": "name",
    "brand": "brand",
    "category": "category",
    "price": "list price",
    "currency": "its currency",
    "known_on": "from when this holds",
}
TABLE = bronze_table("products", __doc__, MEANINGS, partition=None)


def run(lake: Lake, settings: Settings, source: Source, day: date, landed_at: datetime) -> Landed:
    """Land what is new for bronze.products, up to `day`; returns the files for the register."""
    return land(lake, settings, source, TABLE, day, landed_at)
