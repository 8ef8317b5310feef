"""The live model: the model that was champion before, whose segments are published until the gate decides otherwise."""

from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import pyarrow.dataset as ds
from sklearn.metrics import pairwise_distances_argmin

from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.progress import log
from jobs.representations import load_representations
from jobs.segments._sample import Sample
from jobs.segments.model_selection.backtest import Backtest, reason_without_backtest
from jobs.segments.model_selection.gate import LIVE, Candidate, davies_bouldin
from jobs.segments.model_selection.k_sweep import try_each_k
from jobs.storage import models
from jobs.storage.lake import Lake


@dataclass(frozen=True)
class LiveModel:
    """A model with published segments."""

    version: str
    representation: str
    centres: np.ndarray  # k x latent, of its segments; the dormant segment has none


def read_live_model(lake: Lake, settings: Settings, champion: dict) -> LiveModel | None:
    """Return the last other model that was champion before `champion`; None where there is none or its segments are not known."""
    entries = (entry for entry in models.champion_history(settings.models) if entry["since"] < champion["since"])
    earlier = max((e for e in entries if e["version"] != champion["version"]), key=itemgetter("since"), default=None)
    if earlier is None:
        return None
    has_centre = (ds.field("model_version") == earlier["version"]) & ds.field("center").is_valid()
    centres = [row["center"] for row in lake.read_small_table("segments.definitions", ["center"], has_centre)]
    return LiveModel(earlier["version"], earlier["representation"], np.array(centres)) if centres else None


def evaluate_live_model(
    live: LiveModel | None, settings: Settings, meta: dict, sample: Sample, common_space: np.ndarray, backtest: Backtest
) -> Candidate | None:
    """Return the live model as a candidate: its segments as they are, for the customers of today.

    `meta` is the meta.json of the new model, `sample` the customers that it is evaluated on, and `common_space` (n x d) the
    space in which the compactness of all candidates is measured. None where there is no live model. None too, with a line in
    the log, where the live model cannot encode these customers: features have changed, the vectors of a group are of another
    model, or its files are gone. It cannot be kept then.
    """
    if live is None:
        return None
    name, k = live.representation, len(live.centres)
    try:
        live_meta = models.meta(settings.models, live.version)
        if live_meta["features"] != meta["features"] or list(live_meta["attributes"]) != list(meta["attributes"]):
            raise UserError(f"models: {live.version} was trained on other features")
        encoder = load_representations(settings.models, live.version, live_meta, [name])
        (vectors,) = encoder.run(*sample.read_inputs(encoder))
        (trial,) = try_each_k(vectors, [k], settings.segment, resample_refused=True)
        shares = {}
        if reason_without_backtest(live_meta) is None:
            shares = backtest.variance_explained(live.version, live_meta, {LIVE: (name, k)})
    except UserError as error:
        log(f"gate  the live model {live.version} cannot be kept: {error}")
        return None
    labels = pairwise_distances_argmin(vectors, live.centres)
    return Candidate(LIVE, k, trial.row["stability"], davies_bouldin(common_space, labels), shares.get(LIVE))
