"""Features of days: what customers did on each day, then one row per customer as of a day, and what they are interested in."""

from datetime import date, timedelta

import pyarrow.dataset as ds

from jobs.config.settings import VALUES_BACKTEST_DAYS, Settings
from jobs.features import customer_days, customers, event_sequences, interests, item_days, outcomes, texts
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.text_models import load_text_model


def run(lake: Lake, settings: Settings, days: list[date], retrain: bool) -> None:
    """Write what customers did on `days` and on the earlier days that are due, then features.customers as of each day.

    The customers as of earlier days come first where a training on the last day needs them too, which `retrain` asks for, and
    what became of them since comes last.
    """
    text_model = load_text_model(settings, days[-1])
    customer_days.run(lake, settings, days)
    event_sequences.run(lake, settings, days)
    customers.run(lake, settings, [*backtest_days(lake, settings, days[-1], retrain), *days])
    item_days.run(lake, settings, days)
    texts.run(lake, settings, text_model, days[-1])
    interests.run(lake, settings, days, list_training_days(lake, settings, days[-1], retrain), text_model)
    outcomes.run(lake, settings, days[-1], retrain)


def backtest_days(lake: Lake, settings: Settings, day: date, retrain: bool) -> list[date]:
    """Return the earlier days whose customers a training on `day` needs too, where one is due and they are not there."""
    stored = set(lake.days(customers.TABLE.name))
    return [earlier for earlier in list_training_days(lake, settings, day, retrain) if earlier not in stored]


def list_training_days(lake: Lake, settings: Settings, day: date, retrain: bool) -> list[date]:
    """Return the earlier days that a training on `day` needs too, where one is due and anything is known by then."""
    days = set(outcomes.list_label_days(settings, day, retrain))
    if settings.train.backtest_days and (retrain or models.is_due(settings.models, day, settings.train.retrain_every_days)):
        days.add(day - timedelta(days=settings.train.backtest_days))
    if retrain or models.is_due(settings.models, day, settings.scores.retrain_every_days, models.CUSTOMER_VALUES):
        days.add(day - timedelta(days=VALUES_BACKTEST_DAYS))
    return sorted(earlier for earlier in days if _is_anything_known(lake, earlier))


def _is_anything_known(lake: Lake, day: date) -> bool:
    is_by_then = (ds.field("day") <= day) & (ds.field("identified_on") <= day) & (ds.field("known_until") > day)
    return bool(lake.count_by(customer_days.TABLE.name, ["day"], is_by_then))
