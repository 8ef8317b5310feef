"""bronze.rates: one row per currency and day as received."""

from datetime import date, datetime

from jobs.bronze._landing import Landed, bronze_table, land
from jobs.lake import Lake
from jobs.settings import Settings
from jobs.source import Source

MEANINGS = {
    "rated_on": "day",
    "currency": "foreign currency",
    "rate": "home currency units per one unit",
}
TABLE = bronze_table("rates", __doc__, MEANINGS, partition=None)


def run(lake: Lake, settings: Settings, source: Source, day: date, landed_at: datetime) -> Landed:
    """Land what is new for bronze.rates, up to `day`; returns the files for the register."""
    return land(lake, settings, source, TABLE, day, landed_at)
