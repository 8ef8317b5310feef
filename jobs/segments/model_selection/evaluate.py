"""The evaluation of one model: each representation is clustered in the same way, and the gate decides what is published."""

from collections.abc import Callable
from datetime import date
from functools import cache, partial
from typing import NamedTuple

import numpy as np

from jobs.config.settings import BEST, KMEANS, Segment, Settings
from jobs.encoder import JOINT
from jobs.errors import UserError
from jobs.progress import log
from jobs.representations import BASELINES, list_learned_representations, load_representations
from jobs.segments import _inputs
from jobs.segments._sample import Sample, draw_sample, draw_vectors
from jobs.segments.model_selection.alternatives import choose_method, try_alternatives
from jobs.segments.model_selection.backtest import Backtest
from jobs.segments.model_selection.common_space import complete_groups
from jobs.segments.model_selection.gate import LIVE, Candidate, choose_representation, davies_bouldin
from jobs.segments.model_selection.k_sweep import Trial, sweep_k, try_each_k
from jobs.segments.model_selection.live_model import evaluate_live_model, read_live_model
from jobs.storage import models
from jobs.storage.lake import Lake
from jobs.storage.models import LEARNED_EMBEDDING

Spaces = dict[str, np.ndarray]  # by representation the vectors (n x d) of the sample
Sweep = Callable[[np.ndarray], list[Trial]]


class Clusterings(NamedTuple):
    """All representations in the same number of clusters."""

    k: int
    trials: dict[str, Trial]  # by representation, each with k
    sweeps: dict[str, list[Trial]]  # by representation every k, of the one by which k was chosen
    failure: str | None  # why the learned embedding cannot be clustered


def evaluate_model(lake: Lake, settings: Settings, day: date, champion: dict) -> list[dict]:
    """Return the rows of segments.candidates for the champion: by the gate, or of the representation that the settings name.

    Raises UserError where nothing can be clustered.
    """
    version, representation = champion["version"], settings.segment.representation
    _inputs.require_encoded(lake, version, day)
    if representation == BEST:
        rows, n = compare_representations(lake, settings, day, champion)
        return _add_columns(rows, version, day, n)
    vectors, live = _read_vectors(lake, settings, day, version), read_live_model(lake, settings, champion)
    live_k = len(live.centres) if live else None
    return list_candidates(vectors, version, day, settings.segment, representation, live_k)


def list_candidates(
    vectors: np.ndarray,
    version: str,
    day: date,
    segment: Segment,
    representation: str = LEARNED_EMBEDDING,
    live_k: int | None = None,
) -> list[dict]:
    """Return the rows of segments.candidates for one representation, without the gate; one of them is chosen.

    `vectors` (n x latent) are those of the sample of `day` under the model `version`; `live_k` is the number of live segments.
    Raises UserError as sweep_k() and choose_method() do.
    """
    rows = choose_method([trial.row for trial in sweep_k(vectors, day, segment, live_k)], vectors, segment)
    facts = {
        "representation": representation,
        "decision": f"segment.representation is {representation}: the gate did not compare representations",
    }
    return _add_columns([row | facts for row in rows], version, day, len(vectors))


def list_alternatives(lake: Lake, settings: Settings, chosen: dict) -> list[dict]:
    """Return the rows of segments.candidates of the other methods than K-Means, beside the row of it that was chosen."""
    version, day, representation = (chosen[name] for name in ("model_version", "day", "representation"))
    vectors = _represent_sample(lake, settings, day, version, representation)
    facts = {name: chosen[name] for name in ("representation", "decision")}
    rows = [row | facts for row in try_alternatives(vectors, chosen["k"], settings.segment)]
    return _add_columns(rows, version, day, len(vectors))


def compare_representations(lake: Lake, settings: Settings, day: date, champion: dict) -> tuple[list[dict], int]:
    """Return the rows of segments.candidates for the champion of `day`, and the number of customers in the sample.

    The rows lack the columns model_version, day and n_customers. Raises UserError where neither the learned embedding nor PCA
    can be clustered.
    """
    version, segment = champion["version"], settings.segment
    meta = models.meta(settings.models, version)
    sample = draw_sample(lake, day, meta, segment.sample)
    learned, unusable = sample.find_representable(list_learned_representations(meta), meta)
    spaces, common_space = _read_spaces(settings, version, meta, sample, [*learned, *BASELINES])
    backtest = Backtest(lake, settings, day, meta)
    live = read_live_model(lake, settings, champion)
    sweep = partial(sweep_k, day=day, segment=segment, live_k=len(live.centres) if live else None)
    clusterings = _cluster_representations(spaces, segment, sweep)
    shares = backtest.variance_explained(version, meta, {name: (name, clusterings.k) for name in clusterings.trials})
    candidates = _measure_candidates(clusterings, common_space, shares)
    evaluate_live = cache(partial(evaluate_live_model, live, settings, meta, sample, common_space, backtest))
    published, reason = choose_representation(
        [candidates[name] for name in learned if name in candidates], [candidates[name] for name in BASELINES], evaluate_live
    )
    unknown = _describe_unknown(backtest, meta, list(candidates))
    decision = "; ".join(filter(None, [f"{published}: {reason}", clusterings.failure, unusable, unknown]))
    log(f"gate  {day}  {decision}")
    if published not in (LIVE, *clusterings.sweeps):
        clusterings.sweeps[published] = sweep(spaces[published])  # segments.candidates has every k of what is published
    rows = []
    for name, candidate in candidates.items():
        rows += _list_rows(candidate, clusterings, published, spaces[name], segment)
    if published not in learned and (live_candidate := evaluate_live()):  # the gate has evaluated it
        rows.append(_measure_columns(live_candidate) | {"k": live_candidate.k, "representation": LIVE, "chosen": False})
    return [row | {"decision": decision} for row in rows], len(sample.ids)


def _cluster_representations(spaces: Spaces, segment: Segment, sweep: Sweep) -> Clusterings:
    """Choose k by the learned embedding, or by PCA where that fails, and cluster every representation with it."""
    base, failure = LEARNED_EMBEDDING, None
    try:
        sweeps = {base: sweep(spaces[base])}
    except UserError as error:
        base, failure = BASELINES[0], str(error)
        sweeps = {base: sweep(spaces[base])}
    trials = {base: next(trial for trial in sweeps[base] if trial.row["chosen"])}
    k = trials[base].row["k"]
    failed = {base} if failure is None else {base, LEARNED_EMBEDDING}
    trials |= {name: next(try_each_k(space, [k], segment)) for name, space in spaces.items() if name not in failed}
    return Clusterings(k, trials, sweeps, failure)


def _read_spaces(settings: Settings, version: str, meta: dict, sample: Sample, names: list[str]) -> tuple[Spaces, np.ndarray]:
    """Return the representations of the sample, and the common space."""
    joint, _ = sample.find_representable([JOINT] if meta.get("groups") else [], meta)
    common_name = joint[0] if joint else "features"
    encoder = load_representations(settings.models, version, meta, list(dict.fromkeys([*names, common_name])))
    spaces = dict(zip(encoder.names, encoder.run(*sample.read_inputs(encoder)), strict=True))
    common_space = complete_groups(spaces[common_name], meta["groups"] if joint else {}, settings.segment.seed)
    return {name: spaces[name] for name in names}, common_space


def _describe_unknown(backtest: Backtest, meta: dict, names: list[str]) -> str | None:
    """Return in words of which representations the variance explained is not known."""
    if backtest.missing:
        return f"variance explained is not known: {backtest.missing}"
    _, reason = backtest.find_representable(names, meta)
    return reason and f"variance explained is not known of all: {reason}"


def _measure_candidates(
    clusterings: Clusterings, common_space: np.ndarray, shares: dict[str, np.ndarray]
) -> dict[str, Candidate]:
    return {
        name: Candidate(
            name, clusterings.k, trial.row["stability"], davies_bouldin(common_space, trial.fit.labels), shares.get(name)
        )
        for name, trial in clusterings.trials.items()
    }


def _list_rows(candidate: Candidate, clusterings: Clusterings, published: str, space: np.ndarray, segment: Segment) -> list[dict]:
    """Return the rows of one representation: every k that was tried, and what choose_method adds where it is published."""
    name, trial = candidate.name, clusterings.trials[candidate.name]
    columns = _measure_columns(candidate)
    if name != published:
        columns["refused_by"] = trial.row["refused_by"] or f"gate: {published} is published"
    trials = clusterings.sweeps.get(name, [trial])
    rows = [trial.row | (columns if trial.row["k"] == clusterings.k else {}) for trial in trials]
    rows = choose_method(rows, space, segment) if name == published else [row | {"chosen": False} for row in rows]
    return [row | {"representation": name} for row in rows]


def _measure_columns(candidate: Candidate) -> dict:
    names = ("separation", "separation_low", "separation_high")
    interval = dict(zip(names, candidate.variance_explained_interval or (None,) * 3, strict=True))
    return {"stability": candidate.stability, "common_davies_bouldin": candidate.davies_bouldin} | interval


def _read_vectors(lake: Lake, settings: Settings, day: date, version: str) -> np.ndarray:
    """Return the sample of the day's customers (n x d) as the representation that the settings name."""
    representation, n = settings.segment.representation, settings.segment.sample
    if representation == LEARNED_EMBEDDING:
        return draw_vectors(_inputs.read_active(lake, version, day), n)
    return _represent_sample(lake, settings, day, version, representation)


def _represent_sample(lake: Lake, settings: Settings, day: date, version: str, representation: str) -> np.ndarray:
    """Return the sample of the day's customers (n x d) as a representation of a model."""
    meta = models.meta(settings.models, version)
    sample = draw_sample(lake, day, meta, settings.segment.sample)
    encoder = load_representations(settings.models, version, meta, [representation])
    return encoder.run(*sample.read_inputs(encoder))[0]


def _add_columns(rows: list[dict], version: str, day: date, n: int) -> list[dict]:
    return [{"method": KMEANS, "n_customers": n} | row | {"model_version": version, "day": day} for row in rows]
