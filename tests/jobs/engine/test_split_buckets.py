"""A small shop of which every bucket is split again gives the rows of one bucket, in every table that a runner writes."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta

from benchmarks import equality
from jobs import steps
from jobs.config.settings import load_settings
from jobs.engine import buckets, local
from jobs.sample import writer
from jobs.storage.lake import Lake

LAST = date(2026, 3, 31)


def refresh(lake, settings):
    """Land, clean and make the features of all days but the last at once, then of the last."""
    for day in (LAST - timedelta(days=1), LAST):
        for command in ("land", "clean", "features"):
            steps.run_on_lake(lake, (command,), replace(settings, lake=lake.root), steps.Options([day]))


def test_buckets_that_are_split_again_give_the_rows_of_one_bucket(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOAL_SECRET", "a key of the tests")
    writer.write_shop(tmp_path / "input", customers=100, days=4, seed=3, last_day=LAST)
    settings = replace(load_settings({}), input=str(tmp_path / "input"), source="sample", engine="local")
    whole, split = (Lake(None, str(tmp_path / name)) for name in ("whole", "split"))
    refresh(whole, settings)
    monkeypatch.setattr(local, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))  # which starts sooner
    monkeypatch.setattr(buckets, "MIN_ROWS", 1)
    mean_rows, choose, numbers = buckets.mean_rows, buckets.choose_pieces, []
    monkeypatch.setattr(buckets, "mean_rows", lambda inputs: mean_rows(inputs) / 3)
    monkeypatch.setattr(buckets, "choose_pieces", lambda *arguments: numbers.append(choose(*arguments)) or numbers[-1])
    with equality.many_buckets(settings, tmp_path / "whole"):
        refresh(split, settings)
    tables = equality.compare_lakes(whole.root, split.root)
    assert {table: differing for table, (_, differing) in tables.items() if differing} == {}
    assert min(tables[table][0] for table in ("clean.events", "clean.sessions", "clean.orders", "features.customers")) > 10
    assert sum(number > 1 for number in numbers) > 10
