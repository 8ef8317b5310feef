"""Scores of a day: what customers are worth, what may become of them, what to offer them, and who is held out of campaigns."""

from datetime import date

from jobs.config.settings import Settings
from jobs.progress import log
from jobs.quality.omissions import write_omissions
from jobs.scores import ablation, customer_outcomes, customer_values, holdouts, recommendations
from jobs.storage.lake import Lake

TABLES = (customer_values, customer_outcomes, ablation, recommendations, holdouts)


def run(lake: Lake, settings: Settings, days: list[date], retrain: bool) -> None:
    """Write the tables of each day, in the order of the days, and what is left out of them."""
    for day in days:
        reasons = {table.TABLE.name: table.run(lake, settings, day, retrain) for table in TABLES}
        write_omissions(lake, day, reasons)
        for name, reason in reasons.items():
            if reason:
                log(f"score {name}, day {day}: left out: {reason}")
