"""Messages and log lines quote no cell of a file, whatever is wrong with the file."""

from dataclasses import replace
from datetime import date

import pytest

from jobs.bronze import _reading, pipeline
from jobs.config.source_mapping import TableMapping, load_source
from jobs.errors import UserError
from jobs.storage.lake import Lake
from tests.jobs.bronze.conftest import LANDED_AT, MAPPING

CELLS = ("Anna", "anna@example.org", "2024-03-02 10:00:00", "4711")
FIRST_CUSTOMER = "2024-03-02 10:00:00,4711,view,anna@example.org,Anna,red"
LONG = b'a,b\n1,2\n"' + b"Anna," * 5_000_000 + b'",2\n3,4\n'
HEAD = "time,device,what,mail,name,colour"


def error_of(call, *arguments) -> str:
    """The one line of a UserError, which must quote no cell."""
    with pytest.raises(UserError) as raised:
        call(*arguments)
    message = str(raised.value)
    assert "\n" not in message
    assert not [cell for cell in CELLS if cell in message], message
    return message


def test_a_file_without_a_header_line_is_refused_by_counts_and_by_columns_of_the_mapping(vendor, capsys):
    vendor.file("clicks-2024-03-02.csv", FIRST_CUSTOMER)
    message = error_of(vendor.land, "events")
    assert message.startswith("land: file clicks-2024-03-02.csv, line 1: 5 of the 5 columns that the mapping names are missing")
    assert "(mail, name, time, device, what); the file has 6 columns" in message
    assert "header line" in message
    assert not [cell for cell in CELLS if cell in capsys.readouterr().out]


def test_a_later_file_without_a_header_line_logs_no_new_columns(vendor, capsys):
    vendor.file("clicks-2024-03-01.csv", HEAD, "2024-03-01 10:00:00,v,view,,,")
    vendor.land("events")
    vendor.file("clicks-2024-03-02.csv", FIRST_CUSTOMER)
    error_of(vendor.land, "events")
    printed = capsys.readouterr().out
    assert "drift" not in printed
    assert not [cell for cell in CELLS if cell in printed]


def test_a_missing_column_is_named_and_the_columns_of_the_file_are_not(vendor):
    vendor.file("clicks-2024-03-02.csv", HEAD.replace("what", "Anna"), FIRST_CUSTOMER)
    message = error_of(vendor.land, "events")
    assert "line 1: 1 of the 4 columns that the mapping names is missing (what); the file has 6 columns" in message


def test_a_column_that_the_mapping_uses_and_drops_is_said_to_be_dropped(vendor):
    vendor.map(MAPPING.replace('visitor_id = "device"', 'visitor_id = "coalesce(device, name)"'))
    vendor.file("clicks-2024-03-02.csv", HEAD, FIRST_CUSTOMER)
    assert "column name (events) is used and dropped" in error_of(vendor.land, "events")


@pytest.mark.parametrize(
    ("case", "content", "name", "mapping", "expected"),
    [
        ("equal cells", b"Anna,Anna,1\n", "f.csv", {}, "line 1: columns 1 and 2 of the header have the same name"),
        ("an empty cell", b"Anna,,1\n", "f.csv", {}, "line 1: column 2 of the header has no name"),
        ("another delimiter", b"Anna;anna@example.org\n", "f.csv", {}, "one column, with ';' in its name; set delimiter = ';'"),
        ("an open quote", b'"Anna,anna@example.org\n5,6\n', "f.csv", {}, "line 1: a quote is opened and never closed"),
        ("bytes that are no text", b"a,b\nAnna,\xff\n", "f.csv", {}, "line 2: not utf8 text"),
        ("a row that is too long", LONG, "f.csv", {}, "or a row is longer than 8 MiB"),
        ("no Parquet", b"Anna,anna@example.org\n", "f.parquet", {"format": "parquet"}, "cannot be read: it is not Parquet"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_without_quoting_it(tmp_path, case, content, name, mapping, expected):
    def read():
        (tmp_path / name).write_bytes(content)
        columns = TableMapping("events", "*", {}, **mapping)
        _reading.read_header(str(tmp_path), name, columns)
        return list(_reading.read_rows(str(tmp_path), name, columns, [], "a key of the tests alone"))

    assert expected in error_of(read)


NUMBERS = MAPPING.replace('quantity = "n"', 'quantity = "cast(n AS INT) * cast(n AS INT)"')
ORDERS = ("id,time,sku,n,state", "1,2024-03-01 10:00:00,mug,2,paid", "2,2024-03-01 10:00:00,mug,4711x,draft",
          "3,2024-03-01 10:00:00,mug,Anna,paid")  # fmt: skip


def test_a_value_that_an_expression_of_the_mapping_cannot_take_is_named_by_file_row_and_column(vendor):
    vendor.map(NUMBERS)
    vendor.file("orders.csv", *ORDERS)
    message = error_of(vendor.land, "orders")
    assert message.startswith("land: file orders.csv, row 3: the mapping's orders.quantity = 'cast(n AS INT) * cast(n AS INT)'")
    assert message.endswith("or make it null by 'try_cast(n AS INT) * try_cast(n AS INT)'")
    vendor.map(NUMBERS.replace("state <> 'draft'", "cast(state AS INT) = 1"))
    assert "orders.csv, row 1: the mapping's where = 'cast(state AS INT) = 1'" in error_of(vendor.land, "orders")
    vendor.map(MAPPING.replace('ordered_at = "time"', 'ordered_at = "cast(time AS TIMESTAMP)"'))
    vendor.file("orders.csv", *ORDERS[:2], "2,Anna,mug,2,draft")  # only rows that are left out are counted by their time
    assert "orders.csv, row 2: the mapping's orders.ordered_at" in error_of(vendor.land, "orders")


def test_the_first_rows_of_a_source_are_landed_and_its_errors_show_no_values(vendor, tmp_path):
    vendor.map(NUMBERS)
    vendor.file("orders.csv", *ORDERS)

    def land_first_rows(rows):
        lake = Lake(None, str(tmp_path / f"lake {rows}"))
        source = load_source(vendor.settings.source)
        pipeline.land_first_rows(lake, replace(vendor.settings, engine="local"), source, date(2024, 3, 2), LANDED_AT, rows)
        return lake.read_small_table("bronze.orders", ["quantity"])

    assert land_first_rows(1) == [{"quantity": "4"}]
    assert "orders.csv, row 3: the mapping's orders.quantity" in error_of(land_first_rows, 3)
    vendor.file("orders.csv", *ORDERS[1:])
    assert "5 of the 5 columns that the mapping names are missing" in error_of(land_first_rows, 2)
