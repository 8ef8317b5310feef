"""Scores of a day: what customers are worth, what may become of them, and what to offer them."""

from datetime import date

from jobs.config.settings import Settings
from jobs.scores import customer_outcomes, customer_values, recommendations
from jobs.storage.lake import Lake


def run(lake: Lake, settings: Settings, days: list[date], retrain: bool) -> None:
    """Write the tables of each day, in the order of the days."""
    for day in days:
        customer_values.run(lake, settings, day, retrain)
        customer_outcomes.run(lake, settings, day, retrain)
        recommendations.run(lake, settings, day, retrain)
