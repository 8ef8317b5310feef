"""The train step: it trains when asked to, on schedule, after a change of the policy, and after drift."""

from datetime import date
from statistics import fmean

import pyarrow as pa
import pyarrow.compute as pc

from jobs.config.policy import load_policy
from jobs.config.settings import Settings
from jobs.errors import NotDue
from jobs.garbage import without_garbage_collection
from jobs.progress import log
from jobs.storage import models
from jobs.storage.delta import is_written, read_arrow, table_path


def run(settings: Settings, day: date, retrain: bool) -> str:
    """Train, export and promote the autoencoder of `day` if training is due or `retrain` is set, and return its version.

    Raises NotDue while the champion of `day` is younger than `retrain_every_days`, was trained under today's policy file, and
    customers have not drifted from those of its training. Raises UserError as train_model does.
    """
    if not retrain:
        _require_due(settings, day)
    with without_garbage_collection():
        from jobs.autoencoder.train import train_model  # imports torch, which takes seconds; on most days training is not due

    return train_model(settings, day)


def _require_due(settings: Settings, day: date) -> None:
    champion = models.champion(settings.models, day)
    if champion is None:
        return
    meta, since = models.meta(settings.models, champion["version"]), date.fromisoformat(champion["since"])
    if meta.get("policy", {}).get("sha256") != load_policy(settings.policy).sha256:
        return
    age, drift = (day - since).days, _measure_drift(settings.lake, day, since, meta.get("inputs", []))
    drifted = {subject: psi for subject, psi in drift.items() if psi > settings.train.retrain_psi}
    if drifted:
        subject, psi = max(drifted.items(), key=lambda item: item[1])
        log(f"train  due: population stability index of {subject} {psi:.2f}, above {settings.train.retrain_psi}")
    elif age < settings.train.retrain_every_days:
        days_left = settings.train.retrain_every_days - age
        raise NotDue(f"train: champion {champion['version']} since {since} is {age} days old, due in {days_left} days")


def _measure_drift(lake: str, day: date, since: date, inputs: list[str]) -> dict[str, float]:
    """Return the population stability indices against the training customers of the champion of `since`, by subject.

    They come from quality.profiles. The features of `day` have been checked before this step. Reconstruction errors have not,
    because `day` is encoded later, so they are those of the last day before.
    """
    figures = _read_profiles(lake, since, day)
    drift = {}
    features_today = figures.get(("features.customers", day), {}) if day > since else {}
    if indices := [features_today[f"psi_{name}"] for name in inputs if f"psi_{name}" in features_today]:
        drift["features on average"] = fmean(indices)
    encoded_day = max((date_ for table, date_ in figures if table == "encoded.customers" and date_ < day), default=None)
    if encoded_day and (index := figures["encoded.customers", encoded_day].get("psi_reconstruction_error")) is not None:
        drift["reconstruction errors"] = index
    return drift


def _read_profiles(lake: str, first: date, last: date) -> dict[tuple[str, date], dict[str, float]]:
    """Return the figures of quality.profiles by table and day, from `first` to `last`."""
    if not is_written(table_path(lake, "quality.profiles")):
        return {}
    in_range = (pc.field("day") >= pa.scalar(first)) & (pc.field("day") <= pa.scalar(last))
    rows = read_arrow(lake, "quality.profiles", ["table", "day", "figures"], where=in_range).to_pylist()
    return {(row["table"], row["day"]): {name: float(value) for name, value in row["figures"]} for row in rows}
