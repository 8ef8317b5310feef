"""The models of what customers are worth: when one is due, how it is chosen and fitted, and where it is kept."""

import json
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from jobs.config.settings import VALUES_BACKTEST_DAYS, Settings
from jobs.progress import log
from jobs.scores._comparison import Decision, Figures, choose_method, measure_forecast
from jobs.scores._forecasts import (
    BASELINES,
    SEGMENT_MEAN,
    Forecast,
    ValueModel,
    find_obstacle,
    fit_model,
    make_forecast,
    mean_by_segment,
)
from jobs.scores._inputs import read_buyers
from jobs.scores._purchase_models import MODELS
from jobs.scores._resampling import find_interval, resample_means
from jobs.storage import models
from jobs.storage.lake import Lake

FORMAT = 1  # raise it when the same inputs are to give another model
_FAMILY = models.CUSTOMER_VALUES


def backtest_day(day: date) -> date:
    """Return the day as of which forecasts are made that are compared with what customers did until `day`."""
    return day - timedelta(days=VALUES_BACKTEST_DAYS)


def prepare_champion(lake: Lake, settings: Settings, day: date, retrain: bool) -> tuple[str, ValueModel] | None:
    """Return the version and the model of the day's champion, fitted first where one is due; None where nobody has an order."""
    if retrain or models.is_due(settings.models, day, settings.scores.retrain_every_days, _FAMILY):
        buyers = read_buyers(lake, day)
        if len(buyers):
            _train(lake, settings, day, buyers)
    champion = models.champion(settings.models, day, _FAMILY)
    if champion is None:
        return None
    record = json.loads(models.read(settings.models, champion["version"], "model.json", _FAMILY))
    return champion["version"], ValueModel.from_record(record)


def find_obstacle_of(settings: Settings, version: str) -> str | None:
    """Return in words why a champion was not compared with plain rules; None where it was."""
    meta = models.meta(settings.models, version, _FAMILY)
    return None if meta["backtest"]["figures"] else meta["reason"]


def _train(lake: Lake, settings: Settings, day: date, buyers: pl.DataFrame) -> None:
    """Choose the method, fit it on the customers of the day, and make it champion from the day on."""
    decision, figures = _compare_methods(lake, settings, day, buyers)
    model = fit_model(buyers, decision.method) if decision.method in MODELS else ValueModel(decision.method)
    if model is None:
        decision = Decision(SEGMENT_MEAN, f"{decision.method} has no estimate on the customers of {day}")
        model = ValueModel(SEGMENT_MEAN)
    meta = {
        "day": day.isoformat(),
        "method": decision.method,
        "reason": decision.reason,
        "customers": len(buyers),
        "repeat_buyers": int((buyers["repeats"] > 0).sum()),
        "backtest": {"day": backtest_day(day).isoformat(), "figures": figures},
        "settings": asdict(settings.scores),
    }
    content = json.dumps([FORMAT, meta, model.to_record()], sort_keys=True)
    version = models.name_version(day, content)

    def write(folder: Path) -> None:
        (folder / "model.json").write_text(json.dumps(model.to_record(), indent=1))
        (folder / "meta.json").write_text(json.dumps({"version": version, **meta}, indent=1))

    models.save_champion(settings.models, version, write, day, _FAMILY, decision.method)
    log(f"score {version} is champion from {day} on: {decision.method}; {decision.reason}")


def _compare_methods(lake: Lake, settings: Settings, day: date, buyers: pl.DataFrame) -> tuple[Decision, dict]:
    """Return the decision, and the figures of each method as JSON knows them, none where the methods could not be compared."""
    if obstacle := find_obstacle(buyers, settings.scores):
        return Decision(SEGMENT_MEAN, obstacle), {}
    earlier = read_buyers(lake, backtest_day(day))
    if obstacle := find_obstacle(earlier, settings.scores):
        return Decision(SEGMENT_MEAN, f"not compared with what customers did since {backtest_day(day)}: {obstacle}"), {}
    means = mean_by_segment(earlier)
    candidates = {name: model for name in MODELS if (model := fit_model(earlier, name))}
    candidates |= {name: ValueModel(name) for name in BASELINES}
    since = buyers.select("customer_id", orders="order_days_90d", net="recent_net")
    outcomes = earlier.select("customer_id").join(since, "customer_id", "left", maintain_order="left").fill_null(0)
    actual = Forecast(outcomes["orders"].to_numpy().astype(float), outcomes["net"].to_numpy())
    forecasts = {name: make_forecast(model, earlier, VALUES_BACKTEST_DAYS, means) for name, model in candidates.items()}
    figures = {name: measure_forecast(forecast, actual) for name, forecast in forecasts.items()}
    decision = choose_method(figures, settings.scores.seed)
    for name, of_method in figures.items():
        _log_figures(name, of_method)
    return decision, {name: _to_record(of_method, settings.scores.seed) for name, of_method in figures.items()}


def _log_figures(name: str, figures: Figures) -> None:
    top_forecast, top_actual = figures.deciles[0]
    log(
        f"score {name:<14} deviance of orders {figures.orders_deviance.mean():7.4f}, money {figures.net_deviance.mean():9.3f}; "
        f"mean error {figures.orders_error:.3f} orders, {figures.net_error:,.2f}; "
        f"top tenth {top_forecast:,.2f} forecast, {top_actual:,.2f} spent"
    )


def _to_record(figures: Figures, seed: int) -> dict:
    return {
        "orders_deviance": float(np.mean(figures.orders_deviance)),
        "orders_deviance_interval": find_interval(resample_means(figures.orders_deviance, seed)),
        "net_deviance": float(np.mean(figures.net_deviance)),
        "net_deviance_interval": find_interval(resample_means(figures.net_deviance, seed)),
        "orders_error": figures.orders_error,
        "net_error": figures.net_error,
        "deciles": figures.deciles,
    }
