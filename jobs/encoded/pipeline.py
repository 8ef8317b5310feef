"""Encoding of a day: vectors of the events of customers, then of the customers themselves, by the day's champion."""

from datetime import date

from jobs.config.settings import Settings
from jobs.encoded import customers, sequences
from jobs.storage.lake import Lake


def run(lake: Lake, settings: Settings, days: list[date]) -> None:
    """Write encoded.sequences and encoded.customers of each day."""
    for day in days:
        sequences.run(lake, settings, day)
        customers.run(lake, settings, day)
