"""What the lake says of a table without a Spark job."""

from datetime import date

import pytest

from jobs.errors import UserError
from jobs.lake import Lake, Table

SCHEMA = """
    day DATE NOT NULL COMMENT 'day, in words (UTC)',
    amount DECIMAL(18,4) COMMENT 'a, b',
    `table` STRING COMMENT 'table',
    traits ARRAY<STRUCT<
        feature: STRING COMMENT 'inner, with a comma',
        seen: MAP<STRING, BIGINT>
    >> COMMENT 'nested'"""
TABLE = Table("clean.things", "Things.", SCHEMA, "day")


def test_columns_are_the_outer_names_in_order():
    assert TABLE.columns == ["day", "amount", "table", "traits"]


def test_days_follow_what_was_replaced(lake):
    assert lake.days(TABLE.name) == []
    first, second = date(2024, 3, 1), date(2024, 3, 2)
    rows = lake.spark.createDataFrame([(first, None, "a", None), (second, None, "b", None)], SCHEMA.replace("NOT NULL", ""))
    lake.replace_days(TABLE, rows, [first, second])
    assert lake.days(TABLE.name) == [first, second]
    assert lake.replace_days(TABLE, rows.where("false"), [second]) == 0
    assert lake.days(TABLE.name) == [first]
    assert lake.look_up(TABLE, ["table"]) == [{"table": "a"}]


def test_rows_are_counted_from_the_log(lake):
    first, second = date(2024, 3, 1), date(2024, 3, 2)
    assert lake.n_rows(TABLE.name, [first]) == 0
    rows = [(first, None, "a", None), (second, None, "b", None), (second, None, "c", None)]
    lake.replace_days(TABLE, lake.spark.createDataFrame(rows, SCHEMA.replace("NOT NULL", "")), [first, second])
    assert [lake.n_rows(TABLE.name, days) for days in ([first], [second], [first, second], None)] == [1, 2, 3, 3]


def test_many_rows_are_spread_over_more_tasks_and_few_over_no_fewer_than_before(lake):
    def partitions():
        return int(lake.spark.conf.get("spark.sql.shuffle.partitions"))

    usual = partitions()
    lake.spread(30_000_001)
    assert partitions() == 121
    lake.spread(500)
    assert partitions() == usual


@pytest.mark.parametrize("root", ["/proc/lake", "/etc/hostname/lake"])
def test_a_root_that_takes_no_files_is_named_in_one_line(spark, root):
    with pytest.raises(UserError, match=rf"lake: {root} cannot be written \(table clean\.things\)") as error:
        Lake(spark, root).create(TABLE)
    assert "\n" not in str(error.value)
