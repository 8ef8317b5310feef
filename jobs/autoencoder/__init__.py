"""The denoising autoencoder behind `encoded.customers`: the only home of torch."""

from datetime import date
from statistics import fmean

import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import policy
from jobs.config.settings import Settings
from jobs.errors import NotDue
from jobs.storage import models
from jobs.storage.delta import is_written, read_arrow, table_path


def run(settings: Settings, day: date, retrain: bool) -> str:
    """Train, export and promote the autoencoder of `day` when one is due, or always with `retrain`; returns its version.

    Raises NotDue while the champion of `day` is younger than `retrain_every_days`, was made under the policy of today's file,
    and the customers have not drifted away from those it was trained on; UserError as train.run does.
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
    told, since = models.meta(settings.models, held["version"]), date.fromisoformat(held["since"])
    if told.get("policy", {}).get("sha256") != policy.load_policy(settings.policy).sha256:
        return
    age, drift = (day - since).days, _drift(settings.lake, day, since, told.get("inputs", []))
    beyond = {what: psi for what, psi in drift.items() if psi > settings.train.retrain_psi}
    if beyond:
        what, psi = max(beyond.items(), key=lambda one: one[1])
        print(f"train  due: population stability index of {what} {psi:.2f}, above {settings.train.retrain_psi}", flush=True)
    elif age < every:
        raise NotDue(f"train: champion {held['version']} since {since} is {age} days old, due in {every - age} days")


def _drift(root: str, day: date, since: date, inputs: list[str]) -> dict[str, float]:
    """How far customers are from those the champion of `since` was trained on, as the checks found and in their words.

    Its features were last checked on `day`, before this training, its reconstruction errors after the encoding of a day before.
    """
    if not is_written(table_path(root, "quality.profiles")):
        return {}
    in_reign = (pc.field("day") >= pa.scalar(since)) & (pc.field("day") <= pa.scalar(day))
    rows = read_arrow(root, "quality.profiles", ["table", "day", "figures"], where=in_reign).to_pylist()
    figures = {(row["table"], row["day"]): {name: float(value) for name, value in row["figures"]} for row in rows}
    found = {}
    today = figures.get(("features.customers", day), {}) if day > since else {}
    if shifts := [today[f"psi_{name}"] for name in inputs if f"psi_{name}" in today]:
        found["features on average"] = fmean(shifts)
    before = max((d for table, d in figures if table == "encoded.customers" and d < day), default=None)
    if before and (shift := figures["encoded.customers", before].get("psi_reconstruction_error")) is not None:
        found["reconstruction errors"] = shift
    return found
