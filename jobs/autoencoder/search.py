"""Search for sizes and settings whose clusters best predict masked values (see masking.py).

Trials are kept in search.db next to the models, so a search that was killed continues. The name of the study is a hash of what
its trials have in common: customers, policy, and the settings that are not searched.
"""

import hashlib
import itertools
import json
import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import cache
from math import inf

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from torch import Tensor

from jobs.autoencoder import train
from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.customers import input_fingerprint, read_customers, sample_customers
from jobs.autoencoder.fitting import fit_autoencoder, set_threads
from jobs.autoencoder.masking import MaskedValues
from jobs.autoencoder.model import Autoencoder
from jobs.autoencoder.preprocessing import Preprocessor, preprocess_customers
from jobs.autoencoder.searched_settings import SCALING, apply_searched_settings, searchable_settings
from jobs.autoencoder.training_data import PreparedCustomers, prepare_customers
from jobs.cli.text_table import align_columns
from jobs.config.policy import load_policy
from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.progress import log
from jobs.storage import models

FORMAT = 1  # raise it when trials can no longer be compared with earlier ones
MAX_CUSTOMERS = 25_000  # more take longer and lead to much the same settings
EPOCHS_PER_REPORT = 5  # of a trial's score, by which a trial worse than the median of the others is pruned
TRIALS_BEFORE_PRUNING, EPOCHS_BEFORE_PRUNING = 5, 10

_SCALING_METHODS = ("auto", "standard", "robust", "quantile", "log1p")
SEARCH_SPACE: dict[str, BaseDistribution] = {
    "hidden": CategoricalDistribution(("64,32", "128,64", "256,128", "512,256")),
    "latent": IntDistribution(3, 24),
    "noise": FloatDistribution(0.0, 0.4, step=0.01),
    "neighbours": IntDistribution(0, 20),
    "learning_rate": FloatDistribution(0.0003, 0.005, log=True),
    "scaling": CategoricalDistribution(_SCALING_METHODS),
}
GRID: dict[str, tuple] = {
    "hidden": ("128,64", "256,128"),
    "latent": (6, 10, 16),
    "noise": (0.0, 0.1, 0.3),
    "neighbours": (0, 10),
    "learning_rate": (0.0005, 0.001, 0.003),
    "scaling": _SCALING_METHODS,
}


def run(settings: Settings, day: date, trials: int | None, minutes: float | None, sampler: str) -> dict:
    """Search on the customers of `day` until there are so many trials, or they have taken so long; earlier ones count.

    Prints all trials, best first, and writes search.json for later trainings. Returns its content {"search", "day", "trials",
    "score", "drawn_anew", "settings"}. Raises UserError as train_model does, and where nothing can be searched.
    """
    folder = models.local_root(settings.models)
    if folder is None:
        raise UserError(f"search: {settings.models} is an object store, which cannot hold search.db; search with local models")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("search: a search is one process; start it without torchrun")
    objective = Objective(settings, day)
    if not objective.defaults:
        raise UserError(f"search: none of {', '.join(SEARCH_SPACE)} has its default value; set one to its default to search it")
    folder.mkdir(parents=True, exist_ok=True)
    study = _open_study(f"sqlite:///{folder / 'search.db'}", objective.study_name)
    _log(f"{objective.study_name}: {len(_ended_trials(study))} trials so far; searches {', '.join(objective.defaults)}")
    seed = settings.train.seed
    while _is_within_budget(_ended_trials(study), trials, minutes) and _enqueue_trial(study, objective.defaults, sampler, seed):
        _run_trial(study, objective, sampler, seed)
    return _choose_settings(study, objective, settings.models)


class Objective:
    """What all trials have in common, and the score of one."""

    def __init__(self, settings: Settings, day: date):
        self._settings, self._policy = settings.train, load_policy(settings.policy)
        self._n_clusters = range(settings.segment.k_min, settings.segment.k_max + 1)
        customers = read_customers(settings.lake, day, settings.train.min_customers, settings.train.memory_share)
        self._customers, self.day = sample_customers(customers, MAX_CUSTOMERS), day.isoformat()
        set_threads(self._customers.features.size)
        searchable = searchable_settings(self._settings, self._policy)
        self.defaults = {name: _to_param(value) for name, value in searchable.items()}
        fixed = {name: value for name, value in train.weight_settings(self._settings).items() if name not in searchable}
        self.study_name = f"{day}-{self._hash_common_inputs(list(searchable), fixed)[:8]}"
        self._prepare_cached = cache(self._prepare)

    def _hash_common_inputs(self, searchable: list[str], fixed: dict) -> str:
        inputs = [FORMAT, train.FORMAT, self._customers.feature_names, searchable, fixed]
        inputs += [list(self._n_clusters), self._policy.sha256, input_fingerprint(self._customers)]
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()

    def score(self, params: dict, report: Callable[[int, float], None] = lambda *_: None, seed_offset: int = 0) -> float:
        """Return the masked value error of a network trained with these parameters; lower is better.

        `report` gets an epoch and the score at it, and may raise to end the trial. Another `seed_offset` gives other initial
        weights and masks other values.
        """
        seed = self._settings.seed + seed_offset
        settings, _ = apply_searched_settings(replace(self._settings, seed=seed), self._policy, to_settings(params))
        prepared, inputs, masked_values = self._prepare_cached(params.get(SCALING), seed)
        preprocessing = prepared.preprocessing

        def masked_value_error(model: Autoencoder) -> float:
            codes = prepared.codes[prepared.rows["validation"]]
            preprocessor = Preprocessor(preprocessing.parameters)
            return masked_values.masked_value_error(
                model.encode(inputs["train"]).cpu().numpy(),
                lambda features: model.encode(preprocess_customers(preprocessor, features, codes)).cpu().numpy(),
                self._n_clusters,
            )

        def report_score(model: Autoencoder, epochs: list[dict]) -> None:
            if len(epochs) % EPOCHS_PER_REPORT == 0:
                report(len(epochs), masked_value_error(model))

        with tempfile.TemporaryDirectory() as folder:
            no_checkpoint = CheckpointFile(folder, "search", interval_seconds=inf)
            imputations = preprocessing.imputations or [inputs["train"]]
            fitted = fit_autoencoder(
                preprocessing.parameters, imputations, inputs["validation"], settings, no_checkpoint, lambda _: None, report_score
            )
        return masked_value_error(fitted.model)

    def _prepare(self, scaling: str | None, seed: int) -> tuple[PreparedCustomers, dict[str, Tensor], MaskedValues]:
        """Return what trials with the same scaling and seed share."""
        _, policy = apply_searched_settings(self._settings, self._policy, {SCALING: scaling} if scaling else {})
        prepared = prepare_customers(self._customers, self._settings, policy)
        features = {split: self._customers.features[prepared.rows[split]] for split in ("train", "validation")}
        masked_values = MaskedValues(features["train"], features["validation"], seed)
        return prepared, {split: prepared.inputs(split) for split in features}, masked_values


def to_settings(params: dict) -> dict:
    """Return a trial's parameters as settings: the widths are text in Optuna and a list in the settings."""
    widths = {"hidden": [int(width) for width in params["hidden"].split(",")]} if "hidden" in params else {}
    return params | widths


def _to_param(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def _open_study(storage: str, name: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.MedianPruner(TRIALS_BEFORE_PRUNING, EPOCHS_BEFORE_PRUNING)
    study = optuna.create_study(storage=storage, study_name=name, pruner=pruner, load_if_exists=True)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):  # of a search that was killed
        study.tell(trial.number, state=TrialState.FAIL)  # it does not count, and the next trial gets the same parameters
    return study


def _ended_trials(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _is_within_budget(ended: list[FrozenTrial], trials: int | None, minutes: float | None) -> bool:
    if minutes is None:
        return len(ended) < trials
    return sum(trial.duration.total_seconds() for trial in ended) < 60 * minutes


def _enqueue_trial(study: optuna.Study, defaults: dict, sampler: str, seed: int) -> bool:
    """Enqueue the next trial, unless one waits or the sampler chooses it; return whether there is one."""
    if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        return True
    tried = [trial.params for trial in _ended_trials(study)]
    if not tried:
        study.enqueue_trial(defaults)
    elif sampler == "grid":
        grid = [dict(zip(defaults, values, strict=True)) for values in itertools.product(*(GRID[name] for name in defaults))]
        random.Random(seed).shuffle(grid)  # noqa: S311 - not for security: any part of the grid is then a random sample of it
        untried = [params for params in grid if params not in tried]
        if not untried:
            return False
        study.enqueue_trial(untried[0])
    return True


def _run_trial(study: optuna.Study, objective: Objective, sampler: str, seed: int) -> None:
    """Run the trial that waits, or else one that the sampler chooses."""
    sampler_class = optuna.samplers.TPESampler if sampler == "tpe" else optuna.samplers.RandomSampler
    # a new sampler for each trial, so that a search that was killed continues as if it had not been
    study.sampler = sampler_class(seed=seed + len(_ended_trials(study)))
    trial = study.ask({name: SEARCH_SPACE[name] for name in objective.defaults})

    def report(epoch: int, score: float) -> None:
        trial.report(score, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        score = objective.score(trial.params, report)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except UserError:  # the loss is not a number, because the learning rate is too high
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, score)
    number, score, seconds, *_ = _format_trial(study.trials[trial.number], [])
    _log(f"trial {number}  {score}  {seconds} s")


def _choose_settings(study: optuna.Study, objective: Objective, models_root: str) -> dict:
    """Print all trials, choose between the best one and the defaults, write search.json, and return its content."""
    ended = sorted(_ended_trials(study), key=lambda trial: (trial.state != TrialState.COMPLETE, _score(trial), trial.number))
    if not ended or ended[0].state != TrialState.COMPLETE:
        raise UserError("search: no trial was completed; allow more trials or minutes")
    names, best = list(objective.defaults), ended[0]
    table = [["trial", "score", "seconds", *names], *(_format_trial(trial, names) for trial in ended)]
    print("\n".join(align_columns(table, left=set())))
    scores = _compare_with_defaults(best, objective)
    params = best.params if scores and scores["best"] < scores["defaults"] else objective.defaults
    search = {
        "search": objective.study_name,
        "day": objective.day,
        "trials": len(ended),
        "score": _score(best),
        "drawn_anew": scores,
        "settings": to_settings(params),
    }
    models.write_search(models_root, search)
    if params == objective.defaults:
        _log("the defaults are kept")
    else:
        _log(f"trial {best.number} is better; later trainings use its settings wherever yours are the defaults")
    return search


def _compare_with_defaults(best: FrozenTrial, objective: Objective) -> dict[str, float]:
    """Return the scores of the best trial and of the defaults with another seed; none if the best trial is the defaults.

    The best of many trials is also the luckiest one, so it has to be better than the defaults once more.
    """
    if best.params == objective.defaults:
        return {}
    scores = {
        "best": objective.score(best.params, seed_offset=1),
        "defaults": objective.score(objective.defaults, seed_offset=1),
    }
    _log(f"with another seed, trial {best.number} has {scores['best']:.4f} and the defaults {scores['defaults']:.4f}")
    return scores


def _score(trial: FrozenTrial) -> float:
    return inf if trial.value is None else trial.value


def _format_trial(trial: FrozenTrial, names: list[str]) -> list[str]:
    """Return number, score, seconds and these parameters as text.

    >>> latent = {"latent": SEARCH_SPACE["latent"]}
    >>> trial = optuna.trial.create_trial(value=0.51234, params={"latent": 10}, distributions=latent)
    >>> _format_trial(trial, ["latent"])
    ['-1', '0.5123', '0', '10']
    """
    score = f"{trial.value:.4f}" if trial.value is not None else "no number"
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        score = f"{score} at epoch {max(trial.intermediate_values)}"
    params = (trial.params[name] for name in names)
    cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in params]
    return [str(trial.number), score, f"{trial.duration.total_seconds():.0f}", *cells]


def _log(text: str) -> None:
    log(f"search  {text}")
