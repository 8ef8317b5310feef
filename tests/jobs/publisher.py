"""Publishes the days of a planted lake that are not published yet, as `shoal publish` does: python -m tests.jobs.publisher LAKE.

It says so when it begins a day, and may be killed at any moment.
"""

import sys
from argparse import Namespace

import pyarrow.compute as pc

from jobs import catalogue, lake, steps
from jobs.marts import customer_segments
from jobs.session import open_session
from tests.jobs import planted


def main(root: str) -> None:
    """Every day that has assignments, from the first that the manifest lacks."""
    catalogue.FEATURES = planted.CATALOGUE
    customer_segments.opened = planted.opened
    here = lake.Lake(open_session("publisher"), root)
    settings = planted.settings(here)
    published = pc.max(lake.read_arrow(root, "marts.refreshes")["day"]).as_py()
    for day in (day for day in here.days("segments.assignments") if day > published):
        print(f"publishing {day}", flush=True)
        steps._publish(here, settings, [day], Namespace(run_id=f"run-{day}", started_at=None))


if __name__ == "__main__":
    main(sys.argv[1])
