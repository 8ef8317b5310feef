"""The sample shop through landing, cleaning and features, compared with the truth that is written with it."""

import csv
import gzip
import io
import json
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow.dataset as ds
import pytest
from pyarrow import parquet

from benchmarks import equality
from jobs import flow, steps
from jobs.clean import orders
from jobs.config.settings import load_settings
from jobs.sample import customers, writer
from jobs.storage.delta import read_arrow
from jobs.storage.lake import Lake

DAYS = 8
LAST = date(2026, 3, 31)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop") / "input"
    writer.write_shop(folder, customers=300, days=DAYS, seed=3, last_day=LAST)
    return folder


@pytest.fixture(scope="module")
def printed():
    """What the steps of `refreshed` print."""
    return io.StringIO()


@pytest.fixture(scope="module")
def refreshed(shop, printed, tmp_path_factory):
    """A lake that holds the shop: all days but the last at once, then the last day."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOAL_SECRET", "a key of the tests alone")
        settings = replace(load_settings({}), input=str(shop), source="sample")
        lake = Lake(None, str(tmp_path_factory.mktemp("lake")))
        for day in (LAST - timedelta(days=1), LAST):
            for step in ("land", "clean", "features"):
                with redirect_stdout(printed):
                    steps.run_on_lake(lake, (step,), settings, steps.Options([day]))
        yield lake, settings


def truth(shop):
    return json.loads((shop / "truth" / "truth.json").read_text())


def defects(shop, kind):
    with (shop / "truth" / "defects.csv").open(newline="") as file:
        return Counter(row["rule"] for row in csv.DictReader(file) if row["file"].startswith(kind))


@pytest.mark.parametrize("table", ["events", "orders"])
def test_every_planted_defect_is_refused_by_its_rule_and_nothing_else_is(refreshed, shop, table):
    lake, _ = refreshed
    refused = lake.read_small_table(f"clean.{table}_rejects", ["rules"])
    rules = Counter(row["rules"][0] for row in refused)
    by_chance = rules.pop("double_tag", 0)  # robots and people of the shop draw the same product twice within two seconds
    assert rules == defects(shop, table)
    assert by_chance < 10


def test_exactly_the_planted_robots_and_wrong_clocks_are_marked(refreshed, shop):
    lake, _ = refreshed
    events = pl.DataFrame(pl.from_arrow(read_arrow(lake.root, "clean.events", ["visitor_id", "is_bot", "clock_skew_seconds"])))
    planted = truth(shop)
    assert set(events.filter("is_bot")["visitor_id"]) == set().union(*planted["robots"].values())
    assert events["clock_skew_seconds"].count() == planted["kept"]["clock_skew"] > 0


def test_every_row_is_accounted_for(refreshed):
    lake, _ = refreshed
    rows = [row for row in lake.read_small_table("quality.reconciliation") if row["table"].startswith("clean.")]
    assert len(rows) >= 2 * DAYS
    assert all(row["difference"] == 0 for row in rows)


def test_money_equals_the_truth_to_the_cent(refreshed, shop):
    lake, _ = refreshed
    lines = pl.DataFrame(pl.from_arrow(lake.read_arrow(orders.TABLE)))
    totals = {name: lines[f"{name}_amount"].sum() for name in ("gross", "discount", "returned", "net")}
    money = truth(shop)["money"]
    names = {"gross": "gross", "discounts": "discount", "returns": "returned", "net": "net"}
    expected = {column: Decimal(money[name]) for name, column in names.items()}
    assert totals == expected
    assert totals["gross"] - totals["discount"] - totals["returned"] == totals["net"]


def test_nothing_personal_reaches_any_file_of_the_lake_or_any_line_printed(refreshed, shop, printed):
    """Looks at every file, every column of every table, and every line that the steps print."""
    lake, _ = refreshed
    people = [
        row
        for path in shop.glob("customers-*")
        for row in csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode()))
    ]
    planted = {row[c].lower() for row in people for c in ("email", "full_name", "phone") if row[c]} | set(customers.EMAIL_DOMAINS)
    assert len(planted) > 500
    # Hashes and paths may hold them by chance.
    words = [word.lower() for word in (*customers.FIRST_NAMES, *customers.LAST_NAMES)]
    tables = set()
    for path in (p for p in Path(lake.root).rglob("*") if p.is_file()):
        content = path.read_bytes().decode("latin-1").lower()
        assert not [text for text in planted if text in content], path
        if path.suffix == ".parquet" and "_delta_log" not in path.parts:
            rows = str(parquet.read_table(path).to_pydict()).lower()
            assert not [text for text in (*planted, *words) if text in rows], path
            tables.add(".".join(path.relative_to(lake.root).parts[:2]))
    assert {"bronze.events", "bronze.customers", "clean.events_rejects", "clean.orders_rejects", "features.customers"} <= tables
    assert "bronze.events" in printed.getvalue()
    assert not [text for text in planted if text in printed.getvalue().lower()]


def test_features_equal_a_count_of_the_clean_tables_in_plain_python(refreshed):
    lake, settings = refreshed
    n_rows, different = equality.find_differences(lake, settings, [LAST])
    assert n_rows > 200
    assert not different


def test_features_of_a_day_do_not_depend_on_the_order_in_which_days_were_run(refreshed, tmp_path, monkeypatch):
    """The last day after the others equals all days at once; also after a past day is run again."""
    lake, settings = refreshed
    at_once = Lake(None, str(tmp_path / "at_once"))
    monkeypatch.setenv("SHOAL_SECRET", "a key of the tests alone")
    for step in ("land", "clean", "features"):
        steps.run_on_lake(at_once, (step,), settings, steps.Options([LAST]))
    compared = [f"clean.{table}" for table in flow.CHECKED_TABLES["clean"]] + ["features.customer_days"]
    for table in compared:
        assert rows(lake, table) == rows(at_once, table), table
    of_last = ds.field("day") == LAST
    assert rows(lake, "features.customers", of_last) == rows(at_once, "features.customers", of_last)
    steps.run_on_lake(at_once, ("clean",), settings, steps.Options([LAST - timedelta(days=5)]))
    for table in compared:
        assert rows(lake, table) == rows(at_once, table), table


def rows(lake, table, where=None):
    """The rows of a table in an order of their values."""
    return sorted(map(str, lake.read_small_table(table, where=where)))
