"""When the models of outcomes are fitted: the features, the training and the scores of a day all ask."""

from datetime import date

from jobs.config.outcomes import load_outcomes
from jobs.config.settings import Settings
from jobs.storage import models


def is_fit_due(settings: Settings, day: date, retrain: bool) -> bool:
    """Return whether models of outcomes are fitted on the day, because they are due or `retrain` asks for it.

    None is where conf/outcomes.toml declares no outcome.
    """
    every_days = settings.scores.outcomes_every_days
    is_due = retrain or models.is_due(settings.models, day, every_days, models.CUSTOMER_OUTCOMES)
    return is_due and bool(load_outcomes(settings.outcomes))
