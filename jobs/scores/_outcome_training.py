"""The models of outcomes: when they are due, how contestants are compared, and where the winners are kept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from jobs import outcome_schedule
from jobs.concurrency import run_in_parallel
from jobs.config.outcomes import Outcome, load_outcomes
from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.outcome_cases import (
    Cases,
    Inputs,
    Parts,
    area_under_roc,
    clear_columns,
    find_separators,
    fit_reductions,
    load_inputs,
    read_cases,
    split_cases,
)
from jobs.outcome_groups import Reduction, SequenceModel, find_stale_groups
from jobs.progress import log
from jobs.scores import _classifiers
from jobs.scores._classification_metrics import (
    choose_simplest,
    choose_threshold,
    log_losses,
    measure,
    resample_areas,
    trace_calibration,
    trace_roc,
)
from jobs.scores._classifiers import Calibration, Classifier, Linear, from_record
from jobs.scores._resampling import INTERVAL
from jobs.storage import models
from jobs.storage.lake import Lake

FORMAT = 1  # raise it when the same inputs are to give another model
PREVALENCE, RECENCY = "prevalence", "recency"
BY_SPARK = ("logistic_regression", "linear_svm", "random_forest", "boosted_trees")  # the simplest first
NETWORK = "network"
WITH_VECTOR = "_with_vector"  # ends the name of a contestant that has the learned vector too
WITH_GROUPS = "_with_groups"  # ends the name of a contestant that has the groups of inputs too
ALL_GROUPS = "all"
_TOP_FEATURES = 10
_FAMILY = models.CUSTOMER_OUTCOMES


@dataclass(frozen=True)
class OutcomeModel:
    """What an outcome is predicted by.

    `refused` are columns of the matrix that are read as 0. The classifier reads the `columns`, or the first ones where None.
    """

    outcome: str
    method: str
    classifier: Classifier
    calibration: Calibration
    refused: tuple[int, ...] = ()
    columns: tuple[int, ...] | None = None

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Return the score of each row of the matrix, on a scale of the classifier's own."""
        return self.classifier.score(self._select(matrix))

    def explain(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the score of each row, and (n x columns) what each input adds to it."""
        scores, contributions = self.classifier.explain(self._select(matrix))
        if self.columns is None:
            return scores, contributions
        of_columns = np.zeros(matrix.shape, np.float32)
        of_columns[:, self.columns] = contributions
        return scores, of_columns

    def _select(self, matrix: np.ndarray) -> np.ndarray:
        matrix = clear_columns(matrix, self.refused)
        return matrix if self.columns is None else matrix[:, self.columns]

    def to_record(self) -> dict:
        """Return the model as JSON knows it."""
        return {
            "outcome": self.outcome,
            "method": self.method,
            "classifier": _classifiers.to_record(self.classifier),
            "calibration": asdict(self.calibration),
            "refused": list(self.refused),
            "columns": None if self.columns is None else list(self.columns),
        }

    @classmethod
    def from_record(cls, record: dict) -> Self:
        """Return the model of to_record()."""
        curve = {name: tuple(value) if isinstance(value, list) else value for name, value in record["calibration"].items()}
        classifier = _classifiers.from_record(record["classifier"])
        columns = record.get("columns")  # None too in a model of an earlier version
        return cls(
            record["outcome"],
            record["method"],
            classifier,
            Calibration(**curve),
            tuple(record["refused"]),
            columns and tuple(columns),
        )


@dataclass(frozen=True)
class Champion:
    """The models of a day by outcome, the encoder that their inputs come from, and why outcomes were left out."""

    version: str
    encoder: str
    models: Mapping[str, OutcomeModel]
    left_out: Mapping[str, str]
    reductions: tuple[Reduction, ...] = ()  # of the groups that the models read

    @property
    def uses_vector(self) -> bool:
        """Whether any of the models reads the learned vector."""
        return any(model.method.endswith(WITH_VECTOR) for model in self.models.values())


def prepare_champion(lake: Lake, settings: Settings, day: date, retrain: bool) -> Champion | None:
    """Return the models of the day's champion, fitted first where they are due; None where no outcome has a model."""
    outcomes = load_outcomes(settings.outcomes)
    if not outcomes:
        return None
    if outcome_schedule.is_fit_due(settings, day, retrain):
        _train(lake, settings, day, outcomes)
    entry = models.champion(settings.models, day, _FAMILY)
    if entry is None:
        return None
    record = json.loads(models.read(settings.models, entry["version"], "model.json", _FAMILY))
    fitted = {record["outcome"]: OutcomeModel.from_record(record) for record in record["models"]}
    names = {outcome.name for outcome in outcomes}
    missing = {name: "it was declared after the models were fitted" for name in names - set(fitted) - set(record["left_out"])}
    left_out = {name: reason for name, reason in record["left_out"].items() if name in names}
    kept = {name: model for name, model in fitted.items() if name in names}
    reductions = ()
    if readers := {name for name, model in kept.items() if model.method.endswith(WITH_GROUPS)}:
        reductions = tuple(map(Reduction.from_record, record["groups"]))
        if reason := _describe_stale_groups(lake.root, day, reductions):
            kept, reductions = {name: kept[name] for name in kept.keys() - readers}, ()
            left_out |= dict.fromkeys(readers, reason)
    return Champion(entry["version"], record["encoder"], kept, left_out | missing, reductions)


def _describe_stale_groups(lake: str, day: date, reductions: Sequence[Reduction]) -> str | None:
    """Return in words why models that read these groups cannot score the day; None where they can."""
    stale = find_stale_groups(lake, day, reductions)
    if not stale:
        return None
    read = {reduction.group: reduction.model for reduction in reductions}
    changes = (f"{group} vectors of {read[group]}, and the day has {model or 'none'}" for group, model in stale.items())
    return f"its model reads {' and '.join(changes)}; fit again: shoal refresh --retrain --steps features,train,score --day {day}"


def _train(lake: Lake, settings: Settings, day: date, outcomes: Sequence[Outcome]) -> None:
    """Choose a model for each outcome, fit it, and make them champion from the day on."""
    encoder = models.champion(settings.models, day)
    if encoder is None:
        raise UserError(f"score: no model is champion on {day} in {settings.models}; run first: shoal train --day {day}")
    inputs = load_inputs(settings.models, encoder["version"])
    sequences = SequenceModel.load(lake.root, settings.models, encoder["version"], day)
    reductions = fit_reductions(lake.root, outcomes, day, sequences)
    inputs = replace(inputs, reductions=reductions, sequences=sequences)
    parts = {name: split_cases(cases) for name, cases in read_cases(lake.root, inputs, outcomes, day).items()}
    left_out = {name: reason for name, reason in parts.items() if isinstance(reason, str)}
    if len(left_out) < len(outcomes):
        lake.begin_session()
    networks = _read_networks(settings, day, inputs)
    calls = {
        outcome.name: partial(_choose_model, lake, settings, inputs, outcome, parts[outcome.name], networks.get(outcome.name, {}))
        for outcome in outcomes
        if outcome.name not in left_out
    }
    chosen = run_in_parallel(calls)
    facts = {name: of_outcome for name, (_, of_outcome) in chosen.items()}
    record = {
        "encoder": encoder["version"],
        "models": [model.to_record() for model, _ in chosen.values()],
        "left_out": left_out,
        "groups": [reduction.to_record() for reduction in inputs.reductions],
    }
    meta = {"day": day.isoformat(), "encoder": encoder["version"], "outcomes": facts, "left_out": left_out}
    content = json.dumps([FORMAT, record, meta], sort_keys=True)
    version = models.name_version(day, content)

    def write(folder: Path) -> None:
        (folder / "model.json").write_text(json.dumps(record))
        (folder / "meta.json").write_text(json.dumps({"version": version, **meta}, indent=1))

    models.save_champion(settings.models, version, write, day, _FAMILY)
    log(f"score {version} predicts {len(chosen)} of {len(outcomes)} outcomes from {day} on")


def _read_networks(settings: Settings, day: date, inputs: Inputs) -> dict[str, dict[str, Classifier]]:
    """Return the networks that were trained on the day by outcome and part of the cases; none where none were."""
    entry = models.champion(settings.models, day, models.OUTCOME_NETWORKS)
    if entry is None or entry["since"] != day.isoformat():
        return {}
    record = json.loads(models.read(settings.models, entry["version"], "networks.json", models.OUTCOME_NETWORKS))
    if record["encoder"] != inputs.version:
        return {}
    return {name: {part: from_record(of_part) for part, of_part in parts.items()} for name, parts in record["networks"].items()}


def _choose_model(
    lake: Lake, settings: Settings, inputs: Inputs, outcome: Outcome, parts: Parts, networks: Mapping[str, Classifier]
) -> tuple[OutcomeModel, dict]:
    """Return the model that is published for an outcome, and what people look at."""
    seed = settings.scores.seed
    refused = find_separators(parts.fit)
    for column in refused:
        log(f"score {outcome.name}: input {inputs.column_names[column]} alone separates the outcome and is refused")

    def fit(names: Sequence[str], cases: Cases, calibration: Cases, part: str) -> dict[str, OutcomeModel]:
        classifiers = _fit(lake, inputs, outcome, names, cases.without(refused), seed) | {NETWORK: networks.get(part)}
        return {name: _calibrate(outcome, name, classifiers[name], calibration, refused, inputs) for name in names}

    learned = [*BY_SPARK, *([NETWORK] if networks else [])]
    contestants = fit([PREVALENCE, RECENCY, *learned], parts.fit, parts.calibration, "fit")
    areas = {name: _measure_area(contestants[name], parts.calibration) for name in BY_SPARK}
    best = max(areas, key=areas.get)
    endings = [WITH_VECTOR, *([WITH_GROUPS] if inputs.reductions else [])]
    contestants |= fit([best + ending for ending in endings], parts.fit, parts.calibration, "fit")
    predictions, thresholds = {}, {}
    for name, model in contestants.items():
        thresholds[name] = choose_threshold(_predict(model, parts.calibration.matrix), parts.calibration.labels)
        predictions[name] = _predict(model, parts.test.matrix)
    labels = parts.test.labels
    method = choose_simplest({name: log_losses(p, labels) for name, p in predictions.items()}, seed)
    model = fit([method], parts.last_fit, parts.last_calibration, "last_fit")[method]
    return model, {
        "label": outcome.label,
        "window_days": outcome.window_days,
        "days": parts.days,
        "customers": {"fit": len(parts.fit.labels), "calibration": len(parts.calibration.labels), "test": len(labels)},
        "top_features": _rank_features(model, inputs, parts.test.matrix),
        "refused": [inputs.column_names[column] for column in refused],
        "ablation": _measure_groups(lake, inputs, parts, contestants, best, refused, seed),
        **_measure_contestants(outcome.name, method, predictions, thresholds, labels, seed),
    }


def _measure_contestants(
    outcome: str,
    method: str,
    predictions: Mapping[str, np.ndarray],
    thresholds: Mapping[str, float],
    labels: np.ndarray,
    seed: int,
) -> dict:
    """Return the measures of each contestant and the curves of the winner, and log how it did against the plain rules."""
    figures = {name: measure(p, labels, thresholds[name], seed) for name, p in predictions.items()}
    winner, *rules = (figures[name]["log_loss"].value for name in (method, PREVALENCE, RECENCY))
    log(
        f"score {outcome}: {method}, log loss {winner:.4f} against {rules[0]:.4f} of prevalence and {rules[1]:.4f} of recency; "
        f"ROC-AUC {figures[method]['roc_auc'].value:.3f}"
    )
    return {
        "method": method,
        "prevalence": float(labels.mean()),
        "threshold": thresholds[method],
        "figures": {name: {measure_: list(figure) for measure_, figure in of.items()} for name, of in figures.items()},
        "roc": {name: trace_roc(predictions[name], labels) for name in dict.fromkeys((RECENCY, method))},
        "calibration": trace_calibration(predictions[method], labels),
    }


def _measure_groups(
    lake: Lake,
    inputs: Inputs,
    parts: Parts,
    contestants: Mapping[str, OutcomeModel],
    best: str,
    refused: tuple[int, ...],
    seed: int,
) -> list[dict]:
    """Return what each group, and where there are several all of them, adds to the ROC-AUC of the best contestant of MLlib's.

    The same kind of model is fitted on the features and the group, and tested on the same customers.
    """
    groups = inputs.group_columns
    if not groups:
        return []
    models = {ALL_GROUPS if len(groups) > 1 else next(iter(groups)): contestants[best + WITH_GROUPS]}
    if len(groups) > 1:
        fit = parts.fit.without(refused)
        for group, of_group in groups.items():
            columns = (*range(len(inputs.names)), *of_group)
            classifier = _fit_by_spark(lake, [best], fit, columns, seed)[best]
            models[group] = replace(contestants[best], classifier=classifier, columns=columns)
    matrix, labels = parts.test.matrix, parts.test.labels
    areas = resample_areas(contestants[best].score(matrix), labels, seed)
    rows = []
    for group in sorted(models, key=[*groups, ALL_GROUPS].index):
        gains = resample_areas(models[group].score(matrix), labels, seed) - areas
        low, high = np.nanpercentile(gains[1:], INTERVAL)
        flags = [columns[-1] for name, columns in groups.items() if group in (name, ALL_GROUPS)]
        facts = {"roc_auc": areas[0], "gain": gains[0], "gain_low": low, "gain_high": high}
        n_with_group = int(matrix[:, flags].any(axis=1).sum())
        rows.append(
            {"input_group": group, "method": best, "n_customers": len(labels), "n_with_group": n_with_group}
            | {name: float(value) for name, value in facts.items()}
        )
    return rows


def _measure_area(model: OutcomeModel, cases: Cases) -> float:
    return area_under_roc(model.score(cases.matrix), cases.labels)


def _fit(lake: Lake, inputs: Inputs, outcome: Outcome, names: Sequence[str], cases: Cases, seed: int) -> dict[str, Classifier]:
    """Return the contestants of these names, fitted; networks are left out, because they are trained before."""
    fitted: dict[str, Classifier] = {}
    for name in {PREVALENCE, RECENCY}.intersection(names):
        fitted[name] = _fit_rule(inputs, outcome, cases, name)
    for ending in ("", WITH_VECTOR, WITH_GROUPS):
        learned = [name for name in BY_SPARK if name + ending in names]
        if learned:
            classifiers = _fit_by_spark(lake, learned, cases, _list_columns(inputs, ending), seed)
            fitted |= {name + ending: classifier for name, classifier in classifiers.items()}
    return fitted


def _fit_by_spark(lake: Lake, names: list[str], cases: Cases, columns: Sequence[int], seed: int) -> dict[str, Classifier]:
    from jobs.scores._spark_fits import fit_classifiers  # pyspark takes half a second

    matrix = np.ascontiguousarray(cases.matrix[:, columns])
    return fit_classifiers(lake.spark, lake.root, names, matrix, cases.labels, seed)


def _list_columns(inputs: Inputs, method: str) -> tuple[int, ...]:
    """Return the columns that a contestant of MLlib's of this name, or with this ending, is fitted on."""
    groups = inputs.group_columns.values() if method.endswith(WITH_GROUPS) else ()
    n_first = len(inputs.names) + (inputs.latent if method.endswith(WITH_VECTOR) else 0)
    return (*range(n_first), *(column for columns in groups for column in columns))


def _fit_rule(inputs: Inputs, outcome: Outcome, cases: Cases, name: str) -> Linear:
    """Return a plain rule: all customers alike, or by the days since they ordered or were seen."""
    n_columns = max(inputs.recency_columns.values()) + 1  # no groups: a day whose models read none has no columns of them
    weights = np.zeros(n_columns)
    if name == RECENCY:
        column = inputs.recency_columns["order_recency_days" if outcome.ordered_within_days else "recency_days"]
        weights[column] = 1.0 if area_under_roc(cases.matrix[:, column], cases.labels) >= 0.5 else -1.0
    return Linear(weights, cases.matrix[:, :n_columns].mean(axis=0, dtype=np.float64))


def _calibrate(
    outcome: Outcome, method: str, classifier: Classifier, cases: Cases, refused: tuple[int, ...], inputs: Inputs
) -> OutcomeModel:
    columns = _list_columns(inputs, method) if method.endswith(WITH_GROUPS) else None
    model = OutcomeModel(outcome.name, method, classifier, Calibration(), refused, columns)
    return replace(model, calibration=Calibration.fit(model.score(cases.matrix), cases.labels))


def _predict(model: OutcomeModel, matrix: np.ndarray) -> np.ndarray:
    return model.calibration.apply(model.score(matrix))


def _rank_features(model: OutcomeModel, inputs: Inputs, matrix: np.ndarray) -> list[dict]:
    """Return the inputs that move the scores most, by mean absolute contribution, and whether more of them raises the score."""
    _, contributions = model.explain(matrix)
    weights = np.abs(contributions).mean(axis=0)
    top = [column for column in np.argsort(-weights, kind="stable")[:_TOP_FEATURES] if weights[column] > 0]
    return [
        {
            "feature": inputs.column_names[column],
            "weight": float(weights[column]),
            "raises": bool(((matrix[:, column] - matrix[:, column].mean()) * contributions[:, column]).sum() > 0),
        }
        for column in top
    ]
