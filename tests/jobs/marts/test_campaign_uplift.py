"""marts.campaign_uplift: who gains from a campaign, where that beats chance."""

from datetime import timedelta

import numpy as np
import pytest

from jobs.marts import campaign_uplift, effects
from jobs.scores import holdouts
from tests.jobs.marts.campaign_shop import CAMPAIGN, EVE, FIRST, KEY, LAST, draw_orders, list_days, write_shop


def run_campaign(folder, effect: float, metric: str = "orders"):
    """Return a shop where `effect` is the probability of another order of each treated customer with an even number."""
    shop = write_shop(folder, n=3000)
    shop.declare(CAMPAIGN.replace('"orders"', f'"{metric}"'))
    holdouts.run(shop.lake, shop.settings, EVE)
    days = list_days(FIRST, LAST)
    orders = draw_orders(shop.n, len(days), 6)
    moved = (np.random.default_rng(3).random(shop.n) < effect) & (np.arange(shop.n) % 2 == 0)
    orders[5] += moved & ~shop.held_out()
    shop.act(orders, days)
    shop.know(LAST)
    effects.run(shop.lake, shop.settings, LAST)
    return shop


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SHOAL_SECRET", KEY)


def read_total(shop, day):
    return next(r for r in shop.lake.read_arrow(effects.TABLE, days=[day]).to_pylist() if r["segment_id"] is None)


@pytest.mark.parametrize(("metric", "sign"), [("orders", 1), ("churn", -1)])
def test_customers_whom_the_campaign_moves_come_first_with_their_effect(tmp_path, metric, sign):
    shop = run_campaign(tmp_path, effect=0.9, metric=metric)
    rows = shop.lake.read_arrow(campaign_uplift.TABLE).to_pylist()
    total = read_total(shop, LAST)
    assert len(rows) == 3000
    assert total["qini_low"] > 0
    assert len(total["qini_curve"]) == 10
    first = [row for row in rows if row["tenth"] <= 4]
    assert len(first) == 1200
    assert np.mean([int(row["customer_id"][1:]) % 2 == 0 for row in first]) > 0.9
    moved = [row["uplift"] for row in rows if int(row["customer_id"][1:]) % 2 == 0]
    still = [row["uplift"] for row in rows if int(row["customer_id"][1:]) % 2]
    assert sign * (np.mean(moved) - np.mean(still)) > 0.25


def test_no_customer_is_published_where_all_gain_alike_and_the_effects_say_so(tmp_path):
    shop = run_campaign(tmp_path, effect=0.0)
    total = read_total(shop, LAST)
    assert shop.lake.count_rows(campaign_uplift.TABLE.name) == 0
    assert total["qini_low"] < 0 < total["qini_high"]


def test_uplift_is_learned_once_after_the_end_and_the_same_again(tmp_path):
    shop = run_campaign(tmp_path, effect=0.9)
    rows, verdict = shop.lake.read_arrow(campaign_uplift.TABLE), read_total(shop, LAST)["qini"]
    effects.run(shop.lake, shop.settings, LAST)
    version = shop.lake.version(campaign_uplift.TABLE.name)
    assert shop.lake.read_arrow(campaign_uplift.TABLE).equals(rows)
    shop.know(LAST + timedelta(days=3))
    effects.run(shop.lake, shop.settings, LAST + timedelta(days=3))
    assert shop.lake.version(campaign_uplift.TABLE.name) == version
    assert read_total(shop, LAST + timedelta(days=3))["qini"] == verdict


def test_before_the_end_nothing_is_learned(tmp_path):
    shop = run_campaign(tmp_path, effect=0.9)
    shop.know(LAST - timedelta(days=1))
    effects.run(shop.lake, shop.settings, LAST - timedelta(days=1))
    assert read_total(shop, LAST - timedelta(days=1))["qini"] is None
