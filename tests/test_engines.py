"""A small shop on both engines: the same rows in every table, and a whole day on Spark up to what BI reads."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from benchmarks import equality
from jobs import flow, steps
from jobs.config.settings import HOME, load_settings
from jobs.sample import writer
from jobs.storage.lake import Lake

LAST = date(2026, 3, 31)
UNTIL_FEATURES = [step for step in flow.STEPS if step.name in ("land", "clean", "check_clean", "features", "check_features")]


class Opened:
    """A session that is open already."""

    is_begun = True

    def __init__(self, spark):
        self._spark = spark

    def begin(self, is_short=False):
        """It has begun."""

    def open(self):
        return self._spark


@pytest.fixture(scope="module")
def shop(spark, tmp_path_factory):
    """The settings and the lake of each engine. All days but the last at once, then the last: it goes on from what is stored."""
    folder = tmp_path_factory.mktemp("engines")
    writer.write_shop(folder / "input", customers=300, days=5, seed=3, last_day=LAST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOAL_SECRET", "a key of the tests alone")
        settings = replace(load_settings({}), input=str(folder / "input"), source="sample", models=str(folder / "models"))
        lakes = {"local": Lake(None, str(folder / "local")), "spark": Lake(Opened(spark), str(folder / "spark"))}
        of_engine = {engine: replace(settings, engine=engine, lake=lake.root) for engine, lake in lakes.items()}
        refresh(lakes["local"], of_engine["local"])
        with equality.many_buckets(settings, folder / "local"):
            refresh(lakes["spark"], of_engine["spark"])
        yield of_engine, lakes


def refresh(lake, settings):
    for day in (LAST - timedelta(days=1), LAST):
        for step in UNTIL_FEATURES:
            steps.run_on_lake(lake, step.command, settings, steps.Options([day]))


def test_spark_in_many_buckets_gives_the_rows_of_one_process(shop):
    _, lakes = shop
    tables = equality.compare_lakes(lakes["local"].root, lakes["spark"].root)
    assert {table: differing for table, (_, differing) in tables.items() if differing} == {}
    assert min(tables[table][0] for table in ("clean.events", "clean.sessions", "clean.orders", "features.customers")) > 10


@pytest.mark.skipif(not (HOME / ".venv" / "train").exists(), reason="the environment of the training is not set up")
def test_the_day_is_trained_encoded_segmented_and_published_on_spark(shop):
    settings, lake = (by_engine["spark"] for by_engine in shop)
    steps.train_in_own_environment(settings, LAST, retrain=False)
    for command in (("encode",), ("segment",), ("score",), ("publish",), ("check", "marts")):
        steps.run_on_lake(lake, command, settings, steps.Options([LAST]))
    (manifest,) = lake.read_small_table("marts.refreshes")
    assert (manifest["engine"], manifest["n_customers"]) == ("spark", lake.count_rows("features.customers", [LAST]))
    published = lake.read_small_table("marts.customer_segments", ["segment_id"])
    assert len(published) == manifest["n_customers"]
    assert len({row["segment_id"] for row in published}) > 1
