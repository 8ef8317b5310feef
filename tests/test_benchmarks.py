"""The parts of `make bench`: the shop that it generates, the cost that it measures, and the comparison of results."""

import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from benchmarks import measure, peer_duckdb, sizes, skew
from benchmarks.features import count_differences
from benchmarks.flow import parse_steps
from benchmarks.generator import LAST_DAY, RETURN_DAYS, Shop, write
from benchmarks.measure import Run
from benchmarks.robots import score_rules
from benchmarks.short_texts import read_headlines
from benchmarks.sizes import draw_plot, format_table
from jobs.config.source_files import find_files
from jobs.config.source_mapping import load_source

SHOP = Shop(events=40_000, days=20, customers=2_000)
SIZE = 100 * 2**20


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    write(SHOP, folder)
    return folder


def read_files(folder, kind: str, day: date = LAST_DAY) -> pa.Table:
    return pq.read_table(folder / f"{kind}-{day}.parquet")


def test_steps_and_their_seconds_are_parsed_from_the_output_of_a_refresh():
    output = """refresh 2021-01-31, log x.log
land            done         0.9 s
train           skipped      1.9 s
all                        127.2 s
  1  Small orders, one category  7,364"""
    assert parse_steps(output) == [("land", 0.9), ("train", 1.9), ("all", 127.2)]


def test_the_generated_shop_has_the_events_asked_for_each_on_the_day_of_its_file(shop):
    mappings = load_source(str(shop / "source.toml")).mappings
    assert {table: len(find_files(str(shop), mapping)) for table, (mapping,) in mappings.items()} == {
        "events": 20,
        "orders": 20,
        "products": 1,
        "customers": 20,
    }
    rows, hits = 0, set()
    for day in (LAST_DAY - timedelta(days=n) for n in range(SHOP.days)):
        events = read_files(shop, "events", day)
        assert set(pc.floor_temporal(events["at"], unit="day").cast(pa.date32()).to_pylist()) == {day}
        rows += events.num_rows
        hits |= set(events["hit"].to_pylist())
    assert SHOP.events * 0.99 < len(hits) <= SHOP.events  # events after the last midnight are missing
    assert 1.003 < rows / len(hits) < 1.007


def test_a_day_is_the_same_in_a_longer_history_and_again(shop, tmp_path):
    write(replace(SHOP, events=60_000, days=30), tmp_path, [LAST_DAY])
    for kind in ("events", "orders"):
        assert read_files(tmp_path, kind).equals(read_files(shop, kind))
    write(replace(SHOP, seed=2), tmp_path, [LAST_DAY])
    assert not read_files(tmp_path, "events").equals(read_files(shop, "events"))


def test_a_return_names_an_order_of_two_weeks_before(shop):
    returns = read_files(shop, "orders").filter(pc.field("kind") == "return")
    orders = read_files(shop, "orders", LAST_DAY - timedelta(days=RETURN_DAYS))
    assert returns.num_rows
    assert set(returns["refund_of"].to_pylist()) <= set(orders["number"].to_pylist())


def test_a_day_with_its_own_number_of_events_follows_the_history(shop, tmp_path):
    day = LAST_DAY + timedelta(days=1)
    write(SHOP, tmp_path, [day], events=8_000)
    hits = set(read_files(tmp_path, "events", day)["hit"].to_pylist())
    assert 7_800 < len(hits) < 8_100
    assert not hits & set(read_files(shop, "events")["hit"].to_pylist())


def test_one_customer_has_the_share_of_events_asked_for_on_devices_that_are_not_flagged(tmp_path):
    write(Shop(events=200_000, days=1, robot=0.05), tmp_path)
    events = read_files(tmp_path, "events")
    (robot, n_robot), (_, n_second) = Counter(user for user in events["user"].to_pylist() if user is not None).most_common(2)
    devices = Counter(v for u, v in zip(events["user"].to_pylist(), events["visitor"].to_pylist(), strict=True) if u == robot)
    assert 0.03 < n_robot / events.num_rows < 0.06  # some of the events are signed out
    assert n_second < n_robot / 20
    assert max(devices.values()) < 2_000
    hours = {
        (v, at.hour) for u, v, at in zip(*(events[c].to_pylist() for c in ("user", "visitor", "at")), strict=True) if u == robot
    }
    assert max(Counter(visitor for visitor, _ in hours).values()) < 20


def test_a_run_counts_the_memory_of_all_its_processes_and_the_seconds_of_its_steps():
    hold = f"import time; content = b'x' * {SIZE}; time.sleep(1.5)"
    hold_twice = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {hold!r}]); {hold}; child.wait()"
    run = measure.run_command(
        [sys.executable, "-c", f"print('done  check clean   2025-12-31   1.5 s  local', flush=True); {hold_twice}"], {}
    )
    assert 2 * SIZE < run.peak_bytes < 3 * SIZE
    assert run.steps == {"check clean": 1.5}
    assert 0 < run.cpu_seconds < run.seconds
    with pytest.raises(RuntimeError, match="exit code 3"):
        measure.run_command([sys.executable, "-c", "raise SystemExit(3)"], {})


def test_customers_that_differ_are_counted_by_column():
    features = pa.table({"customer_id": ["a", "b"], "orders": [1, None], "share": [0.5, None]})
    assert count_differences(features, features) == {}
    assert count_differences(features, features.set_column(2, "share", pa.array([0.5 + 1e-9, None]))) == {}
    assert count_differences(features, features.set_column(2, "share", pa.array([0.6, 0.1]))) == {"share": 2}
    assert count_differences(features, features.set_column(1, "orders", pa.array([2, None]))) == {"orders": 1}
    assert count_differences(features, features.slice(1)) == {"customer_id": 1, "orders": 1, "share": 1}


def test_costs_by_size_become_a_table_and_a_plot(tmp_path):
    run = Run(5.0, 2**30, 8.0, {"land": 1.0, "clean": 2.0, "features": 1.5})
    runs = {engine: {10: run, 100: run} for engine in ("local", "spark")}
    assert (
        format_table({"from an empty lake": runs})[2] == "| from an empty lake | local | 10 | 1.0 | 2.0 | 1.5 | 5.0 | 8 | 1.00 |"
    )
    draw_plot(runs, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


def june(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2025, 6, day, hour, minute, tzinfo=UTC)


def event_row(
    customer: str, session: str, when: datetime, kind: str, began: datetime | None = None, is_bot: bool = False
) -> dict:
    columns = {"customer_id": customer, "session_id": session, "event_at": when, "day": when.date(), "event_type": kind}
    return columns | {"event_id": f"{session}{when}", "session_started_at": began or when, "is_bot": is_bot, "device": "phone"}


def order_row(order: str, day: int, product: str, gross: int) -> dict:
    money = {"quantity": Decimal("2.0000"), "gross_amount": Decimal(gross), "discount_amount": Decimal(1)}
    return {"customer_id": "a", "order_id": order, "day": date(2025, 6, day), "product_id": product, "category": "c"} | money


def test_duckdb_makes_the_features_of_three_customers_from_clean_tables(tmp_path):
    rows = {
        "events": [
            event_row("a", "over midnight", june(9, 23, 50), "add_to_cart"),
            event_row("a", "over midnight", june(10, 0, 5), "purchase", began=june(9, 23, 50)),
            event_row("a", "long ago", june(1, 12), "add_to_cart"),
            event_row("a", "robot", june(10, 3), "view", is_bot=True),
            event_row("b", "bounce", june(10, 13), "view"),
        ],
        "orders": [order_row("o1", 10, "p", 30), order_row("o1", 10, "q", 20), order_row("o0", 1, "p", 10)],
        "returns": [
            {"customer_id": "a", "day": date(2025, 6, 10), "amount": Decimal(5), "return_order_id": "r", "return_line_no": 1}
        ],
        "customers": [{"customer_id": "c", "day": date(2025, 6, 2), "registered_at": june(2, 8)}],
    }
    for name, values in rows.items():
        by_day = ["day"] if name in ("events", "orders") else None
        write_deltalake(tmp_path / "clean" / name, pa.Table.from_pylist(values), partition_by=by_day)
    peer_duckdb.compute_features(str(tmp_path), date(2025, 6, 10), tmp_path / "out.parquet")
    a, b, c = sorted(pq.read_table(tmp_path / "out.parquet").to_pylist(), key=lambda row: row["customer_id"])
    expected = {
        "events_7d": 2, "events_30d": 3, "sessions_7d": 1, "sessions_30d": 2, "active_days_30d": 3, "abandoned_carts_30d": 1,
        "night_share_365d": 1 / 3, "bounce_share_365d": 0.5, "purchase_rate_365d": 0.5, "session_seconds_365d": 450.0,
        "orders_7d": 1, "orders_life": 2, "net_7d": 43, "net_30d": 52, "returns_90d": 1, "products_bought_365d": 2,
        "lines_per_order_365d": 1.5, "order_gap_days": 9.0, "recency_days": 0, "tenure_days": 9, "mobile_share_365d": 1.0,
    }  # fmt: skip
    assert {name: a[name] for name in expected} == pytest.approx(expected)
    assert (b["sessions_7d"], b["bounce_share_365d"], b["orders_life"], b["net_365d"]) == (1, 1.0, 0, 0)
    assert (c["tenure_days"], c["events_365d"], c["recency_days"]) == (8, 0, None)


def test_saved_runs_are_not_repeated_and_are_compared_by_step(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure, "RESULTS", [])
    for shop, seconds in ((SHOP, 10.0), (replace(SHOP, robot=skew.SHARE), 13.0)):
        folder = tmp_path / shop.name
        folder.mkdir()
        (folder / "input.done").touch()
        steps = {"land": seconds, "clean": seconds * seconds, "features": 0.1}
        for name in ("from_empty", "next_day"):
            for engine in ("local", "spark"):
                name_of_run = f"{name}_{engine}" + ("_500_0" if name == "next_day" else "")
                Run(99.0, 2**30, 150.0, steps).save(folder / f"{name_of_run}.json")
    skew.run(SHOP, tmp_path, 500)
    sizes.run(SHOP, tmp_path, 500, tmp_path / "plots" / "plot.png")
    assert [line.split()[-1] for line in measure.RESULTS] == ["met", "MISSED"] * 2
    printed = capsys.readouterr().out
    assert "features, next day, 40,000 events: a customer with 5% / none: 1.00, of 0.1 s: too short to compare" in printed
    assert "| the next day | local | 40,000 | 10.0 | 100.0 | 0.1 | 99.0 | 150 | 1.00 |" in printed
    assert (tmp_path / "plots" / "plot.png").exists()


def test_precision_and_recall_count_visitors_flagged_by_any_rule():
    planted = {"rate": {"a", "b"}, "one_hit_fleet": {"c", "d"}}
    scores = score_rules(planted, {"rate": {"a", "c", "person"}, "user_agent": {"a"}})
    assert scores == {
        "one_hit_fleet": (2, 0, 1.0, 0.5), "rate": (2, 3, 2 / 3, 0.5), "user_agent": (0, 1, 1.0, 1.0), "all": (4, 3, 2 / 3, 0.5),
    }  # fmt: skip


def test_headlines_are_the_first_lines_of_the_texts_of_a_section(tmp_path):
    for section, text in (("tech", "\nA phone\n\nIt rings."), ("sport", "A goal\nOne to nil.")):
        (tmp_path / "bbcnews/data" / section).mkdir(parents=True)
        (tmp_path / "bbcnews/data" / section / "001.txt").write_text(text)
    assert read_headlines(tmp_path) == (["A goal", "A phone"], ["sport", "tech"])
