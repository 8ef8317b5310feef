"""What the lake writes and reads, and how a refused write ends."""

import errno
import os
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import functions as F

from jobs.errors import UserError
from jobs.storage.delta import is_written, read_arrow, sum_by
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    day DATE NOT NULL COMMENT 'day, in words (UTC)',
    amount DECIMAL(18,4) COMMENT 'a, b',
    `table` STRING COMMENT 'table',
    traits ARRAY<STRUCT<
        feature: STRING COMMENT 'inner, with a comma',
        seen: MAP<STRING, BIGINT>
    >> COMMENT 'nested'"""
TABLE = Table("clean.things", "Things.", SCHEMA, "day")


def test_days_follow_what_was_replaced(lake):
    assert lake.days(TABLE.name) == []
    first, second = date(2024, 3, 1), date(2024, 3, 2)
    rows = lake.spark.createDataFrame([(first, None, "a", None), (second, None, "b", None)], SCHEMA.replace("NOT NULL", ""))
    lake.replace_days(TABLE, rows, [first, second])
    assert lake.days(TABLE.name) == [first, second]
    assert lake.replace_days(TABLE, rows.where("false"), [second]) == 0
    assert lake.days(TABLE.name) == [first]
    lake.replace_days(TABLE, rows.where(F.col("day") == first), [first])
    assert lake.replace_days(TABLE, rows.where("false"), [second]) == 0  # not the row of the write before
    assert lake.read_small_table(TABLE, ["table"]) == [{"table": "a"}]


def test_rows_are_counted_from_the_log(lake):
    first, second = date(2024, 3, 1), date(2024, 3, 2)
    assert lake.count_rows(TABLE.name, [first]) == 0
    rows = [(first, None, "a", None), (second, None, "b", None), (second, None, "c", None)]
    lake.replace_days(TABLE, lake.spark.createDataFrame(rows, SCHEMA.replace("NOT NULL", "")), [first, second])
    assert [lake.count_rows(TABLE.name, days) for days in ([first], [second], [first, second], None)] == [1, 2, 3, 3]


def test_many_rows_get_more_shuffle_partitions_and_few_rows_no_fewer_than_before(lake):
    def partitions():
        return int(lake.spark.conf.get("spark.sql.shuffle.partitions"))

    at_start = partitions()
    lake.set_shuffle_partitions(30_000_001)
    assert partitions() == 121
    lake.set_shuffle_partitions(500)
    assert partitions() == at_start


@pytest.mark.parametrize("root", ["/proc/lake", "/etc/hostname/lake"])
def test_a_root_that_cannot_be_written_is_named_in_one_line(spark, root):
    with pytest.raises(UserError, match=rf"lake: {root} cannot be written \(table clean\.things\)") as error:
        Lake(spark, root).create(TABLE)
    assert "\n" not in str(error.value)


PLAIN = Table("marts.things", "Things.", "day DATE COMMENT 'd', name STRING COMMENT 'n'", "day")


def plain(lake, name):
    return lake.spark.createDataFrame([(date(2024, 3, 1), name)], "day DATE, name STRING")


def test_a_write_that_another_run_overtook_ends_in_one_line_and_keeps_the_rows_of_that_run(lake):
    path = lake.path(PLAIN.name)

    def write_meanwhile(batches):
        for batch in batches:
            rows = pa.table({"day": batch["day"], "name": ["other run"]})
            write_deltalake(path, rows, mode="overwrite", predicate="day = '2024-03-01'")
            yield batch

    lake.replace(PLAIN, plain(lake, "before"), "day = DATE'2024-03-01'")
    frame = plain(lake, "ours").mapInArrow(write_meanwhile, "day DATE, name STRING")
    with pytest.raises(UserError, match=r"another run changed table marts\.things in .*; run again when it has ended$"):
        lake.replace(PLAIN, frame, "day = DATE'2024-03-01'")

    assert DeltaTable(path).to_pyarrow_table()["name"].to_pylist() == ["other run"]


def test_a_full_disk_ends_in_one_line_and_keeps_the_rows_before(lake):
    def fill_the_disk(batches):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    lake.replace(PLAIN, plain(lake, "before"))
    with pytest.raises(UserError, match=r"no space is left in .* \(table marts\.things stays as it was\); .*again$"):
        lake.replace(PLAIN, plain(lake, "ours").mapInArrow(fill_the_disk, "day DATE, name STRING"))

    assert lake.read_small_table(PLAIN, ["name"]) == [{"name": "before"}]


UNFINISHED = [".00000000000000000000.json.3f1c.tmp", "00000000000000000000.crc", "_commit_3f1c.json.tmp"]


@pytest.mark.parametrize("left", [[], UNFINISHED], ids=["empty", "unfinished"])
def test_a_table_whose_first_commit_was_never_written_is_no_table_yet(lake, left):
    log = Path(lake.path(PLAIN.name)) / "_delta_log"
    log.mkdir(parents=True)
    for name in left:
        (log / name).touch()

    assert not lake.exists(PLAIN.name)
    assert (lake.read_small_table(PLAIN), lake.days(PLAIN.name), lake.count_rows(PLAIN.name)) == ([], [], 0)
    assert (lake.count_by(PLAIN.name, ["day"]), sum_by(lake.root, PLAIN.name, ["day"], ["name"])) == ({}, {})
    assert lake.read(PLAIN).count() == 0
    with pytest.raises(UserError, match=r"table marts\.things does not exist"):
        lake.read(PLAIN.name)
    with pytest.raises(UserError, match=r"table marts\.things does not exist"):
        read_arrow(lake.root, PLAIN.name)

    day = date(2024, 3, 1)
    lake.create(PLAIN)
    assert lake.exists(PLAIN.name)
    assert lake.replace_days(PLAIN, plain(lake, "first"), [day]) == 1
    assert [row.name for row in lake.read(PLAIN).collect()] == ["first"]
    assert lake.read_small_table(PLAIN, ["name"]) == [{"name": "first"}]
    assert (lake.days(PLAIN.name), lake.count_rows(PLAIN.name)) == ([day], 1)
    assert lake.count_by(PLAIN.name, ["day"]) == {(day,): 1}
    assert read_arrow(lake.root, PLAIN.name)["name"].to_pylist() == ["first"]


@pytest.mark.parametrize(
    "name",
    [
        "00000000000000000000.json",
        "00000000000000000010.checkpoint.parquet",
        "00000000000000000010.checkpoint.0000000001.0000000002.parquet",
        "00000000000000000010.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json",
    ],
)
def test_a_log_with_a_commit_or_a_checkpoint_is_a_table(tmp_path, name):
    (tmp_path / "_delta_log").mkdir()
    assert not is_written(str(tmp_path))
    (tmp_path / "_delta_log" / name).touch()
    assert is_written(str(tmp_path))
