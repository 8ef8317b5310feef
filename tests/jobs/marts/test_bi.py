"""What BI relies on: marts.customer_segments as clients without Spark see it."""

import re

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from jobs.marts import customer_segments, segment_moves, segment_profiles

ARROW = {
    "STRING": pa.string(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "BOOLEAN": pa.bool_(),
    "DECIMAL(18,4)": pa.decimal128(18, 4),
    "ARRAY<STRING>": pa.list_(pa.string()),
}
CONTRACT = [
    ("customer_id", "STRING"), ("segment_id", "INT"), ("segment_name", "STRING"), ("since_day", "DATE"),
    ("previous_segment_id", "INT"), ("as_of_day", "DATE"), ("recency_days", "BIGINT"), ("orders_365d", "BIGINT"),
    ("net_365d", "DECIMAL(18,4)"), ("confidence", "DOUBLE"), ("reasons", "ARRAY<STRING>"), ("model_version", "STRING"),
    ("runner_up_id", "INT"), ("runner_up_name", "STRING"), ("reasons_hold", "BOOLEAN"), ("outlier_reason", "STRING"),
]  # fmt: skip


@pytest.fixture
def table(shop):
    return DeltaTable(shop.lake.path("marts.customer_segments"))


def test_every_published_table_has_reader_version_1(shop):
    for module in (customer_segments, segment_profiles, segment_moves):
        protocol = DeltaTable(shop.lake.path(module.TABLE.name)).protocol()
        assert protocol.min_reader_version == 1
        assert protocol.min_writer_version <= 4


def test_columns_types_and_comments_are_those_of_the_contract(table):
    fields = pa.schema(table.schema().to_arrow())
    kinds = [(f.name, pa.list_(f.type.value_type) if pa.types.is_list(f.type) else f.type) for f in fields]
    assert kinds == [(name, ARROW[kind]) for name, kind in CONTRACT]
    comments = {f.name: f.metadata["comment"] for f in table.schema().fields}
    assert comments == dict(re.findall(r"^\s+(\w+) .* COMMENT '(.*)'", customer_segments.SCHEMA, re.MULTILINE))
    assert table.metadata().description == customer_segments.TABLE.about


def test_delta_rs_and_duckdb_read_the_rows_that_spark_reads(shop, table):
    spark_rows = shop.rows(customer_segments, "customer_id")
    arrow = table.to_pyarrow_dataset().to_table().sort_by("customer_id")
    assert arrow.to_pylist() == spark_rows

    connection = duckdb.connect()
    connection.register("customer_segments", table.to_pyarrow_dataset())
    found = connection.execute(
        "SELECT segment_name, count(*), sum(net_365d) FROM customer_segments GROUP BY ALL ORDER BY 1"
    ).fetchall()
    totals = {}
    for row in spark_rows:
        n, net = totals.get(row["segment_name"], (0, 0))
        totals[row["segment_name"]] = (n + 1, net + row["net_365d"])
    assert found == [(name, *totals[name]) for name in sorted(totals)]


def test_the_latest_day_is_one_file(table):
    assert len(table.file_uris()) == 1
