"""Forecasts of what customers order and spend in the days to come, by a fitted model or by a plain rule."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple, Self

import numpy as np
import polars as pl

from jobs.config.settings import VALUES_BACKTEST_DAYS, Scores
from jobs.scores._purchase_models import MODELS, Histories, PurchaseModel, SpendModel, fit_purchases, fit_spend

LAST_PERIOD, SEGMENT_MEAN = "last_period", "segment_mean"
BASELINES = (LAST_PERIOD, SEGMENT_MEAN)
MAX_CUSTOMERS = 100_000  # that a model is fitted on, chosen by a hash: more change its numbers by less than their error
_GAPS = 3  # of a customer whose rhythm counts
_RHYTHMS = 30  # customers with a rhythm, of whom a median says something
# The columns of features.customers that forecasts are made of.
COLUMNS = (
    "customer_id", "day", "first_order_day", "last_order_day", "order_days_life", "order_days_90d", "net_life", "net_90d",
    "order_gap_days", "order_gap_deviation_365d",
)  # fmt: skip


class Forecast(NamedTuple):
    """Expected days with an order and net money of n customers."""

    orders: np.ndarray
    net: np.ndarray


# By segment, mean order days and net of the last VALUES_BACKTEST_DAYS; of all customers under None.
Means = Mapping[int | None, tuple[float, float]]


@dataclass(frozen=True)
class ValueModel:
    """What forecasts are made by: `method` is a key of MODELS or one of BASELINES; only the former has fitted models.

    Without `spend`, a customer is expected to go on spending their own mean.
    """

    method: str
    purchases: PurchaseModel | None = None
    spend: SpendModel | None = None

    def to_record(self) -> dict:
        """Return the model as JSON knows it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict) -> Self:
        """Return the model of to_record()."""
        purchases, spend = record["purchases"], record["spend"]
        return cls(record["method"], purchases and PurchaseModel(**purchases), spend and SpendModel(**spend))


def describe_purchases(customers: pl.DataFrame) -> pl.DataFrame:
    """Return customers with an order, of COLUMNS, with their history: repeats, last, age, and mean_spend of a day with orders."""
    net = pl.col("net_life").cast(pl.Float64)
    return customers.filter(pl.col("order_days_life") > 0, pl.col("first_order_day").is_not_null()).with_columns(
        repeats=pl.col("order_days_life") - 1,
        last=(pl.col("last_order_day") - pl.col("first_order_day")).dt.total_days(),
        age=(pl.col("day") - pl.col("first_order_day")).dt.total_days(),
        mean_spend=(net / pl.col("order_days_life")).clip(0),
        recent_net=pl.col("net_90d").cast(pl.Float64).clip(0),
    )


def mean_by_segment(buyers: pl.DataFrame) -> Means:
    """Return the means of describe_purchases() rows that have a segment_id, or null where it is not known."""
    figures = [pl.col("order_days_90d").mean(), pl.col("recent_net").mean()]
    means = {row[0]: row[1:] for row in buyers.drop_nulls("segment_id").group_by("segment_id").agg(figures).iter_rows()}
    return means | {None: buyers.select(figures).row(0) if len(buyers) else (0.0, 0.0)}


def fit_model(buyers: pl.DataFrame, method: str) -> ValueModel | None:
    """Return a model fitted on describe_purchases() rows; None where the likelihood of the purchases has no maximum."""
    if len(buyers) > MAX_CUSTOMERS:
        buyers = buyers.sort(pl.col("customer_id").hash(17), "customer_id").head(MAX_CUSTOMERS)
    purchases = fit_purchases(_count_histories(buyers), method)
    spenders = buyers.filter(pl.col("mean_spend") > 0).sort("customer_id")  # sums depend on the order
    if purchases is None or not len(spenders):
        return None
    spend = fit_spend(spenders["order_days_life"].to_numpy().astype(float), spenders["mean_spend"].to_numpy())
    return ValueModel(method, purchases, spend)


def find_obstacle(buyers: pl.DataFrame, settings: Scores) -> str | None:
    """Return in words why purchases of this shop cannot be modelled; None where nothing is known against it."""
    n_repeat = int((buyers["repeats"] > 0).sum())
    if n_repeat < settings.min_repeat_buyers:
        return (
            f"{n_repeat} customers bought on two days or more, fewer than scores.min_repeat_buyers = {settings.min_repeat_buyers}"
        )
    regular = buyers.filter(
        pl.col("repeats") >= _GAPS, pl.col("order_gap_days") > 0, pl.col("order_gap_deviation_365d").is_not_null()
    )
    variation = (regular["order_gap_deviation_365d"] / regular["order_gap_days"]).median()
    if len(regular) >= _RHYTHMS and variation < settings.min_gap_variation:
        return f"order gaps vary by {variation:.0%} of their mean: a rhythm like that of contracts"
    return None


def make_forecast(model: ValueModel, buyers: pl.DataFrame, days: int, means: Means) -> Forecast:
    """Return what describe_purchases() rows, which have a segment_id, are expected to do in so many days to come."""
    if model.method == LAST_PERIOD:
        orders, net = buyers["order_days_90d"].to_numpy().astype(float), buyers["recent_net"].to_numpy()
    elif model.method == SEGMENT_MEAN:
        rows = np.array([means.get(segment_id, means[None]) for segment_id in buyers["segment_id"].to_list()], float)
        orders, net = rows.reshape(-1, 2).T
    else:
        expected = _by_history(buyers, lambda histories: model.purchases.expected_purchases(histories, days))
        expected = np.minimum(expected, days)  # a day has one purchase
        spend = buyers["mean_spend"].to_numpy()
        if model.spend:
            spend = model.spend.expected_spend(buyers["order_days_life"].to_numpy(), spend)
        return Forecast(expected, expected * spend)
    return Forecast(orders * days / VALUES_BACKTEST_DAYS, net * days / VALUES_BACKTEST_DAYS)


def probability_alive(model: ValueModel, buyers: pl.DataFrame) -> np.ndarray | None:
    """Return the probability that describe_purchases() rows are active; None for a plain rule, which knows none."""
    return None if model.method not in MODELS else _by_history(buyers, model.purchases.probability_alive)


def _count_histories(buyers: pl.DataFrame) -> Histories:
    counts = buyers.group_by("repeats", "last", "age").agg(customers=pl.len()).sort("repeats", "last", "age")
    return Histories(*(counts[name].to_numpy().astype(float) for name in Histories._fields))


def _by_history(buyers: pl.DataFrame, compute: Callable[[Histories], np.ndarray]) -> np.ndarray:
    """Return what `compute` gives for the history of each row; customers of one history are computed once."""
    keys = ["repeats", "last", "age"]
    distinct = buyers.select(keys).unique(maintain_order=True)
    histories = Histories(*(distinct[name].to_numpy().astype(float) for name in keys), np.ones(len(distinct)))
    values = distinct.with_columns(value=pl.Series(compute(histories), dtype=pl.Float64))
    return buyers.select(keys).join(values, keys, "left", maintain_order="left")["value"].to_numpy()
