"""The models of purchases and money: published estimates, published forecasts, and a shop whose truth is known."""

import importlib.util
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from jobs.scores._forecasts import describe_purchases
from jobs.scores._purchase_models import Histories, PurchaseModel, SpendModel, fit_purchases, fit_spend

END = date(1997, 9, 30)  # of the 39 weeks on which the published models were fitted
# (repeats, weeks from the first to the last purchase, weeks since the first)
TWICE, NEVER = (2, 30.43, 38.86), (0, 0, 38.86)


@pytest.fixture(scope="module")
def cdnow() -> pl.DataFrame:
    """The purchases of 2,357 customers of CDNOW: (customer, day, money)."""
    folder = Path(importlib.util.find_spec("lifetimes").origin).parent
    lines = (folder / "datasets" / "CDNOW_sample.txt").read_text().splitlines()
    fields = [line.split() for line in lines]
    rows = [(f[1], datetime.strptime(f[2], "%Y%m%d").date(), float(f[4])) for f in fields]  # noqa: DTZ007  a day has no zone
    return pl.DataFrame(rows, ["customer", "day", "money"], orient="row").filter(pl.col("day") <= END)


def to_histories(*rows) -> Histories:
    repeats, last, age = (np.array(column, float) for column in zip(*rows, strict=True))
    return Histories(repeats, last * 7, age * 7, np.ones(len(rows)))


def count_histories(purchases: pl.DataFrame) -> Histories:
    first, last = pl.col("day").min(), pl.col("day").max()
    by_customer = purchases.group_by("customer").agg(
        repeats=pl.col("day").n_unique() - 1, last=(last - first).dt.total_days(), age=(END - first).dt.total_days()
    )
    counts = by_customer.group_by("repeats", "last", "age").agg(customers=pl.len())
    return Histories(*(counts[name].to_numpy().astype(float) for name in Histories._fields))


def test_bg_nbd_has_the_published_estimates_of_cdnow(cdnow):
    model = fit_purchases(count_histories(cdnow), "bg_nbd")
    assert (model.r, model.alpha, model.a, model.b) == pytest.approx((0.243, 4.414, 0.793, 2.426), abs=5e-4)


def test_mbg_nbd_lets_customers_of_one_purchase_leave(cdnow):
    model = fit_purchases(count_histories(cdnow), "mbg_nbd")
    assert (model.r, model.alpha, model.a, model.b) == pytest.approx((0.525, 6.183, 0.891, 1.614), abs=2e-3)
    assert PurchaseModel("bg_nbd", 0.243, 4.414, 0.793, 2.426).probability_alive(to_histories(NEVER)) == 1
    assert model.probability_alive(to_histories(NEVER)) == pytest.approx(0.39, abs=0.005)


def test_gamma_gamma_has_the_published_estimates_of_cdnow(cdnow):
    """Published are those of the means of repeat purchases of the 946 customers who came back."""
    by_day = cdnow.group_by("customer", "day").agg(pl.col("money").sum()).sort("customer", "day")
    repeats = by_day.filter(pl.col("day") > pl.col("day").min().over("customer"))
    means = repeats.group_by("customer").agg(n=pl.len(), mean=pl.col("money").mean()).filter(pl.col("mean") > 0)
    model = fit_spend(means["n"].to_numpy().astype(float), means["mean"].to_numpy())
    assert len(means) == 946
    assert (model.p, model.q, model.v) == pytest.approx((6.25, 3.74, 15.45), rel=3e-3)


def test_forecasts_are_the_published_ones():
    model = PurchaseModel("bg_nbd", 0.243, 4.414, 0.793, 2.426)
    assert model.expected_purchases(to_histories(TWICE), 39 * 7)[0] == pytest.approx(1.226, abs=5e-4)
    assert model.probability_alive(to_histories(TWICE))[0] == pytest.approx(0.7266, abs=5e-4)
    spend = SpendModel(6.25, 3.74, 15.44).expected_spend(np.array([2.0, 0.0]), np.array([22.35, 0.0]))
    assert spend == pytest.approx([24.66, 35.2], abs=0.05)


@pytest.mark.parametrize(("name", "leaves_at_once"), [("bg_nbd", False), ("mbg_nbd", True)])
def test_expected_purchases_are_those_of_simulated_customers(name, leaves_at_once):
    """Customers of a known model: what those of a history did afterwards is what the model expects."""
    model = PurchaseModel(name, 0.8, 6.0, 1.2, 3.0)
    repeats, last, later = simulate(model, leaves_at_once, n=40_000, age=40, days=20)
    for least, most in ((0, 0), (1, 1), (2, 4)):
        rows = (repeats >= least) & (repeats <= most)
        histories = Histories(repeats[rows], last[rows] * 7, np.full(rows.sum(), 40.0 * 7), np.ones(rows.sum()))
        expected = model.expected_purchases(histories, 20 * 7).mean()
        assert later[rows].mean() == pytest.approx(expected, rel=0.05)
    fitted = fit_purchases(Histories(repeats, last * 7, np.full(len(repeats), 40.0 * 7), np.ones(len(repeats))), name)
    assert (fitted.r, fitted.alpha) == pytest.approx((model.r, model.alpha), rel=0.1)


def simulate(model: PurchaseModel, leaves_at_once: bool, n: int, age: int, days: int):
    """Return of n customers the repeats by week `age`, the week of the last of them, and the repeats in `days` more weeks."""
    random = np.random.default_rng(5)
    rate, chance = random.gamma(model.r, 1 / model.alpha, n), random.beta(model.a, model.b, n)
    is_active = ~(leaves_at_once & (random.random(n) < chance))
    time, repeats, last, later = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    while is_active.any():
        time = np.where(is_active, time + random.exponential(1, n) / rate, np.inf)
        repeats += time <= age
        last = np.where(time <= age, time, last)
        later += (time > age) & (time <= age + days)
        is_active &= (time <= age + days) & (random.random(n) >= chance)
    return repeats, last, later


def test_without_repeat_purchases_there_is_no_estimate():
    assert fit_purchases(to_histories(*[NEVER] * 50), "mbg_nbd") is None


def test_a_history_is_counted_in_days_with_an_order():
    customers = pl.DataFrame(
        {
            "day": [END] * 2,
            "first_order_day": [END - timedelta(days=30), None],
            "last_order_day": [END - timedelta(days=10), None],
            "order_days_life": [3, 0],
            "net_life": [90, 0],
            "net_90d": [-5, 0],
        }
    )
    (row,) = describe_purchases(customers).iter_rows(named=True)
    assert (row["repeats"], row["last"], row["age"], row["mean_spend"], row["recent_net"]) == (2, 20, 30, 30.0, 0.0)
