"""A contract as DDL is parsed once, for Delta, Arrow and people."""

import pyarrow as pa
import pytest
from pyspark.sql.types import StructType

from jobs import flow
from jobs.storage.table import Table, quote_sql
from tests.test_house import tables

SCHEMA = """
    day DATE NOT NULL COMMENT 'day, in words (UTC)',
    amount DECIMAL(18,4) COMMENT 'a, b',
    `table` STRING COMMENT 'the shop\\'s table',
    traits ARRAY<STRUCT<
        feature: STRING COMMENT 'inner, with a comma',
        seen: MAP<STRING, BIGINT>
    >> COMMENT 'nested'"""
TABLE = Table("clean.things", "Things.", SCHEMA)


def test_columns_are_the_outer_names_in_order():
    assert TABLE.columns == ["day", "amount", "table", "traits"]


def test_a_column_has_its_type_whether_it_may_be_null_and_its_comment():
    assert [(c.sql_type, c.nullable) for c in TABLE.fields] == [
        ("date", False), ("decimal(18,4)", True), ("string", True),
        ("array<struct<feature:string,seen:map<string,bigint>>>", True),
    ]  # fmt: skip
    assert [c.comment for c in TABLE.fields[:3]] == ["day, in words (UTC)", "a, b", "the shop's table"]


def test_the_arrow_schema_has_the_same_columns():
    assert TABLE.arrow_schema.names == TABLE.columns
    assert TABLE.arrow_schema.field("amount").type == pa.decimal128(18, 4)
    assert not TABLE.arrow_schema.field("day").nullable
    assert TABLE.arrow_schema.field("traits").type.value_type.field("seen").type == pa.map_(pa.string(), pa.int64())


@pytest.mark.parametrize("name", [f"{layer}.{table}" for layer, names in flow.TABLES.items() for table in names])
def test_every_contract_means_to_us_what_it_means_to_spark(spark, name):
    table = tables()[name]
    declared = StructType.fromDDL(table.schema)
    assert [(f.name, f.dataType.simpleString(), f.nullable) for f in declared] == [
        (c.name, c.sql_type, c.nullable) for c in table.fields
    ]
    assert [f.metadata.get("comment", "") for f in declared] == [c.comment for c in table.fields]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("day DATE, n NUMBER", "unknown type 'number'"),
        ("day DATE n INT", "unexpected 'n' after column day"),
        ("n DECIMAL(18", r"expected ','"),
        ("n", "ends in the middle"),
        ("n INT; DROP", "cannot read"),
    ],
)
def test_a_schema_that_is_no_ddl_is_refused(schema, message):
    with pytest.raises(ValueError, match=message):
        _ = Table("clean.things", "Things.", schema).fields


def test_quotes_in_a_literal_are_escaped():
    assert quote_sql("a'b\\") == "'a\\'b\\\\'"
