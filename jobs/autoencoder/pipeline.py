"""The train step: it trains when asked to, on schedule, after a change of the policy, and after drift."""

from datetime import date
from statistics import fmean

import pyarrow as pa
import pyarrow.compute as pc

from jobs import outcome_schedule
from jobs.config.policy import load_policy
from jobs.config.settings import Settings
from jobs.errors import NotDue
from jobs.garbage import without_garbage_collection
from jobs.input_groups import SEQUENCE, find_models, list_learned
from jobs.progress import log
from jobs.storage import models
from jobs.storage.delta import is_written, read_arrow, table_path


def run(settings: Settings, day: date, retrain: bool) -> str:
    """Train, export and promote the autoencoder of `day` if training is due or `retrain` is set. Return the champion.

    It is due once the champion of `day` is `retrain_every_days` old, was trained under another policy file than today's, needs
    vectors of another model than those of the day, or customers have drifted from those of its training. The networks of
    outcomes are trained on the days when the scores compare them with others. Raises NotDue where neither is due, and UserError
    as train_model does.
    """
    are_networks_due = outcome_schedule.is_fit_due(settings, day, retrain) and _has_labels(settings.lake)
    if (reason := None if retrain else _find_reason_against(settings, day)) and not are_networks_due:
        raise NotDue(reason)
    with without_garbage_collection():
        from jobs.autoencoder import outcome_networks  # imports torch, which takes seconds; on most days training is not due
        from jobs.autoencoder.train import train_model

    version = models.champion(settings.models, day)["version"] if reason else train_model(settings, day)
    if are_networks_due:
        outcome_networks.run(settings, day)
    return version


def _has_labels(lake: str) -> bool:
    from jobs.outcome_cases import has_labels  # onnxruntime takes a while; on most days no fit is due

    return has_labels(lake)


def _find_reason_against(settings: Settings, day: date) -> str | None:
    """Return in words why no training of the autoencoder is due; None where one is."""
    champion = models.champion(settings.models, day)
    if champion is None:
        return None
    meta, since = models.meta(settings.models, champion["version"]), date.fromisoformat(champion["since"])
    if meta.get("policy", {}).get("sha256") != load_policy(settings.policy).sha256:
        return None
    if foreign := _find_foreign_group(settings.lake, day, champion["representation"], meta):
        log(f"train  due: the {foreign} vectors of {day} are of another model than those that {champion['version']} needs")
        return None
    age, drift = (day - since).days, _measure_drift(settings.lake, day, since, meta.get("inputs", []))
    drifted = {subject: psi for subject, psi in drift.items() if psi > settings.train.retrain_psi}
    if drifted:
        subject, psi = max(drifted.items(), key=lambda item: item[1])
        log(f"train  due: population stability index of {subject} {psi:.2f}, above {settings.train.retrain_psi}")
    elif age < settings.train.retrain_every_days:
        days_left = settings.train.retrain_every_days - age
        return f"train: champion {champion['version']} since {since} is {age} days old, due in {days_left} days"
    return None


def _find_foreign_group(lake: str, day: date, representation: str, meta: dict) -> str | None:
    """Return a group of which the day has vectors of another model than those that the champion's representation needs."""
    groups = list_learned(meta.get("groups", {})).get(representation, ())
    stored = find_models(lake, day) if groups else {}
    foreign = (group for group in groups if group != SEQUENCE and stored.get(group, set()) - {meta["groups"][group]["model"]})
    return next(foreign, None)


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
