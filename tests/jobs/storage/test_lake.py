"""What the lake writes and reads, and how a refused write ends."""

import errno
import os
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs.errors import UserError
from jobs.storage import commits
from jobs.storage.delta import is_written, read_arrow, sum_by
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table

SCHEMA = """
    day DATE NOT NULL COMMENT 'day, in words (UTC)',
    amount DECIMAL(18,4) COMMENT 'a, b',
    `table` STRING COMMENT 'table',
    traits ARRAY<STRUCT<
        feature: STRING COMMENT 'inner, with a comma',
        seen: MAP<STRING, BIGINT>
    >> COMMENT 'nested'"""
TABLE = Table("clean.things", "Things.", SCHEMA, "day", {"is_named": "`table` IS NULL OR `table` <> ''".replace("`", '"')})
FIRST, SECOND = date(2024, 3, 1), date(2024, 3, 2)
PLAIN = Table("marts.things", "Things.", "day DATE COMMENT 'd', name STRING COMMENT 'n'", "day")


def make_things(*rows):
    """Rows of TABLE: (day, table)."""
    return pa.Table.from_pylist([{"day": day, "table": table} for day, table in rows], TABLE.arrow_schema)


def make_plain_rows(*names, day=FIRST):
    return pa.Table.from_pylist([{"day": day, "name": name} for name in names], PLAIN.arrow_schema)


def test_days_follow_what_was_replaced(lake):
    assert lake.days(TABLE.name) == []
    lake.replace_rows(TABLE, make_things((FIRST, "a"), (SECOND, "b")), [FIRST, SECOND])
    assert lake.days(TABLE.name) == [FIRST, SECOND]
    assert lake.replace_rows(TABLE, make_things(), [SECOND]) == 0
    assert lake.days(TABLE.name) == [FIRST]
    lake.replace_rows(TABLE, make_things((FIRST, "c")), [FIRST])
    assert lake.read_small_table(TABLE, ["table"]) == [{"table": "c"}]


def test_no_rows_in_the_place_of_none_are_no_commit(lake):
    lake.replace_rows(TABLE, make_things((FIRST, "a")), [FIRST])
    version = lake.version(TABLE.name)
    assert lake.replace_rows(TABLE, make_things(), [SECOND]) == 0
    assert lake.version(TABLE.name) == version


def test_rows_are_counted_from_the_log(lake):
    assert lake.count_rows(TABLE.name, [FIRST]) == 0
    lake.replace_rows(TABLE, make_things((FIRST, "a"), (SECOND, "b"), (SECOND, "c")))
    assert [lake.count_rows(TABLE.name, days) for days in ([FIRST], [SECOND], [FIRST, SECOND], None)] == [1, 2, 3, 3]


def test_a_table_has_the_comments_the_checks_and_the_readers_of_its_contract(lake):
    lake.create(TABLE)
    stored = DeltaTable(lake.path(TABLE.name))
    assert stored.metadata().description == "Things."
    assert stored.metadata().partition_columns == ["day"]
    assert stored.metadata().configuration["delta.constraints.is_named"] == TABLE.checks["is_named"]
    assert {field.name: field.metadata["comment"] for field in stored.schema().fields} == {
        column.name: column.comment for column in TABLE.fields
    }
    assert stored.protocol().min_reader_version == 1


def test_spark_reads_what_is_written_and_what_it_wrote_is_read(spark, lake):
    lake.replace_rows(TABLE, make_things((FIRST, "a"), (SECOND, None)))
    path = lake.path(TABLE.name)
    assert sorted(map(tuple, spark.read.format("delta").load(path).select("day", "table").collect())) == [
        (FIRST, "a"), (SECOND, None)]  # fmt: skip
    spark.sql(f"INSERT INTO delta.`{path}` SELECT DATE'2024-03-03', 1.5, 'spark', NULL")
    rows = read_rows(lake.root, Rows(TABLE, "day", ("day", "amount", "table"))).sort_by("day").to_pylist()
    assert [(str(row["day"]), row["amount"] and str(row["amount"]), row["table"]) for row in rows] == [
        ("2024-03-01", None, "a"), ("2024-03-02", None, None), ("2024-03-03", "1.5000", "spark")]  # fmt: skip


def test_columns_that_a_contract_gains_are_added_and_null_in_older_rows(lake):
    lake.replace_rows(PLAIN, make_plain_rows("before"))
    longer = Table(PLAIN.name, PLAIN.about, PLAIN.schema + ", note STRING COMMENT 'new'", "day")
    lake.create(longer)
    assert lake.read_arrow(longer).to_pylist() == [{"day": FIRST, "name": "before", "note": None}]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (make_plain_rows("a").drop_columns(["name"]), "name is missing"),
        (make_plain_rows("a").append_column("extra", pa.array(["x"])), "extra is not in the contract"),
        (pa.table({"day": ["soon"], "name": ["a"]}), "day is string, not date32"),
    ],
)
def test_rows_that_differ_from_the_contract_are_refused(lake, rows, line):
    with pytest.raises(UserError, match=f"rows for marts.things break its contract: {line}"):
        lake.replace_rows(PLAIN, rows)


@pytest.mark.parametrize(
    ("rows", "rule"),
    [(make_things((FIRST, "a"), (None, "b")), "day NOT NULL"), (make_things((FIRST, "a"), (FIRST, "")), "is_named")],
)
def test_a_row_that_breaks_a_check_is_named_without_its_cells_and_nothing_is_written(lake, rows, rule):
    with pytest.raises(UserError, match=rf"clean\.things, day .*: 1 of 2 rows break {rule}.*the first is row 2; nothing was"):
        lake.replace_rows(TABLE, rows)
    assert lake.read_small_table(TABLE) == []


def test_some_rows_of_a_table_without_partitions_are_replaced_and_the_others_stay(lake):
    loose = Table("quality.things", "Things.", "day DATE, name STRING")
    rows = pa.Table.from_pylist([{"day": FIRST, "name": "a"}, {"day": None, "name": "b"}], loose.arrow_schema)
    lake.replace_rows(loose, rows)
    new = pa.Table.from_pylist([{"day": FIRST, "name": "c"}], loose.arrow_schema)
    lake.replace_where(loose, new, ds.field("day") == FIRST)
    assert sorted(row["name"] for row in lake.read_small_table(loose)) == ["b", "c"]


@pytest.mark.parametrize("root", ["/proc/lake", "/etc/hostname/lake"])
def test_a_root_that_cannot_be_written_is_named_in_one_line(root):
    with pytest.raises(UserError, match=rf"lake: {root} cannot be written \(table clean\.things\)") as error:
        Lake(None, root).create(TABLE)
    assert "\n" not in str(error.value)


def test_a_write_that_another_run_overtook_ends_in_one_line_and_keeps_the_rows_of_that_run(lake):
    lake.replace_rows(PLAIN, make_plain_rows("before"))
    opened = lake.open_for_write(PLAIN)
    files = commits.write_files(lake.root, PLAIN, make_plain_rows("ours"))
    write_deltalake(lake.path(PLAIN.name), make_plain_rows("other run"), mode="overwrite", predicate="day = '2024-03-01'")

    with pytest.raises(UserError, match=r"another run changed table marts\.things in .*; run again when it has ended$"):
        opened.commit(files, [FIRST])

    assert [row["name"] for row in lake.read_small_table(PLAIN)] == ["other run"]


def test_a_full_disk_ends_in_one_line_and_keeps_the_rows_before(lake, monkeypatch):
    def fill_the_disk(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    lake.replace_rows(PLAIN, make_plain_rows("before"))
    monkeypatch.setattr(commits.pq, "write_table", fill_the_disk)
    with pytest.raises(UserError, match=r"no space is left in .* \(table marts\.things stays as it was\); .*again$"):
        lake.replace_rows(PLAIN, make_plain_rows("ours"))

    assert lake.read_small_table(PLAIN, ["name"]) == [{"name": "before"}]


def test_files_that_were_never_committed_change_nothing(lake):
    lake.replace_rows(PLAIN, make_plain_rows("before"))
    commits.write_files(lake.root, PLAIN, make_plain_rows("killed"))
    assert [row["name"] for row in lake.read_small_table(PLAIN)] == ["before"]
    lake.replace_rows(PLAIN, make_plain_rows("after"), [FIRST])
    assert [row["name"] for row in lake.read_small_table(PLAIN)] == ["after"]


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
    assert lake.read_arrow(PLAIN).num_rows == 0
    with pytest.raises(UserError, match=r"table marts\.things does not exist"):
        read_arrow(lake.root, PLAIN.name)

    lake.create(PLAIN)
    assert lake.exists(PLAIN.name)
    assert lake.replace_rows(PLAIN, make_plain_rows("first"), [FIRST]) == 1
    assert lake.read_small_table(PLAIN, ["name"]) == [{"name": "first"}]
    assert (lake.days(PLAIN.name), lake.count_rows(PLAIN.name)) == ([FIRST], 1)
    assert lake.count_by(PLAIN.name, ["day"]) == {(FIRST,): 1}
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
