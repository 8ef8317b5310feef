"""A landed file that is taken out again, and one that is no longer in the input: in every later layer and in the log."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from jobs import steps
from jobs.bronze import pipeline
from jobs.config.settings import load_settings
from jobs.errors import NotDue, UserError
from jobs.storage import delta
from jobs.storage.lake import Lake

MAPPING = r"""
name = "kiosk"
currency = "EUR"
[events]
files = "clicks-*.csv"
file_day = '(\d{4}-\d{2}-\d{2})'
[events.columns]
event_at = "time"
visitor_id = "device"
event_type = "what"
[orders]
files = "orders-*.csv"
file_day = '(\d{4}-\d{2}-\d{2})'
[orders.columns]
order_id = "id"
line_no = "line"
ordered_at = "time"
updated_at = "changed"
customer_id = "customer"
product_id = "sku"
quantity = "pieces"
unit_price = "price"
[products]
files = "products-*.csv"
[products.columns]
product_id = "sku"
price = "price"
known_on = "since"
"""
ORDERS = "id,line,time,changed,customer,sku,pieces,price"
NOW = datetime(2024, 5, 9, tzinfo=UTC)


class Kiosk:
    """A shop whose files a test writes, lands and cleans."""

    def __init__(self, lake, folder):
        folder.mkdir()
        self.lake, self.folder = lake, folder
        self.settings = replace(load_settings({}), lake=lake.root, input=str(folder), source=str(folder / "kiosk.toml"))
        (folder / "kiosk.toml").write_text(MAPPING)

    def file(self, name, *lines):
        (self.folder / name).write_text("\n".join(lines) + "\n")

    def run(self, step, day):
        steps.run_on_lake(self.lake, (step,), self.settings, steps.Options([date.fromisoformat(day)]))

    def refresh(self, day):
        self.run("land", day)
        self.run("clean", day)

    def forget(self, file, table=None):
        pipeline.forget_file(self.lake, self.settings, file, table, NOW)

    def read(self, table, *columns):
        return sorted(tuple(map(str, row.values())) for row in delta.read_arrow(self.lake.root, table, list(columns)).to_pylist())

    def unaccounted(self):
        return sum(row["difference"] for row in self.lake.read_small_table("quality.reconciliation"))


@pytest.fixture
def kiosk(tmp_path):
    return Kiosk(Lake(None, str(tmp_path / "lake")), tmp_path / "input")


def write_two_days(kiosk):
    kiosk.file("orders-2024-05-01.csv", ORDERS, "11,1,2024-05-01 08:00:00,2024-05-01 08:00:00,ida,cup,3,4.00")
    kiosk.file("orders-2024-05-02.csv", ORDERS, "12,1,2024-05-01 09:00:00,2024-05-02 09:00:00,jon,cup,1,4.00",
               "13,1,2024-05-02 09:00:00,2024-05-02 09:00:00,jon,jug,1,9.00")  # fmt: skip


def test_forgetting_a_file_takes_its_rows_out_of_bronze_and_of_every_cleaned_day(kiosk):
    write_two_days(kiosk)
    kiosk.refresh("2024-05-02")
    kiosk.forget("orders-2024-05-02.csv")
    assert kiosk.read("bronze.orders", "order_id") == [("11",)]
    kiosk.refresh("2024-05-02")
    assert kiosk.read("clean.orders", "order_id", "day") == [("11", "2024-05-01")]
    assert kiosk.unaccounted() == 0
    with pytest.raises(NotDue):
        kiosk.run("clean", "2024-05-02")  # nothing is due twice


def test_a_forgotten_file_is_landed_again_only_when_its_content_is_new_or_that_is_asked_for(kiosk, capsys):
    write_two_days(kiosk)
    kiosk.refresh("2024-05-02")
    kiosk.forget("orders-2024-05-02.csv", "orders")
    (kiosk.folder / "orders-2024-05-02.csv").touch()
    kiosk.run("land", "2024-05-02")
    assert kiosk.read("bronze.orders", "order_id") == [("11",)]
    assert "1 forgotten files are in the input and not landed (orders-2024-05-02.csv)" in capsys.readouterr().out
    pipeline.remember_file(kiosk.lake, kiosk.settings, "orders-2024-05-02.csv", None)
    kiosk.refresh("2024-05-02")
    assert kiosk.read("clean.orders", "order_id") == [("11",), ("12",), ("13",)]
    kiosk.forget("orders-2024-05-02.csv")
    kiosk.file("orders-2024-05-02.csv", ORDERS, "14,1,2024-05-02 09:00:00,2024-05-02 09:00:00,jon,jug,1,9.00")
    kiosk.refresh("2024-05-02")
    assert kiosk.read("clean.orders", "order_id") == [("11",), ("14",)]


def test_forgetting_a_file_of_products_changes_what_orders_look_up(kiosk):
    write_two_days(kiosk)
    kiosk.file("products-a.csv", "sku,price,since", "cup,4.00,2024-04-01")
    kiosk.file("products-b.csv", "sku,price,since", "jug,9.00,2024-04-02")
    kiosk.refresh("2024-05-02")
    assert kiosk.read("clean.products", "product_id") == [("cup",), ("jug",)]
    kiosk.forget("products-b.csv")
    kiosk.refresh("2024-05-02")
    assert kiosk.read("clean.products", "product_id") == [("cup",)]
    kiosk.forget("products-a.csv")
    kiosk.refresh("2024-05-02")
    assert kiosk.read("clean.products", "product_id") == []


def test_a_file_that_was_never_landed_cannot_be_forgotten(kiosk):
    write_two_days(kiosk)
    kiosk.run("land", "2024-05-02")
    for file, table in (("orders.csv", None), ("orders-2024-05-01.csv", "events")):
        with pytest.raises(UserError, match=f"source forget: no file {file} of source kiosk was landed in .*bronze.events"):
            kiosk.forget(file, table)
    with pytest.raises(UserError, match=r"file orders-2024-05-01.csv is not forgotten"):
        pipeline.remember_file(kiosk.lake, kiosk.settings, "orders-2024-05-01.csv", None)


def test_a_file_that_is_no_longer_in_the_input_is_logged_and_its_rows_stay(kiosk, capsys):
    write_two_days(kiosk)
    kiosk.refresh("2024-05-02")
    assert "gone" not in capsys.readouterr().out
    (kiosk.folder / "orders-2024-05-01.csv").unlink()
    kiosk.run("land", "2024-05-02")
    assert "1 landed files are no longer in the input (orders-2024-05-01.csv)" in capsys.readouterr().out
    assert kiosk.read("bronze.orders", "order_id") == [("11",), ("12",), ("13",)]
    (kiosk.folder / "orders-2024-05-02.csv").unlink()
    kiosk.run("land", "2024-05-02")  # an empty input is a normal day once files were landed


def test_a_change_of_an_earlier_order_is_taken_up_on_a_day_without_orders_of_its_own(kiosk):
    write_two_days(kiosk)
    kiosk.refresh("2024-05-02")
    kiosk.file("orders-2024-05-03.csv", ORDERS, "11,1,2024-05-01 08:00:00,2024-05-03 08:00:00,ida,cup,1,4.00")
    kiosk.refresh("2024-05-03")
    assert ("11", "1.0000") in kiosk.read("clean.orders", "order_id", "quantity")
    assert kiosk.unaccounted() == 0


def test_a_day_without_any_news_is_not_due_and_one_before_all_data_is_an_error(kiosk):
    write_two_days(kiosk)
    kiosk.refresh("2024-05-02")
    kiosk.run("land", "2024-05-05")
    with pytest.raises(NotDue, match="clean: no data for 2024-05-05, and no earlier day changed"):
        kiosk.run("clean", "2024-05-05")
    with pytest.raises(UserError, match="no data for 2024-04-30; nothing was landed for an earlier day either"):
        kiosk.run("clean", "2024-04-30")


def test_a_kind_of_file_that_never_came_stops_no_landing_but_a_folder_without_any_does(kiosk):
    with pytest.raises(UserError, match=r"no file clicks-\*.csv \(events\), orders-\*.csv \(orders\), products-\*.csv"):
        kiosk.run("land", "2024-05-01")
    write_two_days(kiosk)
    kiosk.run("land", "2024-05-02")
    assert kiosk.read("bronze.orders", "order_id") == [("11",), ("12",), ("13",)]
