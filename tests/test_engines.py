"""A small shop on both engines: land, clean, features and checks give the same rows in every table."""

from dataclasses import replace
from datetime import date, timedelta

from benchmarks import equality
from jobs import steps
from jobs.config.settings import load_settings
from jobs.sample import writer
from jobs.storage.lake import Lake

LAST = date(2026, 3, 31)


def test_spark_in_many_buckets_gives_the_rows_of_one_process(spark, tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_SECRET", "of the tests")
    writer.write_shop(tmp_path / "input", customers=60, days=5, seed=3, last_day=LAST)
    settings = replace(load_settings({}), input=str(tmp_path / "input"), source="sample")
    roots = {engine: str(tmp_path / engine) for engine in ("local", "spark")}

    refresh(Lake(None, roots["local"]), replace(settings, engine="local"))
    with equality.many_buckets(settings, tmp_path / "local"):
        refresh(Lake(Opened(spark), roots["spark"]), replace(settings, engine="spark"))

    tables = equality.compare_lakes(roots["local"], roots["spark"])
    assert {table: differing for table, (_, differing) in tables.items() if differing} == {}
    assert min(tables[table][0] for table in ("clean.events", "clean.sessions", "clean.orders", "features.customers")) > 10


class Opened:
    """A session that is open already."""

    is_begun = True

    def __init__(self, spark):
        self._spark = spark

    def begin(self):
        """It has begun."""

    def open(self):
        return self._spark


def refresh(lake, settings):
    """All days but the last at once, then the last day: it goes on from what is stored."""
    for day in (LAST - timedelta(days=1), LAST):
        for command in (("land",), ("clean",), ("check", "clean"), ("features",)):
            steps.run_on_lake(lake, command, settings, steps.Options([day]))
