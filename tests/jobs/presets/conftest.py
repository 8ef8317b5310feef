"""A vendor's files, landed and cleaned by the preset of conf/sources, in process and without Spark."""

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from jobs.bronze import files
from jobs.bronze import pipeline as bronze
from jobs.clean import pipeline as clean
from jobs.config.settings import load_settings
from jobs.config.source_mapping import load_source
from jobs.storage import delta
from jobs.storage.lake import Lake

NOW = "9999-12-31"  # until when a version of an order holds that is the newest


class Preset:
    """A preset and a folder of the vendor's files."""

    def __init__(self, lake, folder):
        self.lake, self.folder = lake, folder
        folder.mkdir()

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def refresh(self, name, landed_at=datetime(2026, 1, 1, tzinfo=UTC)):
        """Land all files and clean all of their days."""
        settings = replace(load_settings({}), engine="local", input=str(self.folder), source=name, lake=self.lake.root)
        source = load_source(name)
        last = (landed_at - timedelta(days=1)).date()
        bronze.run(self.lake, settings, last, landed_at)
        tables = [f"bronze.{table}" for table in ("events", "orders") if source.has(table)]
        clean.run(self.lake, settings, source, sorted(files.read_days(self.lake, tables)) or [last])

    def rows(self, table, *columns):
        """The values of these columns as text, sorted; of orders those of the newest version."""
        stored = delta.read_arrow(self.lake.root, table).to_pylist()
        newest = [row for row in stored if str(row.get("known_until", NOW)) == NOW]
        return sorted((tuple(_plain(row[column]) for column in columns) for row in newest), key=str)

    def nets(self, by="order_id"):
        """The net amount by order, without orders that cost nothing."""
        sums = defaultdict(float)
        for key, net in self.rows("clean.orders", by, "net_amount"):
            sums[key] += float(net)
        return {key: round(value, 2) for key, value in sums.items() if round(value, 2)}


def _plain(value):
    return value.strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else None if value is None else str(value)


@pytest.fixture
def preset(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_SECRET", "a key of the tests alone")
    return Preset(Lake(None, str(tmp_path / "lake")), tmp_path / "input")
