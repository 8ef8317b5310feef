"""bronze.rates: one row per currency and day as received."""

from datetime import date, datetime

from jobs.bronze._landing import Landed, bronze_table, land
from jobs.config.settings import Settings
from jobs.config.source_mapping import Source
from jobs.storage.lake import Lake

MEANINGS = {
    "rated_on": "day",
    "currency": "foreign currency",
    "rate": "home currency units per one unit",
}
TABLE = bronze_table("rates", __doc__, MEANINGS, partition=None)


def run(lake: Lake, settings: Settings, source: Source, day: date, landed_at: datetime) -> Landed:
    """Land what is new for bronze.rates, up to `day`; returns the files for the register."""
    return land(lake, settings, source, TABLE, day, landed_at)
