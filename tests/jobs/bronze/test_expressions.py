"""Expressions of a mapping: DuckDB's SQL over the text columns of a file, one row at a time and without any access."""

from dataclasses import replace

import duckdb
import pyarrow as pa
import pytest

from jobs.bronze import _columns, _sql, _values
from jobs.config.source_mapping import TableMapping
from jobs.errors import UserError

TEXTS = {
    "order": [" a\x00b ", None],
    "my col": ["x", "y"],
    "at": ["2024-03-01 10:00:00", "2024-03-01 10:00:01 UTC"],
    "n": ["5", "6"],
}


def evaluate(expression, **texts):
    """The values of an expression over two rows."""
    rows = pa.table({**(texts or TEXTS), "_file": ["f.csv"] * 2, "_row": [1, 2]})
    mapping = TableMapping("orders", "*", {"order_id": expression})
    with _sql.open_connection() as connection:
        return _values.evaluate_texts(connection, rows, mapping, ["order_id", "kind"])["order_id"].to_pylist()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("order", [" a\x00b ", None]),
        ("`my col`", ["x", "y"]),
        ('"my col"', ["x", "y"]),
        ("concat(`my col`, '`')", ["x`", "y`"]),
        ("upper(\"order\")", [" A\x00B ", None]),
        ("epoch_ms(try_cast(\"at\" AS timestamp)) // 1000", ["1709287200", "1709287201"]),
        ("CAST(\"at\" AS timestamptz)", ["2024-03-01 10:00:00+00", "2024-03-01 10:00:01+00"]),
        (r"regexp_replace('17850.0', '\.0$', '')", ["17850", "17850"]),
        ("CAST(n AS INT) > 5 -- pieces", ["false", "true"]),
        ("'it''s'", ["it's", "it's"]),
        ("NULL", [None, None]),
    ],
)  # fmt: skip
def test_an_expression_gives_texts(expression, expected):
    assert evaluate(expression) == expected


def test_a_value_that_no_row_alone_explains_is_named_by_the_rows_of_its_batch():
    with pytest.raises(UserError, match=r"file f.csv, row 1 or one of the 2 rows after it: the mapping's expressions"):
        evaluate('(SELECT CAST("order" AS INT))')


def test_a_variable_of_the_program_is_no_table():
    variable = pa.table({"n": [1]})
    with _sql.open_connection() as connection, pytest.raises(duckdb.Error, match="variable does not exist"):
        connection.sql("SELECT * FROM variable")
    assert variable.num_rows


PARAMS = """[{"key": "page", "value": {"string_value": "/cup", "int_value": null}}, {"key": "n", "value": {"int_value": "5"}}]"""


@pytest.mark.parametrize(("name", "expected"), [("page", "/cup"), ("n", "5"), ("none", None)])
def test_a_value_is_taken_by_its_key_from_a_list_of_parameters(name, expected):
    assert evaluate(f"param(params, '{name}')", params=[PARAMS, "no list"]) == [expected, None]


def test_the_configuration_is_locked():
    with _sql.open_connection() as connection, pytest.raises(duckdb.Error, match="locked"):
        connection.execute("SET enable_external_access = true")


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("unix_seconds(n)", "Scalar Function with name unix_seconds does not exist"),
        ("lower(n", "syntax error"),
        ("(SELECT content FROM read_text('/etc/hostname'))", "file system operations are disabled"),
        ("getenv('HOME')", "Scalar Function with name getenv does not exist"),
        ("max(n)", "cannot contain aggregates"),
        ("row_number() OVER ()", "cannot contain window functions"),
        ("lower(Name) || lower(name)", "columns 'Name' and 'name' differ only in case"),
    ],
)
def test_an_expression_that_is_refused_is_named_with_the_reason(tmp_path, expression, reason):
    (tmp_path / "f.csv").write_text("n,Name,name\n1,Anna,anna\n")
    with pytest.raises(UserError) as raised:
        _columns.group_by_header(str(tmp_path), ["f.csv"], TableMapping("orders", "*", {"order_id": expression}))
    assert str(raised.value).startswith(f"land: the mapping's orders.order_id = {expression!r}: ")
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "nna" not in str(raised.value)


def test_every_column_that_expressions_name_and_the_file_lacks_is_counted(tmp_path):
    (tmp_path / "f.csv").write_text("n,x\n1,2\n")
    mapping = TableMapping("orders", "*", {"order_id": "user", "kind": "lower(`my col`) || Kind", "quantity": "n"})
    with pytest.raises(UserError, match=r"3 of the 4 columns that the mapping names are missing \(user, my col, Kind\)"):
        _columns.group_by_header(str(tmp_path), ["f.csv"], mapping)


def test_columns_that_differ_only_in_case_can_be_taken_as_they_are_but_not_computed_with(tmp_path):
    (tmp_path / "f.csv").write_text("Name,name\nAnna,anna\n")
    plain = TableMapping("orders", "*", {"order_id": "Name", "kind": "name"})
    (group,) = _columns.group_by_header(str(tmp_path), ["f.csv"], plain)
    assert group.used == ["Name", "name"]
    with pytest.raises(UserError, match=r"orders.kind = 'lower\(name\)': columns 'Name' and 'name' differ only in case"):
        _columns.group_by_header(
            str(tmp_path), ["f.csv"], replace(plain, columns={"order_id": "lower(Name)", "kind": "lower(name)"})
        )
