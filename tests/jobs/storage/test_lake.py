"""What the lake writes and reads, and how a refused write ends."""

import errno
import os
from datetime import date

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import functions as F

from jobs.errors import UserError
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
