"""The denoising autoencoder behind `encoded.customers`: the only home of torch."""

from datetime import date

from jobs import models
from jobs.errors import NotDue
from jobs.settings import Settings


def run(settings: Settings, day: date, retrain: bool) -> str:
    """Train, export and promote the autoencoder of `day` when one is due, or always with `retrain`; returns its version.

    Raises NotDue while the champion of `day` is younger than `retrain_every_days`, UserError as train.run does.
    """
    if not retrain:
        _require_due(settings, day)
    from jobs.autoencoder import train  # brings torch, which takes seconds, and on most days nothing is due

    return train.run(settings, day)


def _require_due(settings: Settings, day: date) -> None:
    held = models.champion(settings.models, day)
    every = settings.train.retrain_every_days
    if held is not None:
        age = (day - date.fromisoformat(held["since"])).days
        if age < every:
            raise NotDue(f"train: champion {held['version']} since {held['since']} is {age} days old, due in {every - age} days")
