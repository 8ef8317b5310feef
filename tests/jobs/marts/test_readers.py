"""Readers see one whole day of the marts, also while a day is published and when publishing is killed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.encoded import customers as encoded
from jobs.marts import refreshes
from jobs.segments import assignments, history
from jobs.storage.lake import Lake
from jobs.storage.table import Table
from tests.jobs import planted
from tests.jobs.conftest import LAST

DAYS = [LAST + timedelta(days=n) for n in range(1, 4)]
KILLS = 2
TABLES = ("marts.customer_segments", "marts.segment_profiles", "marts.segment_moves")


@pytest.fixture
def lake(shop, tmp_path):
    """The shop with its last day published, and with features and assignments of later days, each with one customer fewer."""
    lake = Lake(shop.lake.spark, shutil.copytree(shop.lake.root, tmp_path / "lake"))
    shutil.copytree(shop.settings.models, f"{lake.root}-models")
    for table in (planted.FEATURES, encoded.TABLE):
        lake.replace_days(table, copy_to_later_days(lake, table, DAYS), DAYS)
    for day in DAYS:
        lake.replace_days(assignments.TABLE, copy_to_later_days(lake, assignments.TABLE, [day]), [day])
        history.run(lake, shop.settings, day)
    refreshes.run(lake, shop.settings, LAST, "first", *[datetime(2024, 3, 5, tzinfo=UTC)] * 2)
    return lake


def copy_to_later_days(lake: Lake, table: Table, days: list) -> DataFrame:
    """Return the rows of the last day as rows of later days, each with one customer fewer."""
    rows = (
        lake.read(table, LAST, LAST).drop("day").join(lake.spark.createDataFrame([(d,) for d in days], "day DATE"), how="cross")
    )
    nth = F.regexp_extract("customer_id", "^rare-([0-9]+)$", 1)
    return rows.where((nth == "") | (nth.cast("INT") >= F.datediff("day", F.lit(LAST))))


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
        ended = [publish(lake, moments.uniform(0, 8)) for _ in range(KILLS)] + [publish(lake, None)]
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
