"""scores.customer_values: which method is published, and what its rows say."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from jobs.config.settings import VALUES_BACKTEST_DAYS, Scores, load_settings
from jobs.quality.omissions import read_omissions
from jobs.scores import pipeline
from jobs.scores._comparison import Decision, choose_method, measure_forecast
from jobs.scores._forecasts import Forecast, mean_by_segment
from jobs.scores._inputs import ASSIGNMENTS, CUSTOMERS, read_buyers
from jobs.scores._training import prepare_champion
from jobs.scores.customer_values import HORIZONS, TABLE, score_customers
from jobs.segment_history import HISTORY
from jobs.storage import models
from jobs.storage.lake import Lake

DAY = date(2024, 6, 1)
EARLIER = DAY - timedelta(days=VALUES_BACKTEST_DAYS)
FEW = Scores(min_repeat_buyers=20)
LARGE, SMALL = "10.00", "1000.00"


def visit_at_random(n: int) -> list[list[int]]:
    """Return the purchase days of n customers, days ago, who buy at rates of their own and leave for good at some time."""
    random = np.random.default_rng(3)
    visits = []
    for rate in random.gamma(0.8, 1 / 30, n):
        began = int(random.integers(VALUES_BACKTEST_DAYS, 360))
        days = {began}
        gap = random.exponential(1 / rate)
        while began - gap > 0 and random.random() > 0.15:
            days.add(int(began - gap))
            gap += random.exponential(1 / rate)
        visits.append(sorted(days, reverse=True))
    return visits


def visit_monthly(n: int) -> list[list[int]]:
    return [list(range(330 + number % 30, 0, -30)) for number in range(n)]


def describe(customer: str, days_ago: list[int], as_of: date, spend: str) -> dict:
    """Return the row of features.customers as of a day of a customer who bought on these days."""
    days = [DAY - timedelta(days=ago) for ago in days_ago if DAY - timedelta(days=ago) <= as_of]
    recent = [day for day in days if day > as_of - timedelta(days=VALUES_BACKTEST_DAYS)]
    gaps = [(b - a).days for a, b in pairwise(days)]
    return {
        "customer_id": customer,
        "day": as_of,
        "first_order_day": days[0] if days else None,
        "last_order_day": days[-1] if days else None,
        "order_days_life": len(days),
        "order_days_90d": len(recent),
        "net_life": len(days) * Decimal(spend),
        "net_90d": len(recent) * Decimal(spend),
        "order_gap_days": float(np.mean(gaps)) if gaps else None,
        "order_gap_deviation_365d": float(np.std(gaps)) if gaps else None,
    }


@pytest.fixture
def write_shop(tmp_path):
    """Return a function that writes customers who bought on these days ago, as of days, and returns the lake and settings."""

    def write(visits: list[list[int]], as_of=(EARLIER, DAY), scores: Scores = FEW):
        lake = Lake(None, str(tmp_path / "lake"))
        rows = [
            describe(f"c{number:04}", days_ago, day, LARGE if number % 3 else SMALL)
            for day in as_of
            for number, days_ago in enumerate(visits)
        ]
        lake.replace_rows(CUSTOMERS, pa.Table.from_pylist(rows, CUSTOMERS.arrow_schema))
        segments = [{"customer_id": f"c{n:04}", "day": DAY, "segment_id": 1 + (n % 3 == 0)} for n in range(len(visits))]
        lake.replace_rows(ASSIGNMENTS, pa.Table.from_pylist(segments, ASSIGNMENTS.arrow_schema))
        (tmp_path / "outcomes.toml").write_text("")
        paths = {"models": str(tmp_path / "models"), "outcomes": str(tmp_path / "outcomes.toml")}
        settings = replace(load_settings({}), lake=lake.root, scores=scores, **paths)
        return lake, settings

    return write


def read_values(lake: Lake, day: date = DAY) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(lake.read_arrow(TABLE, days=[day]))).sort("customer_id")


def test_a_model_is_published_where_it_beats_both_plain_rules(write_shop):
    lake, settings = write_shop(visit_at_random(1500))
    pipeline.run(lake, settings, [DAY], retrain=False)
    rows, (version,) = read_values(lake), models.versions(settings.models, models.CUSTOMER_VALUES)
    meta = models.meta(settings.models, version, models.CUSTOMER_VALUES)
    assert set(rows["method"]) == {meta["method"]} <= {"bg_nbd", "mbg_nbd"}
    assert meta["reason"].endswith("is better than last_period and segment_mean in orders and money")
    figures = meta["backtest"]["figures"]
    assert figures[meta["method"]]["net_deviance_interval"][1] < figures["last_period"]["net_deviance_interval"][0]
    assert rows["p_alive"].is_between(0, 1).all()
    for shorter, longer in pairwise(HORIZONS):
        assert (rows[f"expected_orders_{shorter}d"] <= rows[f"expected_orders_{longer}d"]).all()
    by_spend = rows.with_columns(is_large=pl.Series([n % 3 == 0 for n in range(len(rows))]))
    spend = by_spend.group_by("is_large").agg(pl.col("expected_net_90d").cast(float).sum() / pl.col("expected_orders_90d").sum())
    assert dict(spend.iter_rows())[True] > 20 * dict(spend.iter_rows())[False]


def test_a_day_again_has_the_same_rows_and_the_next_day_the_same_model(write_shop):
    lake, settings = write_shop(visit_at_random(400), as_of=(EARLIER, DAY, DAY + timedelta(days=1)))
    pipeline.run(lake, settings, [DAY, DAY + timedelta(days=1)], retrain=False)
    before = read_values(lake)
    assert set(read_values(lake, DAY + timedelta(days=1))["model_version"]) == set(before["model_version"])
    pipeline.run(lake, settings, [DAY], retrain=True)
    assert read_values(lake).equals(before)
    assert len(models.versions(settings.models, models.CUSTOMER_VALUES)) == 1


@pytest.mark.parametrize(
    ("visits", "as_of", "scores", "reason"),
    [
        (visit_at_random(300), (EARLIER, DAY), Scores(min_repeat_buyers=1000), "fewer than scores.min_repeat_buyers = 1000"),
        (visit_monthly(300), (EARLIER, DAY), FEW, "order gaps vary by 0% of their mean: a rhythm like that of contracts"),
        (visit_at_random(300), (DAY,), FEW, f"not compared with what customers did since {EARLIER}: 0 customers bought on two"),
    ],
    ids=["too few repeat buyers", "a rhythm like that of contracts", "nothing known 90 days ago"],
)
def test_without_a_model_the_mean_of_the_segment_is_published(write_shop, capsys, visits, as_of, scores, reason):
    lake, settings = write_shop(visits, as_of, scores)
    pipeline.run(lake, settings, [DAY], retrain=False)
    assert reason in capsys.readouterr().out
    rows = read_values(lake)
    assert (set(rows["method"]), rows["p_alive"].null_count()) == ({"segment_mean"}, len(rows))
    buyers = read_buyers(lake, DAY)
    means = mean_by_segment(buyers)
    for segment_id in (1, 2):
        orders, net = means[segment_id]
        members = buyers.filter(pl.col("segment_id") == segment_id)["customer_id"]
        of_segment = rows.filter(pl.col("customer_id").is_in(members.implode()))
        assert of_segment["expected_orders_90d"].to_numpy() == pytest.approx(orders)
        assert of_segment["expected_net_30d"].cast(float).to_numpy() == pytest.approx(net / 3, abs=1e-4)


def test_an_earlier_day_has_the_segments_that_the_history_knows_of_it(write_shop):
    lake, _ = write_shop(visit_at_random(3))
    forever = {"customer_id": "c0000", "segment_id": 5, "valid_from": EARLIER, "valid_to": None}
    until_then = {"customer_id": "c0001", "segment_id": 6, "valid_from": EARLIER - timedelta(days=1), "valid_to": EARLIER}
    lake.replace_rows(HISTORY, pa.Table.from_pylist([forever, until_then], HISTORY.arrow_schema))
    assert dict(read_buyers(lake, EARLIER).select("customer_id", "segment_id").iter_rows()) == {
        "c0000": 5, "c0001": None, "c0002": None,
    }  # fmt: skip
    assert read_buyers(lake, DAY)["segment_id"].to_list() == [2, 1, 1]


def test_a_shop_without_orders_has_no_values_and_says_so(write_shop, capsys):
    lake, settings = write_shop([[]] * 5)
    pipeline.run(lake, settings, [DAY], retrain=False)
    omission = "no customer has an order by 2024-06-01"
    assert f"score scores.customer_values, day 2024-06-01: left out: {omission}" in capsys.readouterr().out
    assert f"scores.customer_values: {omission}" in read_omissions(lake, DAY)
    assert read_values(lake).is_empty()
    assert models.champion(settings.models, DAY, models.CUSTOMER_VALUES) is None


def test_buckets_give_the_rows_of_one_bucket(write_shop):
    lake, settings = write_shop(visit_at_random(400))
    version, model = prepare_champion(lake, settings, DAY, retrain=False)
    tables = {"customers": lake.read_arrow(CUSTOMERS, days=[DAY]), "segments": lake.read_arrow(ASSIGNMENTS, days=[DAY])}
    means = mean_by_segment(read_buyers(lake, DAY))
    whole = score_customers(tables, model, version, means)["values"]
    names = tables["customers"]["customer_id"].unique().to_pylist()
    parts = []
    for bucket in (names[::2], names[1::2]):
        is_in = {
            name: pl.DataFrame(pl.from_arrow(rows)).filter(pl.col("customer_id").is_in(bucket)) for name, rows in tables.items()
        }
        of_bucket = {name: rows.to_arrow().cast(tables[name].schema) for name, rows in is_in.items()}
        parts.append(score_customers(of_bucket, model, version, means)["values"])
    assert pa.concat_tables(parts).sort_by("customer_id").equals(whole)


def test_a_model_that_does_not_beat_a_plain_rule_is_not_published():
    random = np.random.default_rng(1)
    rates = random.gamma(2.0, 1.0, 2000)
    actual = Forecast(random.poisson(rates).astype(float), 10.0 * random.poisson(rates))
    means = Forecast(np.full(2000, actual.orders.mean()), np.full(2000, actual.net.mean()))
    true, noisy = Forecast(rates, 10 * rates), Forecast(*(forecast[::-1] for forecast in (rates, 10 * rates)))
    figures = {"last_period": measure_forecast(noisy, actual), "segment_mean": measure_forecast(means, actual)}
    best = choose_method(figures | {"bg_nbd": measure_forecast(true, actual)}, seed=1)
    assert best == Decision("bg_nbd", "bg_nbd is better than last_period and segment_mean in orders and money")
    worse = choose_method(figures | {"bg_nbd": measure_forecast(means, actual)}, seed=1)
    assert worse == Decision("segment_mean", "bg_nbd is not better in orders against segment_mean, money against segment_mean")
    assert choose_method(figures, seed=1) == Decision("segment_mean", "no model could be fitted")


def test_of_equal_models_the_one_that_lets_customers_of_one_purchase_leave_is_published():
    random = np.random.default_rng(1)
    rates = random.gamma(2.0, 1.0, 2000)
    actual = Forecast(random.poisson(rates).astype(float), 10.0 * random.poisson(rates))
    means = measure_forecast(Forecast(np.full(2000, actual.orders.mean()), np.full(2000, actual.net.mean())), actual)
    true, near = (measure_forecast(Forecast(factor * rates, factor * 10 * rates), actual) for factor in (1.0, 1.3))
    figures = {"last_period": means, "segment_mean": means, "bg_nbd": true}
    assert choose_method(figures | {"mbg_nbd": true}, seed=1).method == "mbg_nbd"
    assert choose_method(figures | {"mbg_nbd": near}, seed=1).method == "bg_nbd"


def test_the_tenths_of_a_good_forecast_are_as_large_as_they_were_expected_to_be():
    random = np.random.default_rng(2)
    rates = random.gamma(2.0, 5.0, 50_000)
    actual = Forecast(random.poisson(rates).astype(float), random.poisson(rates).astype(float))
    deciles = measure_forecast(Forecast(rates, rates), actual).deciles
    assert [forecast for forecast, _ in deciles] == sorted((forecast for forecast, _ in deciles), reverse=True)
    assert [spent for _, spent in deciles] == pytest.approx([forecast for forecast, _ in deciles], rel=0.02, abs=0.05)
