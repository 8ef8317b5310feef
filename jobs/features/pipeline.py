"""Features of days: what customers did on each day, then one row per customer as of a day."""

from datetime import date, timedelta

import pyarrow.dataset as ds

from jobs.config.settings import Settings
from jobs.features import customer_days, customers
from jobs.storage import models
from jobs.storage.lake import Lake


def run(lake: Lake, settings: Settings, days: list[date], retrain: bool) -> None:
    """Write features.customer_days for `days` and the earlier days that are due, then features.customers as of each day.

    The customers as of an earlier day come first where a training on the last day needs them too, which `retrain` asks for.
    """
    customer_days.run(lake, settings, days)
    customers.run(lake, settings, [*backtest_days(lake, settings, days[-1], retrain), *days])


def backtest_days(lake: Lake, settings: Settings, day: date, retrain: bool) -> list[date]:
    """Return the earlier day whose customers a training on `day` needs too, where one is due and they are not there."""
    if not settings.train.backtest_days:
        return []
    champion = models.champion(settings.models, day)
    is_young = champion and (day - date.fromisoformat(champion["since"])).days < settings.train.retrain_every_days
    if is_young and not retrain:
        return []
    backtest = day - timedelta(days=settings.train.backtest_days)
    if backtest in lake.days(customers.TABLE.name):
        return []
    is_by_then = (ds.field("day") <= backtest) & (ds.field("identified_on") <= backtest) & (ds.field("known_until") > backtest)
    return [backtest] if lake.count_by(customer_days.TABLE.name, ["day"], is_by_then) else []
