"""Encoding of a day: vectors of the customers and of their events, from the encoders of the day's champion."""

from datetime import date

from jobs.config.settings import Settings
from jobs.encoded import customers, sequences
from jobs.storage.lake import Lake


def run(lake: Lake, settings: Settings, days: list[date]) -> None:
    """Write encoded.customers and encoded.sequences of each day."""
    for day in days:
        customers.run(lake, settings, day)
        sequences.run(lake, settings, day)
