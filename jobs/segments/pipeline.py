"""Segments of a day: choose the model, define its segments, calibrate them, assign the customers, and keep their history."""

from collections.abc import Callable
from datetime import date

from jobs.config.settings import Settings
from jobs.segments import assignments, calibration, candidates, definitions, history, lineage
from jobs.storage.lake import Lake


def run(lake: Lake, settings: Settings, days: list[date], encode_again: Callable[[date], None]) -> None:
    """Write the segment tables of each day, in the order of the days.

    candidates may make another model, or another representation of the model, champion of the day. `encode_again` is called
    after it and encodes the customers of the day once more where they are not encoded by the champion.
    """
    for day in days:
        if definitions.needs_spark(lake, settings, day):
            lake.begin_session()  # so that it is open when candidates is done
        candidates.run(lake, settings, day)
        encode_again(day)
        definitions.run(lake, settings, day)
        calibration.run(lake, settings, day)
        lineage.run(lake, settings, day)
        assignments.run(lake, settings, day)
        history.run(lake, settings, day)
