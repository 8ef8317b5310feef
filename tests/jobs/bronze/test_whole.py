"""Rows that need the file as a whole: look-ups, lists, values that stand on the first row alone, and a SELECT."""

import json

import pytest

from jobs.errors import UserError

HEAD = 'name = "vendor"\ncurrency = "EUR"\n'
LINES = (
    HEAD
    + """
[orders]
files = "lines*.csv"
{words}
[orders.columns]
order_id = "ticket"
ordered_at = "{at}"
product_id = "sku"
customer_id = "{who}"
quantity = "{n}"
{more}
"""
)


def lines(words="", at="at", who="who", n="'1'", more=""):
    return LINES.format(words=words, at=at, who=who, n=n, more=more)


def counts(vendor):
    """Rows in, rows out, left out and unaccounted, over all days."""
    accounts = vendor.lake.read_small_table("quality.reconciliation")
    left_out = sum(dict(account["rejects"]).get("left_out", 0) for account in accounts)
    rows_in, rows_out, difference = (sum(account[name] for account in accounts) for name in ("rows_in", "rows_out", "difference"))
    return rows_in, rows_out, left_out, difference


CHAIN = """
[orders.lookups.tickets]
files = "tickets*.csv"
key = "id"
on = "ticket"
[orders.lookups.people]
files = "people.csv"
key = "person"
on = "tickets.buyer"
"""


def test_look_ups_by_key_follow_each_other_and_never_multiply_rows(vendor):
    vendor.map(lines(CHAIN, at="tickets.at", who="people.tax_no"))
    vendor.file("lines.csv", "ticket,sku", "T1,cup", "T1,pot", "T2,cup", "T9,cup")
    vendor.file(
        "tickets.csv", "id,buyer,at", "T1,p1,2024-03-01 10:00:00", "T2,p2,2024-03-02 10:00:00", "T1,p1,2024-03-01 11:00:00"
    )
    vendor.file("people.csv", "person,tax_no", "p1,anna", "p2,anna")
    vendor.land("orders")
    assert vendor.rows("orders", "_row", "order_id", "product_id", "ordered_at", "customer_id") == [
        (1, "T1", "cup", "2024-03-01 11:00:00", "anna"), (2, "T1", "pot", "2024-03-01 11:00:00", "anna"),
        (3, "T2", "cup", "2024-03-02 10:00:00", "anna"), (4, "T9", "cup", None, None),
    ]  # fmt: skip
    assert counts(vendor) == (4, 4, 0, 0)


DAILY = """file_day = '(\\d{4}-\\d{2}-\\d{2})'
[orders.lookups.prices]
files = "prices-*.csv"
file_day = '(\\d{4}-\\d{2}-\\d{2})'
key = "sku"
on = "sku"
"""


def test_a_look_up_gives_the_version_of_the_day_of_the_file(vendor, capsys):
    vendor.map(lines(DAILY, more='unit_price = "prices.price"'))
    for day in ("01", "02", "03"):
        vendor.file(f"lines-2024-03-{day}.csv", "ticket,sku,at,who", f"T{day},cup,2024-03-{day} 09:00:00,bo")
    vendor.file("prices-2024-03-01.csv", "sku,price", "cup,4.00", "pot,9.00")
    vendor.file("prices-2024-03-03.csv", "sku,price", "cup,5.00")
    vendor.land("orders", "2024-03-03")
    prices = [("T01", "4.00"), ("T02", "4.00"), ("T03", "5.00")]
    assert vendor.rows("orders", "order_id", "unit_price") == prices
    vendor.file("prices-2024-03-02.csv", "sku,price", "cup,4.50")
    capsys.readouterr()
    vendor.land("orders", "2024-03-03")
    assert "2 new files of 3" in capsys.readouterr().out, "the file of the first day is the same"
    assert vendor.rows("orders", "order_id", "unit_price") == [("T01", "4.00"), ("T02", "4.50"), ("T03", "5.00")]


def test_a_value_of_the_first_row_is_filled_down_within_its_order_alone(vendor):
    vendor.map(lines('fill_down = { by = "ticket", columns = ["at", "who"] }'))
    first, second = "T1,cup,2024-03-01 10:00:00,ann", "T2,cup,2024-03-01 11:00:00,"
    rows = [first, "T1,pot,,", second, "T3,cup,,", ",cup,,zed", ",cup,,", "T1,mug,,bo", "T1,jug,,"]
    vendor.file("lines.csv", "ticket,sku,at,who", *rows)
    vendor.land("orders")
    assert vendor.rows("orders", "_row", "ordered_at", "customer_id") == [
        (1, "2024-03-01 10:00:00", "ann"), (2, "2024-03-01 10:00:00", "ann"), (3, "2024-03-01 11:00:00", None), (4, None, None),
        (5, None, "zed"), (6, None, None), (7, "2024-03-01 10:00:00", "bo"), (8, "2024-03-01 10:00:00", "bo"),
    ]  # fmt: skip


def quoted(content):
    """JSON as a field of CSV."""
    return '"' + json.dumps(content).replace('"', '""') + '"'


def test_a_list_becomes_rows_and_a_row_without_elements_is_left_out(vendor):
    words = 'unnest = "items"'
    vendor.map(lines(words, who="buyer.id", n="items->>'n'", more='line_no = "_position"').replace('"sku"', '"items.sku"'))
    buyer = quoted({"id": "ann"})
    vendor.file(
        "lines.csv",
        "ticket,at,buyer,items",
        f"T1,2024-03-01 10:00:00,{buyer},{quoted([{'sku': 'cup', 'n': 2}, {'sku': 'pot', 'n': 1}])}",
        f"T2,2024-03-01 10:00:00,{buyer},[]",
        f"T3,2024-03-01 10:00:00,{buyer},{quoted({'sku': 'jug', 'n': 3})}",
        "T4,2024-03-01 10:00:00,,",
    )
    vendor.land("orders")
    assert vendor.rows("orders", "_row", "order_id", "line_no", "product_id", "quantity", "customer_id") == [
        (1, "T1", "1", "cup", "2", "ann"), (1, "T1", "2", "pot", "1", "ann"), (3, "T3", "1", "jug", "3", "ann"),
    ]  # fmt: skip
    assert counts(vendor) == (5, 3, 2, 0)


def test_a_list_that_is_no_json_is_named_by_file_and_row_without_its_text(vendor):
    vendor.map(lines('unnest = "items"').replace('"sku"', '"items.sku"'))
    vendor.file("lines.csv", "ticket,at,who,items", "T1,2024-03-01,ann,[]", "T2,2024-03-01,ann,anna@x.org")
    with pytest.raises(UserError, match=r"file lines.csv, row 2: the mapping's orders.unnest = 'items' cannot take") as raised:
        vendor.land("orders")
    assert "anna@" not in str(raised.value)


UNION = '''select = """
SELECT r._row, r.ticket, r.at, r.who, r.sku, r.price, 'product' AS line FROM rows r
UNION ALL
SELECT min(r._row), r.ticket, min(r.at), min(r.who), 'POST', max(s.fee), 'postage'
FROM rows r JOIN fees s ON s.zone = r.zone GROUP BY r.ticket
"""
[orders.lookups.fees]
files = "fees.csv"
'''
COLUMNS = 'unit_price = "try_cast(price AS DECIMAL(9,2)) / 2"\nline_kind = "line"'


def test_a_select_over_the_file_and_its_look_ups_makes_lines_of_other_kinds(vendor):
    vendor.map(lines(UNION, more=COLUMNS))
    vendor.file(
        "lines.csv", "ticket,sku,at,who,price,zone", *("T1,cup,2024-03-01,ann,4.00,2", "short", "T1,pot,2024-03-01,ann,6.00,2")
    )
    vendor.file("fees.csv", "zone,fee", "2,5.00")
    vendor.land("orders")
    assert vendor.rows("orders", "_row", "order_id", "product_id", "unit_price", "line_kind", "_extra") == [
        (1, "T1", "POST", "2.5", "postage", {}), (1, "T1", "cup", "2.0", "product", {}),
        (2, None, None, None, None, {"_malformed": "short", "_line": "3"}), (3, "T1", "pot", "3.0", "product", {}),
    ]  # fmt: skip
    assert counts(vendor) == (4, 4, 0, 0)


@pytest.mark.parametrize(
    ("select", "says"),
    [
        ("SELECT ticket FROM rows", "orders.select must return the column _row"),
        ("SELECT * EXCLUDE (who) FROM rows", "select does not return who"),
        ("SELECT * FROM row", "orders.select: Catalog Error: Table with name row does not exist"),
        ("SELECT * FROM rows; SELECT 1", "a mapping's select must be one SELECT"),
        ("COPY rows TO 'x.csv'", "a mapping's select must be one SELECT"),
        ("SELECT r.*, t.content FROM rows r, read_text('/etc/hostname') t", "file system operations are disabled"),
        ("SELECT * REPLACE (_row + 1 AS _row) FROM rows", "orders.select returns a _row that is none of the file"),
        ("SELECT *, cast(who AS INT) AS n FROM rows", "orders.select cannot take a value"),
    ],
)
def test_a_select_that_cannot_be_used_is_one_line(vendor, select, says):
    vendor.map(lines(f'select = "{select}"'))
    vendor.file("lines.csv", "ticket,sku,at,who", "T1,cup,2024-03-01,Anna")
    with pytest.raises(UserError) as raised:
        vendor.land("orders")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "Anna" not in str(raised.value)


TWO = (
    HEAD
    + """
[[orders]]
files = "book-*.csv"
where = "kind = 'sale'"
[orders.columns]
order_id = "no"
ordered_at = "at"
quantity = "n"
[[orders]]
files = "book-*.csv"
where = "kind = 'postage'"
[orders.columns]
order_id = "no"
ordered_at = "at"
line_kind = "kind"
[[orders]]
files = "refunds.csv"
[orders.columns]
order_id = "refund"
ordered_at = "paid"
kind = "'return'"
"""
)


def test_a_table_has_the_rows_of_all_its_mappings_and_each_row_read_is_accounted_for(vendor, capsys):
    vendor.map(TWO)
    vendor.file(
        "book-1.csv",
        "no,at,n,kind",
        "1,2024-03-01 10:00:00,2,sale",
        "1,2024-03-01 10:00:00,,postage",
        "2,2024-03-01 11:00:00,1,sale",
    )
    vendor.file("refunds.csv", "refund,paid", "R1,2024-03-02 10:00:00")
    vendor.land("orders")
    rows = [
        ("book-1.csv", 1, "1", "2", None, None), ("book-1.csv", 2, "1", None, "postage", None),
        ("book-1.csv", 3, "2", "1", None, None), ("refunds.csv", 1, "R1", None, None, "return"),
    ]  # fmt: skip
    columns = ("_file", "_row", "order_id", "quantity", "line_kind", "kind")
    assert vendor.rows("orders", *columns) == rows
    assert counts(vendor) == (7, 4, 3, 0), "the rows of the book are read by two mappings"
    capsys.readouterr()
    vendor.land("orders")
    assert "2 files, all landed before" in capsys.readouterr().out
    vendor.map(TWO.replace("'return'", "'cancellation'"))
    vendor.land("orders")
    assert "1 new files of 2" in capsys.readouterr().out, "the book's mappings are the same"
    assert vendor.rows("orders", *columns) == [*rows[:3], ("refunds.csv", 1, "R1", None, None, "cancellation")]
