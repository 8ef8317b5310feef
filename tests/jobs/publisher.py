"""`python -m tests.jobs.publisher LAKE` publishes the days of a planted lake that are not published yet.

It prints a line when it begins a day, and may be killed at any moment.
"""

import sys
from datetime import UTC, datetime

import pyarrow.compute as pc

from jobs import catalogue, representations
from jobs.marts import pipeline
from jobs.storage.delta import read_arrow
from jobs.storage.lake import Lake
from tests.jobs import planted


def main(root: str) -> None:
    """Publish every day that has assignments, from the first that the manifest lacks."""
    catalogue.FEATURES = planted.CATALOGUE
    representations.load_encoder = planted.load_encoder
    lake = Lake(None, root)
    settings = planted.settings(lake)
    published = pc.max(read_arrow(root, "marts.refreshes")["day"]).as_py()
    for day in (day for day in lake.days("segments.assignments") if day > published):
        print(f"publishing {day}", flush=True)
        pipeline.run(lake, settings, [day], f"run-{day}", now(), now, engine="local")


def now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    main(sys.argv[1])
