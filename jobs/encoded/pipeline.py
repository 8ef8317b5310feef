"""Encoding of a day: one vector per customer, from the encoder of the day's champion."""

from datetime import date

from jobs.config.settings import Settings
from jobs.encoded import customers
from jobs.storage.lake import Lake


def run(lake: Lake, settings: Settings, days: list[date]) -> None:
    """Write encoded.customers of each day."""
    for day in days:
        customers.run(lake, settings, day)
