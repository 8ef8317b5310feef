"""Search for the sizes and settings whose clusters tell most of what they were not shown (see hiding.py).

Trials are kept in search.db beside the models, so a search that was killed goes on where it stood. The study of a search has
the name of what its trials have in common: customers, policy and the settings that are not searched.
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

from jobs.autoencoder import data, preprocessing, train, winner
from jobs.autoencoder.checkpoints import Checkpoints
from jobs.autoencoder.hiding import Hidden
from jobs.autoencoder.model import Autoencoder
from jobs.cli.text_table import align_columns
from jobs.config import policy
from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.storage import models

FORMAT = 1  # raise it when trials can no longer be compared with earlier ones
CUSTOMERS = 25_000  # more take longer, and choose much the same
EPOCHS_PER_LOOK = 5  # at the score, to end a trial that is worse than half of the others were by then
TRIALS_BEFORE_PRUNING, EPOCHS_BEFORE_PRUNING = 5, 10

_SCALINGS = ("auto", "standard", "robust", "quantile", "log1p")
SPACE: dict[str, BaseDistribution] = {
    "hidden": CategoricalDistribution(("64,32", "128,64", "256,128", "512,256")),
    "latent": IntDistribution(3, 24),
    "noise": FloatDistribution(0.0, 0.4, step=0.01),
    "neighbours": IntDistribution(0, 20),
    "learning_rate": FloatDistribution(0.0003, 0.005, log=True),
    "scaling": CategoricalDistribution(_SCALINGS),
}
GRID: dict[str, tuple] = {
    "hidden": ("128,64", "256,128"),
    "latent": (6, 10, 16),
    "noise": (0.0, 0.1, 0.3),
    "neighbours": (0, 10),
    "learning_rate": (0.0005, 0.001, 0.003),
    "scaling": _SCALINGS,
}


def run(settings: Settings, day: date, trials: int | None, minutes: float | None, sampler: str) -> dict:
    """Search on the customers of `day` until there are so many trials, or they have taken so long; earlier ones count.

    Prints all trials, best first, and keeps the winner for trainings to come; returns it as {"search", "day", "trials",
    "score", "drawn_anew", "settings"}. Raises UserError as train.run does, and where nothing can be searched.
    """
    place = models.local_root(settings.models)
    if place is None:
        raise UserError(f"search: {settings.models} is an object store, which cannot hold search.db; search with local models")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("search: a search is one process; start it without torchrun")
    objective = _Objective(settings, day)
    if not objective.defaults:
        raise UserError(f"search: {', '.join(SPACE)} have all been set; give one its default back, and it is searched")
    place.mkdir(parents=True, exist_ok=True)
    study = _study(f"sqlite:///{place / 'search.db'}", objective.name)
    _say(f"{objective.name}: {len(_ended(study))} trials are there; searches {', '.join(objective.defaults)}")
    seed = settings.train.seed
    while _goes_on(_ended(study), trials, minutes) and _has_next(study, objective.defaults, sampler, seed):
        _try(study, objective, sampler, seed)
    return _end(study, objective, settings.models)


class _Objective:
    """What all trials have in common, and the score of one."""

    def __init__(self, settings: Settings, day: date):
        self._settings, self._rules = settings.train, policy.load_policy(settings.policy)
        self._clusters = range(settings.segment.k_min, settings.segment.k_max + 1)
        customers = data.read(settings.lake, day, settings.train.min_customers, settings.train.memory_share)
        self._customers, self.day = data.some(customers, CUSTOMERS), day.isoformat()
        train.set_threads(self._customers.matrix.size)
        free = winner.defaults(self._settings, self._rules)
        self.defaults = {name: _words(value) for name, value in free.items()}  # of what is searched
        fixed = {name: value for name, value in train.learned_by(self._settings).items() if name not in free}
        common = [FORMAT, train.FORMAT, customers.names, list(free), fixed, list(self._clusters), self._rules.sha256]
        common.append(data.fingerprint(self._customers))
        self.name = f"{day}-{hashlib.sha256(json.dumps(common).encode()).hexdigest()[:8]}"
        self._prepared = cache(self._prepare)

    def score(self, chosen: dict, look: Callable[[int, float], None] = lambda *_: None, draw: int = 0) -> float:
        """Of a network trained with `chosen`; `look` gets the epoch and the score by then, and may end it.

        Another `draw` begins with other weights and hides other values.
        """
        seed = self._settings.seed + draw
        made, _ = winner.applied(replace(self._settings, seed=seed), self._rules, as_settings(chosen))
        prepared, scaled, hidden = self._prepared(chosen.get(winner.SCALING), seed)

        def unexplained(model: Autoencoder) -> float:
            coded = prepared.coded[prepared.rows["validation"]]
            preprocess = preprocessing.Preprocess(prepared.fitted.numbers)
            return hidden.unexplained(
                model.encode(scaled["train"]).cpu().numpy(),
                lambda matrix: model.encode(preprocessing.apply(preprocess, matrix, coded)).cpu().numpy(),
                self._clusters,
            )

        def after_epoch(model: Autoencoder, epochs: list[dict]) -> None:
            if len(epochs) % EPOCHS_PER_LOOK == 0:
                look(len(epochs), unexplained(model))

        with tempfile.TemporaryDirectory() as nowhere:
            never = Checkpoints(nowhere, "search", seconds=inf)
            draws = prepared.fitted.draws or [scaled["train"]]
            learned = train.learn(prepared.fitted.numbers, draws, scaled["validation"], made, never, lambda _: None, after_epoch)
        return unexplained(learned.model)

    def _prepare(self, scaling: str | None, seed: int) -> tuple[train.Prepared, dict[str, Tensor], Hidden]:
        _, rules = winner.applied(self._settings, self._rules, {winner.SCALING: scaling} if scaling else {})
        prepared = train.prepare(self._customers, self._settings, rules)
        rows = prepared.rows
        hidden = Hidden(self._customers.matrix[rows["train"]], self._customers.matrix[rows["validation"]], seed)
        return prepared, {share: prepared.scaled(rows[share]) for share in ("train", "validation")}, hidden


def as_settings(chosen: dict) -> dict:
    """What winner.applied takes, of a trial's parameters."""
    widths = {"hidden": [int(width) for width in chosen["hidden"].split(",")]} if "hidden" in chosen else {}
    return chosen | widths


def _words(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def _study(storage: str, name: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.MedianPruner(TRIALS_BEFORE_PRUNING, EPOCHS_BEFORE_PRUNING)
    study = optuna.create_study(storage=storage, study_name=name, pruner=pruner, load_if_exists=True)
    for killed in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(killed.number, state=TrialState.FAIL)  # it does not count, and the next one has the same parameters
    return study


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _goes_on(ended: list[FrozenTrial], trials: int | None, minutes: float | None) -> bool:
    if minutes is None:
        return len(ended) < trials
    return sum(trial.duration.total_seconds() for trial in ended) < 60 * minutes


def _has_next(study: optuna.Study, defaults: dict, sampler: str, seed: int) -> bool:
    """Put the next trial in line, unless one waits or the sampler chooses it; whether there is one."""
    if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        return True
    tried = [trial.params for trial in _ended(study)]
    if not tried:
        study.enqueue_trial(defaults)
    elif sampler == "grid":
        grid = [dict(zip(defaults, values, strict=True)) for values in itertools.product(*(GRID[name] for name in defaults))]
        random.Random(seed).shuffle(grid)  # noqa: S311 - no secret; a part of the grid shall say something of all
        left = [one for one in grid if one not in tried]
        if not left:
            return False
        study.enqueue_trial(left[0])
    return True


def _try(study: optuna.Study, objective: _Objective, sampler: str, seed: int) -> None:
    """Run one trial: the one that waits, else one that the sampler chooses."""
    made = optuna.samplers.TPESampler if sampler == "tpe" else optuna.samplers.RandomSampler
    study.sampler = made(seed=seed + len(_ended(study)))  # anew for each, so that a killed search goes on as if it had not been
    trial = study.ask({name: SPACE[name] for name in objective.defaults})

    def look(epoch: int, score: float) -> None:
        trial.report(score, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        score = objective.score(trial.params, look)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except UserError:  # the loss is no number: a learning rate too high
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, score)
    number, score, seconds, *_ = _cells(study.trials[trial.number], [])
    _say(f"trial {number}  {score}  {seconds} s")


def _end(study: optuna.Study, objective: _Objective, root: str) -> dict:
    """Prints all trials and keeps the winner."""
    ended = sorted(_ended(study), key=lambda trial: (trial.state != TrialState.COMPLETE, _score(trial), trial.number))
    if not ended or ended[0].state != TrialState.COMPLETE:
        raise UserError("search: no trial came to its end; allow more trials or minutes")
    names = list(objective.defaults)
    print(
        "\n".join(align_columns([["trial", "score", "seconds", *names], *(_cells(trial, names) for trial in ended)], left=set()))
    )
    best, chosen, again = ended[0], objective.defaults, {}
    if best.params != objective.defaults:
        # The best of many is the luckiest too: it has to be better than the defaults once more.
        again = {"best": objective.score(best.params, draw=1), "defaults": objective.score(objective.defaults, draw=1)}
        _say(f"drawn anew, trial {best.number} has {again['best']:.4f} and the defaults {again['defaults']:.4f}")
        chosen = best.params if again["best"] < again["defaults"] else objective.defaults
    found = {
        "search": objective.name,
        "day": objective.day,
        "trials": len(ended),
        "score": _score(best),
        "drawn_anew": again,
        "settings": as_settings(chosen),
    }
    models.write_search(root, found)
    _say(
        "the defaults stay"
        if chosen == objective.defaults
        else f"trial {best.number} wins; later trainings take its settings over wherever yours are the defaults"
    )
    return found


def _score(trial: FrozenTrial) -> float:
    return inf if trial.value is None else trial.value


def _cells(trial: FrozenTrial, names: list[str]) -> list[str]:
    """
    >>> trial = optuna.trial.create_trial(value=0.51234, params={"latent": 10}, distributions={"latent": SPACE["latent"]})
    >>> _cells(trial, ["latent"])
    ['-1', '0.5123', '0', '10']
    """
    score = f"{trial.value:.4f}" if trial.value is not None else "no number"
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        score = f"{score} at epoch {max(trial.intermediate_values)}"
    values = (trial.params[name] for name in names)
    shown = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in values]
    return [str(trial.number), score, f"{trial.duration.total_seconds():.0f}", *shown]


def _say(text: str) -> None:
    print(f"search  {text}", flush=True)
