"""A small vendor whose files a test writes itself."""

import gzip
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from jobs.bronze import files, pipeline
from jobs.bronze._landing import land_files
from jobs.config.settings import load_settings
from jobs.config.source_mapping import load_source

MAPPING = """
name = "vendor"
currency = "GBP"
[events]
files = "clicks-*.csv*"
file_day = '(\\d{4}-\\d{2}-\\d{2})'
personal = { mail = "email" }
drop = ["name"]
[events.columns]
event_at = "time"
visitor_id = "device"
event_type = "lower(what)"
email_key = "mail"
[orders]
files = "orders.csv"
where = "state <> 'draft'"
[orders.columns]
order_id = "id"
ordered_at = "time"
product_id = "sku"
quantity = "n"
[products]
files = "products.csv"
[products.columns]
product_id = "sku"
price = "price"
[customers]
files = "people.csv"
[customers.columns]
customer_id = "id"
registered_at = "since"
[rates]
files = "rates.csv"
[rates.columns]
rated_on = "day"
currency = "code"
rate = "rate"
"""


class Vendor:
    """A vendor whose files a test writes and lands."""

    def __init__(self, lake, folder):
        self.lake, self.folder = lake, folder
        self.settings = replace(load_settings({}), input=str(folder), source=str(folder / "vendor.toml"))
        folder.mkdir()
        self.map(MAPPING)

    def map(self, text):
        (self.folder / "vendor.toml").write_text(text)

    def file(self, name, *lines):
        content = ("\n".join(lines) + "\n").encode()
        (self.folder / name).write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)

    def land(self, table, day="2024-03-02"):
        landed_at = datetime(2024, 3, 20, tzinfo=UTC)
        source = load_source(self.settings.source)
        landed = land_files(self.lake, self.settings, source, pipeline.TABLES[table], date.fromisoformat(day), landed_at)
        files.register_files(self.lake, source.name, {source.mappings[table]: landed}, landed_at)

    def rows(self, table, *columns):
        rows = self.lake.read(f"bronze.{table}").select(*columns).collect()
        return sorted(tuple(str(value) if isinstance(value, date) else value for value in row) for row in rows)


@pytest.fixture
def vendor(lake, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_SECRET", "of the tests")
    return Vendor(lake, tmp_path / "input")
