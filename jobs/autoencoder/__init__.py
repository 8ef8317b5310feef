"""The denoising autoencoder behind `encoded.customers`: the only home of torch."""

from datetime import date

from jobs import models, policy
from jobs.errors import NotDue
from jobs.settings import Settings


def run(settings: Settings, day: date, retrain: bool) -> str:
    """Train, export and promote the autoencoder of `day` when one is due, or always with `retrain`; returns its version.

    Raises NotDue while the champion of `day` is younger than `retrain_every_days` and was made under the policy of today's
    file, UserError as train.run does.
    """
    if not retrain:
        _require_due(settings, day)
    from jobs.autoencoder import train  # brings torch, which takes seconds, and on most days nothing is due

    return train.run(settings, day)


def _require_due(settings: Settings, day: date) -> None:
    held = models.champion(settings.models, day)
    every = settings.train.retrain_every_days
    if held is None:
        return
    told = models.meta(settings.models, held["version"])
    if told.get("policy", {}).get("sha256") == policy.load(settings.policy).sha256:
        age = (day - date.fromisoformat(held["since"])).days
        if age < every:
            raise NotDue(f"train: champion {held['version']} since {held['since']} is {age} days old, due in {every - age} days")
