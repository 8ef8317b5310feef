"""Stored rows as a scan: DuckDB reads from the files what Arrow reads, in any zone of the machine."""

from datetime import UTC, date, datetime
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

from jobs.storage.commits import replace_rows
from jobs.storage.rows import Rows, Scan, read_rows, scan_rows
from jobs.storage.table import Table

NARROW = Table("clean.sales", "Sales.", "customer STRING, at TIMESTAMP, day DATE NOT NULL", "day")
SALES = Table(
    "clean.sales", "Sales.",
    "customer STRING, at TIMESTAMP, day DATE NOT NULL, paid DECIMAL(18,4), things ARRAY<STRUCT<thing: STRING, n: BIGINT>>", "day",
)  # fmt: skip
DAYS = [date(2024, 3, 30), date(2024, 3, 31)]


def to_row(day, **more):
    return {"customer": "anna", "at": datetime(day.year, day.month, day.day, 0, 30, tzinfo=UTC), "day": day, **more}


@pytest.fixture
def sales(lake):
    """A day of before the table gained columns, and a day with all."""
    replace_rows(lake.root, NARROW, pa.Table.from_pylist([to_row(DAYS[0])], NARROW.arrow_schema), DAYS[:1])
    rows = [to_row(DAYS[1], paid=Decimal("1.5"), things=[{"thing": "mug", "n": 2}])]
    replace_rows(lake.root, SALES, pa.Table.from_pylist(rows, SALES.arrow_schema), DAYS[1:])
    return lake


def read_scan(scan, zone="UTC"):
    with duckdb.connect() as connection:
        connection.execute(f"SET TimeZone = '{zone}'")
        connection.register("no_rows", scan.schema.empty_table())
        return connection.sql(f"FROM ({scan.to_sql('no_rows')}) ORDER BY ALL").to_arrow_table()


@pytest.mark.parametrize("columns", [None, ("day", "paid")])
def test_a_scan_has_the_rows_that_arrow_reads_and_null_for_columns_that_a_file_lacks(sales, columns):
    rows = Rows(SALES, "customer", columns, scan=True)
    scan = scan_rows(sales.root, rows)
    assert isinstance(scan, Scan)
    expected = read_rows(sales.root, rows).to_pylist()
    actual = read_scan(scan).to_pylist()
    assert actual == [row | {"at": row["at"].replace(tzinfo=None)} if "at" in row else row for row in expected]
    assert actual[0]["paid"] is None


def test_times_of_a_scan_are_utc_in_any_zone_of_the_machine(sales):
    scan = scan_rows(sales.root, Rows(SALES, "customer", ("at",), DAYS[1:], scan=True))
    assert read_scan(scan, "Pacific/Auckland")["at"].to_pylist() == [datetime(2024, 3, 31, 0, 30)]  # noqa: DTZ001 - has no zone


def test_rows_that_no_scan_can_name_are_read(sales, tmp_path):
    assert scan_rows(sales.root, Rows(SALES, "customer", days=[date(2020, 1, 1)], scan=True)).num_rows == 0
    assert scan_rows(sales.root, Rows(SALES, "customer", only=pa.array(["anna"]), scan=True)).num_rows == 2
    root = str(tmp_path / "lake [of 'anna']")
    replace_rows(root, NARROW, pa.Table.from_pylist([to_row(DAYS[0])], NARROW.arrow_schema))
    assert scan_rows(root, Rows(NARROW, "customer", scan=True)).num_rows == 1
