"""Readers see one whole day of the marts, also while a day is published and when publishing is killed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable

from jobs.encoded import customers as encoded
from jobs.marts import refreshes
from jobs.segments import assignments
from jobs.storage.lake import Lake
from jobs.storage.table import Table
from tests.jobs import planted
from tests.jobs.conftest import LAST
from tests.jobs.marts.shop import replace_days, write_history

DAYS = [LAST + timedelta(days=n) for n in range(1, 4)]
KILLS, LONGEST_LIFE_SECONDS = 3, 0.5  # three days take a second and more
TABLES = ("marts.customer_segments", "marts.segment_profiles", "marts.segment_moves")


@pytest.fixture
def lake(shop, tmp_path):
    """The shop with its last day published, and with features and assignments of later days, each with one customer fewer."""
    lake = Lake(None, shutil.copytree(shop.lake.root, tmp_path / "lake"))
    shutil.copytree(shop.settings.models, f"{lake.root}-models")
    for n, day in enumerate(DAYS):
        gone = [f"rare-{i}" for i in range(1, n + 2)]
        for table in (planted.FEATURES, encoded.TABLE, assignments.TABLE):
            copy_day(lake, table, day, gone)
    write_history(lake)
    refreshes.run(lake, shop.settings, LAST, "first", *[datetime(2024, 3, 5, tzinfo=UTC)] * 2)
    return lake


def copy_day(lake: Lake, table: Table, day: date, gone: list[str]) -> None:
    """Write the rows of the last day as rows of `day`, without the customers who are `gone`."""
    rows = [row for row in lake.read_small_table(table, where=ds.field("day") == LAST) if row["customer_id"] not in gone]
    replace_days(lake, table, [row | {"day": day} for row in rows], [day])


class Reader(threading.Thread):
    """Reads until stopped: `seen` has (day, customers) of each read, `agreed` the days that a manifest named."""

    def __init__(self, lake: Lake) -> None:
        super().__init__()
        self.lake, self.seen, self.agreed, self.stopped, self.failure = lake, [], set(), False, None

    def run(self) -> None:
        try:
            while not self.stopped:
                self.read_newest()
                self.read_by_manifest()
        except Exception as failure:  # raised in the thread of the test
            self.failure = failure

    def read_newest(self) -> None:
        rows = DeltaTable(self.lake.path("marts.customer_segments")).to_pyarrow_dataset()
        (by_delta_rs,) = rows.to_table(columns=["as_of_day"]).group_by("as_of_day").aggregate([([], "count_all")]).to_pylist()
        query = "SELECT as_of_day, count(*), count(DISTINCT customer_id) FROM rows GROUP BY 1"
        (by_duckdb,) = duckdb.connect().execute(query).fetchall()
        assert by_duckdb == (by_delta_rs["as_of_day"], *[by_delta_rs["count_all"]] * 2)
        self.seen.append(by_duckdb[:2])

    def read_by_manifest(self) -> None:
        manifest = max(self.read_table("marts.refreshes"), key=lambda row: row["finished_at"])
        day, versions = manifest["day"], dict(manifest["table_versions"])
        segments, profiles, moves = (self.read_table(name, versions[name]) for name in TABLES)
        assert {row["as_of_day"] for row in segments} == {day}
        assert len(segments) == manifest["n_customers"]
        assert sum(row["n_customers"] for row in profiles if row["day"] == day) == len(segments)
        gone = [row["customers"] for row in moves if row["day"] == day and row["to_segment_id"] is None]
        assert sum(gone) == (day > LAST)
        self.agreed.add(day)

    def read_table(self, name: str, version: int | None = None) -> list[dict]:
        return DeltaTable(self.lake.path(name), version=version).to_pyarrow_dataset().to_table().to_pylist()


def publish(lake: Lake, kill_after: float | None) -> bool:
    """Publish in another process, killed `kill_after` seconds after it began a day; return whether it ended by itself."""
    command = [sys.executable, "-m", "tests.jobs.publisher", lake.root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        begun = next(line for line in process.stdout if line.startswith("publishing"))
        assert begun
        if kill_after is not None:
            time.sleep(kill_after)
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.read()
    return process.returncode == 0


def test_a_reader_sees_one_whole_day_however_often_publishing_is_killed(lake):
    moments = random.Random(11)  # noqa: S311
    reader = Reader(lake)
    reader.start()
    try:
        ended = [publish(lake, moments.uniform(0, LONGEST_LIFE_SECONDS)) for _ in range(KILLS)] + [publish(lake, None)]
    finally:
        reader.stopped = True
        reader.join()
    if reader.failure:
        raise reader.failure
    assert ended[-1]
    assert not all(ended)
    customers = {LAST + timedelta(days=n): 226 - n for n in range(len(DAYS) + 1)}
    assert {day: customers[day] for day, _ in reader.seen} == dict(reader.seen)
    assert reader.seen == sorted(reader.seen)
    assert len(set(reader.seen)) > 2
    assert len(reader.agreed) > 2
    engines = {row["run_id"]: row["engine"] for row in lake.read_small_table(refreshes.TABLE)}
    assert engines == {"first": None} | {f"run-{day}": "local" for day in DAYS}
