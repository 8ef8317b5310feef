"""Publishes the days of a planted lake that are not published yet, as `shoal publish` does: python -m tests.jobs.publisher LAKE.

It says so when it begins a day, and may be killed at any moment.
"""

import sys

import pyarrow.compute as pc

from jobs import catalogue, steps
from jobs.engine.session import open_session
from jobs.marts import customer_segments
from jobs.storage.delta import read_arrow
from jobs.storage.lake import Lake
from tests.jobs import planted


def main(root: str) -> None:
    """Every day that has assignments, from the first that the manifest lacks."""
    catalogue.FEATURES = planted.CATALOGUE
    customer_segments.load_encoder = planted.load_encoder
    here = Lake(open_session("publisher"), root)
    settings = planted.settings(here)
    published = pc.max(read_arrow(root, "marts.refreshes")["day"]).as_py()
    for day in (day for day in here.days("segments.assignments") if day > published):
        print(f"publishing {day}", flush=True)
        steps.run_on_lake(here, ("publish",), settings, steps.Options([day], run_id=f"run-{day}"))


if __name__ == "__main__":
    main(sys.argv[1])
