"""`shoal source init`: what is guessed of the files of a folder."""

import gzip
import json
import tomllib

import pytest

from jobs.__main__ import main
from jobs.config.source_mapping import load_source
from jobs.source_guess.init import guess_mapping


@pytest.fixture
def guess(tmp_path):
    """Write files, and return what the guessed mapping says and the lines that are printed."""

    def write_and_guess(**files):
        folder = tmp_path / "shop"
        folder.mkdir()
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_bytes(content.encode() if isinstance(content, str) else content)
        out = tmp_path / "mine.toml"
        text, lines = guess_mapping(str(folder), out)
        out.write_text(text)
        if {"events", "orders"} & set(tomllib.loads(text)):
            load_source(str(out))
        return tomllib.loads(text), lines

    return write_and_guess


def test_a_spreadsheet_of_another_country(guess):
    rows = "Beleg;Datum;Kundennummer;E-Mail;Name;Telefon;SKU;Menge;Price\n"
    rows += "R-1;24.12.2024 18:05;K7;zoë@x.example;Zoë Zed;+49 30 1234567;CUP;2;1.234,50\n" * 3
    mapping, _ = guess(belege__csv=rows.replace("Beleg", "Order No").encode("latin-1"))
    orders = mapping["orders"]
    assert (orders["delimiter"], orders["encoding"], orders["personal"]) == (";", "cp1252", {"E-Mail": "email"})
    assert orders["drop"] == ["Name", "Telefon"]
    columns = orders["columns"]
    assert columns["ordered_at"].startswith("try_strptime(Datum, ['%d.%m.%Y %H:%M:%S'")
    assert (columns["order_id"], columns["customer_id"], columns["email_key"]) == ("`Order No`", "Kundennummer", "`E-Mail`")
    assert (columns["quantity"], columns["unit_price"]) == ("Menge", "replace(replace(Price, '.', ''), ',', '.')")


def test_clicks_without_a_header_line(guess):
    mapping, _ = guess(
        clicks__tsv='v1\tview\t1709280000123\tmug\nv2\tbuy\t1709280001123\ta 5" lamp\nv1\tsearch\t1709280002123\t\n'
    )
    events = mapping["events"]
    assert (events["delimiter"], events["quote"]) == ("\t", "")
    assert events["header"] == ["column_1", "column_2", "column_3", "column_4"]
    assert events["columns"]["event_at"] == "from_epoch_ms(column_3)"
    assert events["columns"]["visitor_id"] == "column_1"
    assert "WHEN 'buy' THEN 'purchase'" in events["columns"]["event_type"]


def test_orders_with_a_list_of_items(guess):
    order = {
        "order_id": 7,
        "created_at": "2025-01-02T03:04:05Z",
        "customer": {"id": 9, "email": "a@x.example", "phone": "+49 30 123456"},
    }
    items = [{"sku": "mug", "quantity": 1, "price": 4.5}, {"sku": "pot", "quantity": 2, "price": 9}]
    mapping, _ = guess(orders__json__gz=gzip.compress(json.dumps([order | {"items": items}] * 3).encode()))
    orders = mapping["orders"]
    assert (orders["format"], orders["unnest"]) == ("json", "items")
    assert orders["personal"] == {"customer.email": "email"}
    assert orders["drop"] == ["customer.phone"]
    columns = orders["columns"]
    assert (columns["product_id"], columns["quantity"], columns["customer_id"]) == ("items.sku", "items.quantity", "customer.id")


HEAD = "order_no,created,customer,sku,qty,price\n"


def test_daily_files_and_orders_that_come_again(guess):
    mapping, _ = guess(
        **{
            "orders-2024-03-01__csv": HEAD + "1,2024-03-01 10:00:00,ann,mug,1,2\n",
            "orders-2024-03-02__csv": HEAD + "1,2024-03-01 10:00:00,ann,mug,0,2\n",
            "orders-people-2024-03-02__csv": "customer_id,email,signup\nann,a@x.example,2024-01-01\n",
            "rates__csv": "day,ccy,rate\n2024-03-01,USD,0.9\n",
        }
    )
    assert mapping["orders"]["files"] == "orders-[0-9]*.csv", "takes no files of people"
    assert mapping["customers"]["files"] == "orders-people-*.csv"
    assert mapping["orders"]["file_day"] == r"(\d{4}-\d{2}-\d{2})"
    assert mapping["orders"]["delivery"] == "snapshots"
    assert mapping["rates"]["columns"] == {"rated_on": "day", "currency": "ccy", "rate": "rate"}


def test_no_file_day_where_rows_are_later_than_it(guess):
    mapping, _ = guess(**{"orders-2024-03-01__csv": HEAD + "1,2024-03-02 01:00:00,ann,mug,1,2\n"})
    assert "file_day" not in mapping["orders"]


def test_a_vendors_layout_is_recognised(guess):
    header = (
        "Name,Email,Financial Status,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,Refunded Amount\n"
    )
    mapping, lines = guess(
        orders_export_1__csv=header + "#1,a@x.example,paid,2024-03-01 10:00:00 +0000,1,Mug,4.00,MUG,0.00\n",
        rates__csv="day,ccy,rate\n2024-03-01,USD,0.9\n",
    )
    assert "use SOURCE=shopify" in lines[0]
    assert mapping["name"] == "mine"
    assert set(mapping) == {"name", "currency", "orders", "rates"}


def test_what_cannot_be_guessed_is_a_comment(guess, tmp_path, capsys):
    guess(**{"notes__csv": "alpha,beta\nx,y\n"})
    assert main(["source", "init", str(tmp_path / "shop"), "--out", str(tmp_path / "new.toml")]) == 2
    assert "no file looks like events or orders" in capsys.readouterr().out
    assert "# notes.csv is left out" in (tmp_path / "new.toml").read_text()
    assert main(["source", "init", str(tmp_path / "shop"), "--out", str(tmp_path / "new.toml")]) == 2
    assert "exists; remove it" in capsys.readouterr().out
