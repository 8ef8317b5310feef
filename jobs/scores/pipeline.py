"""Scores of a day: what customers are worth."""

from datetime import date

from jobs.config.settings import Settings
from jobs.scores import customer_outcomes, customer_values
from jobs.storage.lake import Lake


def run(lake: Lake, settings: Settings, days: list[date], retrain: bool) -> None:
    """Write the scores of each day, in the order of the days."""
    for day in days:
        customer_values.run(lake, settings, day, retrain)
        customer_outcomes.run(lake, settings, day, retrain)
