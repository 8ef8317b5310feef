"""Segments of a day: choose the model, define its segments, calibrate them, assign the customers, and keep their history."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pyarrow.dataset as ds

from jobs.config.settings import Settings
from jobs.segments import assignments, calibration, candidates, definitions, history, lineage
from jobs.storage.lake import Lake

# On 2 cores, a cold JVM fits 200,000 customers with its quick compiler as fast as with the other, for two thirds of the CPU.
MAX_CUSTOMERS_OF_A_SHORT_FIT = 200_000


def run(lake: Lake, settings: Settings, days: list[date], encode_again: Callable[[date], None]) -> None:
    """Write the segment tables of each day, in the order of the days.

    candidates may make another model, or another representation of the model, champion of the day. `encode_again` is called
    after it and encodes the customers of the day once more where they are not encoded by the champion. What candidates adds for
    comparison is made beside the rest.
    """
    for day in days:
        if definitions.needs_spark(lake, settings, day):
            n_active = lake.count_by("features.customers", ["is_active"], ds.field("day") == day)[True,]
            lake.begin_session(is_short=n_active <= MAX_CUSTOMERS_OF_A_SHORT_FIT)  # so that it is open when candidates is done
        candidates.run(lake, settings, day)
        with ThreadPoolExecutor(1) as pool:
            alternatives = pool.submit(candidates.add_alternatives, lake, settings, day)
            encode_again(day)
            definitions.run(lake, settings, day)
            calibration.run(lake, settings, day)
            lineage.run(lake, settings, day)
            assignments.run(lake, settings, day)
            history.run(lake, settings, day)
        alternatives.result()
