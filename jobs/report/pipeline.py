"""Write the pages of some days."""

from datetime import date

from jobs.config.settings import Settings
from jobs.progress import log
from jobs.report.page import write_page


def run(settings: Settings, days: list[date]) -> None:
    """Write the page of each day and log its path."""
    for day in days:
        log(f"wrote {write_page(settings, day)}")
