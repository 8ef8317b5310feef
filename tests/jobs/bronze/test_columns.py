"""Columns by their name: other spellings, columns that only some files have, and what is said of one that none has."""

import json

import pytest

from jobs.errors import UserError

MAPPING = """
name = "vendor"
currency = "EUR"
[orders]
files = "orders-*.csv"
file_day = '(\\d{4}-\\d{2}-\\d{2})'
[orders.columns]
order_id = "Name"
ordered_at = "`Created at`"
product_id = "upper(SKU)"
quantity = "qty"
discount_amount = "rebate"
"""
HEAD = "Name,Created at,SKU,qty,rebate"
ROW = "1,2024-03-01 10:00:00,cup,2,0.50"


def error_of(vendor, table="orders"):
    with pytest.raises(UserError) as raised:
        vendor.land(table)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_other_case_outer_blanks_and_a_byte_order_mark_are_the_same_name(vendor):
    vendor.map(MAPPING)
    vendor.file("orders-2024-03-01.csv", "\ufeffname, CREATED AT ,Sku,QTY,rebate,colour", ROW + ",red")
    vendor.land("orders")
    assert vendor.rows("orders", "order_id", "ordered_at", "product_id", "quantity", "_extra") == [
        ("1", "2024-03-01 10:00:00", "CUP", "2", {"colour": "red"})
    ]


def test_a_name_that_two_columns_could_be_is_refused(vendor):
    vendor.map(MAPPING)
    vendor.file("orders-2024-03-01.csv", HEAD.replace("qty", "QTY").replace("rebate", "Qty"), ROW)
    assert "column qty (orders) is one of 2 that differ only in case or blanks" in error_of(vendor)


def test_a_name_that_no_file_has_is_one_line_with_the_nearest_spelling(vendor):
    vendor.map(MAPPING)
    vendor.file("orders-2024-03-01.csv", HEAD.replace("Created at", "Create_at").replace("rebate", "rebates"), ROW)
    message = error_of(vendor)
    assert "2 of the 5 columns that the mapping names are missing (Created at, rebate); the file has 5 columns" in message
    assert "Did you mean 'Create_at' or 'rebates'?" in message


def test_a_column_that_another_file_has_is_null_with_one_line(vendor, capsys):
    vendor.map(MAPPING)
    for day in ("01", "02"):
        vendor.file(f"orders-2024-03-{day}.csv", HEAD.removesuffix(",rebate"), f"{day},2024-03-{day} 10:00:00,cup,2")
    vendor.file("orders-2024-03-09.csv", HEAD, ROW)
    vendor.land("orders", "2024-03-02")
    assert vendor.rows("orders", "order_id", "discount_amount") == [("01", None), ("02", None)]
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if "not in" in line]
    assert lines == ["drift bronze.orders column 'rebate' is not in orders-2024-03-01.csv and 1 more files: null there"]


def test_a_column_that_a_file_landed_before_had_is_null(vendor):
    vendor.map(MAPPING)
    vendor.file("orders-2024-03-01.csv", HEAD, ROW)
    vendor.land("orders")
    vendor.file("orders-2024-03-02.csv", HEAD.removesuffix(",rebate"), ROW.removesuffix(",0.50"))
    vendor.land("orders")
    assert vendor.rows("orders", "_file_day", "discount_amount") == [("2024-03-01", "0.50"), ("2024-03-02", None)]


def test_a_mapped_column_that_is_new_is_said_to_be_mapped(vendor, capsys):
    vendor.map(MAPPING)
    vendor.file("orders-2024-03-01.csv", HEAD.removesuffix(",rebate"), ROW.removesuffix(",0.50"))
    vendor.file("orders-2024-03-02.csv", HEAD, ROW)
    vendor.land("orders", "2024-03-02")
    assert "new column 'rebate' in orders-2024-03-02.csv: mapped" in capsys.readouterr().out


def test_a_file_that_lacks_what_every_order_needs_is_refused_unless_the_mapping_calls_it_optional(vendor):
    vendor.map(MAPPING.replace('"`Created at`"', '"coalesce(`Created at`, Paid)"'))
    vendor.file("orders-2024-03-01.csv", HEAD + ",Paid", ROW + ",")
    vendor.file("orders-2024-03-02.csv", HEAD.replace("Created at", "Paid"), ROW)
    assert "(Created at)" in error_of(vendor)
    vendor.map(
        (vendor.folder / "vendor.toml").read_text().replace("[orders.columns]", 'optional = ["Created at"]\n[orders.columns]')
    )
    vendor.land("orders")
    assert vendor.rows("orders", "_file_day", "ordered_at") == [
        ("2024-03-01", "2024-03-01 10:00:00"), ("2024-03-02", "2024-03-01 10:00:00"),
    ]  # fmt: skip


PEOPLE = """
name = "vendor"
currency = "EUR"
[orders]
files = "orders.csv"
[orders.columns]
order_id = "id"
ordered_at = "id"
[customers]
files = "people.csv"
personal = { Mail = "email", ip = "address" }
drop = ["Full_Name", "phone"]
keep = ["shirt"]
[customers.columns]
customer_id = "id"
email_key = "Mail"
"""


def test_personal_columns_are_closed_whatever_their_spelling(vendor):
    vendor.map(PEOPLE)
    vendor.file(
        "people.csv", "id,mail, IP,FULL_NAME, phone,shirt,note", "7,\u200bAnn@X.org ,10.0.0.1 ,Ann Lee,0151,red,a friend of Bo"
    )
    vendor.file("people2.csv", "id")
    vendor.land("customers")
    ((mail, extra),) = vendor.rows("customers", "email_key", "_extra")
    assert len(mail) == 64
    assert {name: len(value) for name, value in extra.items()} == {" IP": 64, "shirt": 3}
    vendor.file("people.csv", "id,Mail,ip,Full_Name,phone", "7,ann@x.org,10.0.0.1,,")
    vendor.land("customers")
    assert [row[0] for row in vendor.rows("customers", "email_key")] == [mail]
    assert vendor.rows("customers", "_extra") == [({"ip": extra[" IP"]},)]


@pytest.mark.parametrize("nobody", ["", " ", "\xa0", "-", "\u2013", "\u200b", "NULL", "n/a"])
def test_no_address_has_no_hash(vendor, nobody):
    vendor.map(PEOPLE)
    vendor.file("people.csv", "id,Mail,ip,Full_Name,phone", f"7,{nobody},{nobody},,")
    vendor.land("customers")
    assert vendor.rows("customers", "email_key", "_extra") == [(None, {})]


def test_a_personal_name_that_no_file_has_is_an_error(vendor):
    vendor.map(PEOPLE)
    vendor.file("people.csv", "id,Mail,ip,Full Name,phone", "7,ann@x.org,1,Ann,1")
    message = error_of(vendor, "customers")
    assert "1 of the 4 columns that the mapping names is missing (Full_Name)" in message
    assert "Did you mean 'Full Name'?" in message


NESTED = """
name = "vendor"
currency = "EUR"
[orders]
files = "orders.csv"
[orders.columns]
order_id = "id"
ordered_at = "id"
[customers]
files = "people.csv"
personal = { "buyer.contact.mail" = "email" }
drop = ["buyer.name"]
[customers.columns]
customer_id = "buyer.id"
email_key = "buyer.contact.mail"
country = "buyer"
"""


def test_a_personal_path_in_a_column_of_json_is_hashed_in_it(vendor):
    vendor.map(NESTED)
    buyer = {"id": 7, "name": "Ann", "Contact": [{"mail": "ANN@x.org"}], "contact": {"mail": "ann@x.org"}}
    vendor.file("people.csv", "Buyer,note", '"' + json.dumps(buyer).replace('"', '""') + '",of Ann', "Ann Lee,")
    vendor.land("customers")
    (_, customer, mail, stored, extra), (_, *others) = vendor.rows(
        "customers", "_row", "customer_id", "email_key", "country", "_extra"
    )
    assert (customer, len(mail), extra) == ("7", 64, {})
    assert json.loads(stored) == {"id": 7, "Contact": [{"mail": mail}], "contact": {"mail": mail}}
    assert (others[:2], len(others[2]), others[3]) == ([None, None], 64, {}), "what is no JSON is hashed as a whole"


def test_a_lake_keeps_the_key_of_its_hashes(vendor, monkeypatch):
    vendor.map(PEOPLE)
    vendor.file("people.csv", "id,Mail,ip,Full_Name,phone", "7,ann@x.org,,,")
    vendor.land("customers")
    vendor.file("people.csv", "id,Mail,ip,Full_Name,phone", "8,ann@x.org,,,")
    for key, says in (("another key of the tests", "is another key than the one"), ("short", "at least 16"), ("", "is not set")):
        monkeypatch.setenv("SHOAL_SECRET", key)
        assert says in error_of(vendor, "customers")
    assert vendor.rows("customers", "customer_id") == [("7",)]
    monkeypatch.setenv("SHOAL_SECRET", "a key of the tests alone")
    vendor.land("customers")
    assert vendor.rows("customers", "customer_id") == [("8",)]
