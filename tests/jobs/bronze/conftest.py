"""A small vendor whose files a test writes itself."""

import gzip
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from jobs.bronze import files, pipeline
from jobs.config.settings import load_settings
from jobs.config.source_mapping import load_source
from jobs.storage import delta
from jobs.storage.lake import Lake

MAPPING = """
name = "vendor"
currency = "GBP"
[events]
files = "clicks-*.csv*"
file_day = '(\\d{4}-\\d{2}-\\d{2})'
personal = { mail = "email" }
drop = ["name"]
keep = ["colour"]
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

LANDED_AT = datetime(2024, 3, 20, tzinfo=UTC)


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
        source = load_source(self.settings.source)
        landed = pipeline.land_tables(self.lake, self.settings, source, [table], date.fromisoformat(day), LANDED_AT)
        files.register_files(self.lake, source.name, landed, LANDED_AT)

    def rows(self, table, *columns):
        """The values of these columns, in the order of the rows."""
        stored = delta.read_arrow(self.lake.root, f"bronze.{table}", list(columns)).to_pylist()
        return sorted(tuple(_plain(row[column]) for column in columns) for row in stored)


def _plain(value):
    return str(value) if isinstance(value, date) else dict(value) if isinstance(value, list) else value


@pytest.fixture
def lake(tmp_path):
    """An empty lake without a Spark session."""
    return Lake(None, str(tmp_path / "lake"))


@pytest.fixture
def vendor(lake, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_SECRET", "a key of the tests alone")
    return Vendor(lake, tmp_path / "input")
