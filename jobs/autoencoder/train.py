"""Train, export and promote the autoencoder of a day."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from sklearn.ensemble import IsolationForest
from torch import Tensor

from jobs import catalogue
from jobs.autoencoder import data, evaluation, export, isolation, losses, preprocessing, profile, tracking, winner
from jobs.autoencoder.checkpoints import Checkpoints
from jobs.autoencoder.examples import Examples
from jobs.autoencoder.loop import Phase, fit
from jobs.autoencoder.model import Autoencoder, Sizes, components
from jobs.autoencoder.room import Room
from jobs.config import policy
from jobs.config.policy import Column, Policy
from jobs.config.settings import Settings, Train
from jobs.errors import UserError
from jobs.storage import models

FORMAT = 6  # raise it when the same inputs shall give another model
FITTED_ON = 200_000  # training customers on whom preprocessing is fitted: more would not change a quantile by a percent
_LIBRARIES = ("torch", "numpy", "pyarrow", "deltalake", "onnx", "onnxruntime", "scikit-learn")
# No weight hangs on them.
_NOT_LEARNED_BY = {
    "retrain_every_days", "retrain_psi", "min_customers", "checkpoint_seconds", "memory_share", "tracking", "tensorboard",
}  # fmt: skip
ONE_THREAD_UP_TO = 10_000_000  # numbers; with fewer a second thread gains nothing and waits for ever on a busy machine


def run(settings: Settings, day: date) -> str:
    """Train on the customers of `day`, save the model, make it champion from `day` on; returns its version.

    A version that is already there with the same inputs is promoted, not trained again.
    Raises UserError for features that cannot be trained on.
    """
    with _processes() as first:
        say = _say if first else lambda _: None
        started = time.perf_counter()
        rules = policy.load_policy(settings.policy)
        customers = data.read(settings.lake, day, settings.train.min_customers, settings.train.memory_share)
        place = "memory" if not customers.room.on_disk else "files, for they take more of it than train.memory_share"
        say(f"{day}  {len(customers.ids)} active customers read into {place}, {time.perf_counter() - started:.1f} s")
        found = models.read_search(settings.models)
        chosen, rules = winner.applied(settings.train, rules, found["settings"] if found else {})
        version = f"{day}-{_identity(customers, chosen, rules)[:8]}"
        if models.exists(settings.models, version):
            say(f"{version} is there with the same inputs; not trained again")
        else:
            ready = _ready(customers, chosen, rules)
            del customers  # as read, they take as much memory as all else
            checkpoints = Checkpoints(settings.models, version, settings.train.checkpoint_seconds)
            with tracking.of(settings, version, say) if first else nullcontext(tracking.Tracker([], say)) as tracker:
                trained, facts = _train(ready, chosen, rules, checkpoints, tracker, say)
                checked = ready.checked
                del ready
                earlier, backtest = _backtest(settings, day, version, chosen, rules, say)
                facts = {
                    "version": version,
                    **facts,
                    "backtest": backtest,
                    "search": found and found["search"],
                    "seconds": round(time.perf_counter() - started, 1),
                    "warnings": [],
                }

                def write(folder: Path) -> None:
                    export.write(folder, trained, checked, facts)
                    if earlier:
                        (folder / models.BACKTEST).write_bytes(export.encoder(earlier).SerializeToString())
                    if lost := tracker.end(folder, facts):
                        export.write_facts(folder, facts | {"warnings": lost})

                if first:
                    models.save(settings.models, version, write)
                    models.remove_checkpoint(settings.models, version)
                    models.remove_checkpoint(settings.models, f"{version}-backtest")
        if first:
            models.promote(settings.models, version, since=day)
        say(f"{version} is champion from {day} on")
    return version


def _backtest(
    settings: Settings, day: date, version: str, chosen: Train, rules: Policy, say: Callable[[str], None]
) -> tuple[export.Trained | None, dict | None]:
    """What the same training gives on the customers as of train.backtest_days before, and what meta.json says of it.

    By it the gate of the segments sees how far the vector told what customers did next, which this model can't have seen.
    """
    if not settings.train.backtest_days:
        return None, None
    before = day - timedelta(days=settings.train.backtest_days)
    try:
        customers = data.read(settings.lake, before, settings.train.min_customers, settings.train.memory_share)
    except UserError as error:
        say(f"no backtest: {error}")
        return None, {"day": before.isoformat(), "left_out": str(error)}
    say(f"backtest: the same once more as of {before}, {len(customers.ids)} active customers")
    ready = _ready(customers, chosen, rules)
    del customers
    checkpoints = Checkpoints(settings.models, f"{version}-backtest", settings.train.checkpoint_seconds)
    trained, facts = _train(ready, chosen, rules, checkpoints, tracking.Tracker([], say), say)
    kept = ("day", "delta_version", "features", "attributes", "customers", "test_error", "test_error_pca")
    return trained, {name: facts[name] for name in kept}


def _identity(customers: data.Customers, settings: Train, rules: Policy) -> str:
    inputs = [FORMAT, customers.names, learned_by(settings), rules.sha256, data.fingerprint(customers)]
    if (scaling := winner.scaling(rules)) != Column.scaling:  # of the file, or a search's
        inputs.append(scaling)
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def learned_by(settings: Train) -> dict:
    """The settings on which the weights hang."""
    return {name: value for name, value in asdict(settings).items() if name not in _NOT_LEARNED_BY}


@dataclass(frozen=True)
class _Ready:
    """All that training, evaluation and export need of the customers of a day."""

    numbers: preprocessing.Numbers
    forest: IsolationForest
    categories: dict[str, list[str]]  # by attribute
    scaled: dict[str, Tensor]  # by share, m x inputs each
    draws: list[Tensor]  # m x inputs each, of the training share: the same but for what was imputed
    room: Room
    tested: list[str]  # ids of the test share
    checked: tuple[np.ndarray, np.ndarray]  # as of export.checked_rows
    facts: dict  # what meta.json says about them


def _ready(customers: data.Customers, settings: Train, rules: Policy) -> _Ready:
    set_threads(len(customers.ids) * len(customers.names))
    prepared = prepare(customers, settings, rules)
    rows, categories, coded, fitted = prepared.rows, prepared.categories, prepared.coded, prepared.fitted
    learned_from = rows["train"][:FITTED_ON]
    facts = {
        "day": customers.day.isoformat(),
        "delta_version": customers.delta_version,
        "features": list(customers.names),
        "attributes": {
            name: {"categories": known} | _category_shares(coded[learned_from, place], len(known))
            for place, (name, known) in enumerate(categories.items())
        },
        "inputs": fitted.names,
        "left_out": fitted.left_out,
        "scaling": dict(zip(customers.names, fitted.scaling, strict=True)),
        "policy": rules.to_record(dict(zip(customers.names, prepared.columns, strict=True)), customers.attributes),
        "profile": {name: profile.of(customers.matrix[learned_from, j]) for j, name in enumerate(customers.names)},
        "customers": {share: len(held) for share, held in rows.items()},
        "dropped": len(customers.ids) - sum(map(len, rows.values())),
    }
    forest = isolation.fit(fitted.inputs.numpy(), settings.seed)
    scaled = {share: prepared.scaled(held) for share, held in rows.items()}
    tested = customers.ids.take(pa.array(rows["test"])).to_pylist()
    checked = export.checked_rows(customers)
    draws = fitted.draws or [scaled["train"]]
    return _Ready(fitted.numbers, forest, categories, scaled, draws, customers.room, tested, checked, facts)


def _train(
    ready: _Ready,
    settings: Train,
    rules: Policy,
    checkpoints: Checkpoints,
    tracker: tracking.Tracker,
    say: Callable[[str], None],
) -> tuple[export.Trained, dict]:
    """What was fitted, on the CPU, and what meta.json says about it."""
    facts, scaled = ready.facts, ready.scaled
    sizes = {"features": len(facts["features"]), "inputs": len(facts["inputs"])} | facts["customers"]
    say(
        f"{sizes['features']} features and {len(ready.categories)} attributes, {sizes['inputs']} columns after "
        f"{len(facts['left_out'])} were left out, {', '.join(f'{n} {share}' for share, n in facts['customers'].items())}, "
        f"on {_device()}"
    )
    origin = {"day": facts["day"], "delta_version": facts["delta_version"], "policy": rules.sha256}
    tracker.begin(origin | {"scaling": winner.scaling(rules)} | sizes | learned_by(settings))
    learned = learn(
        ready.numbers,
        ready.draws,
        scaled["validation"],
        settings,
        checkpoints,
        say,
        lambda _, epochs: tracker.epochs(epochs),
        ready.room.new,
    )
    model = learned.model
    pca = components(scaled["train"], settings.latent)
    found = evaluation.of(model, pca, scaled["test"], ready.tested, facts["inputs"])
    say(
        f"test error {found['test_error']:.4f}, PCA with {settings.latent} dimensions {found['test_error_pca']:.4f}; "
        f"trustworthiness {_figure(found['trustworthiness'])}, of PCA {_figure(found['trustworthiness_pca'])}"
    )
    errors = profile.of(model.errors(scaled["train"][:FITTED_ON]).numpy())
    facts = {
        **facts,
        "profile": facts["profile"] | {"reconstruction_error": errors},
        "sizes": asdict(model.sizes),
        "settings": asdict(settings),
        **found,
        "best_epoch": min(
            (epoch for epoch in learned.epochs if epoch["validation"] is not None), key=lambda epoch: epoch["validation"]
        )["epoch"],
        "epochs": learned.epochs,
        "device": _device(),
        "libraries": {"python": platform.python_version()} | {name: version_of(name) for name in _LIBRARIES},
    }
    return export.Trained(model, ready.forest, ready.categories, pca), facts


@dataclass(frozen=True)
class Prepared:
    """The customers of a day (n), and the preprocessing that was fitted on their training share."""

    customers: data.Customers
    columns: list[Column]  # the policy's treatment of each feature
    rows: dict[str, np.ndarray]  # by share
    categories: dict[str, list[str]]  # by attribute
    coded: np.ndarray  # n x attributes
    fitted: preprocessing.Fitted

    def scaled(self, rows: np.ndarray) -> Tensor:
        """The network's columns (m x inputs) of the customers `rows` (m)."""
        preprocess, customers = preprocessing.Preprocess(self.fitted.numbers), self.customers
        return preprocessing.apply(preprocess, customers.matrix, self.coded, rows, customers.room.new)


def prepare(customers: data.Customers, settings: Train, rules: Policy) -> Prepared:
    """Fit the preprocessing; raises UserError where a share is empty or no feature differs between customers."""
    columns = rules.column_policies(
        customers.names, customers.attributes, known={*catalogue.VECTOR, *(a.name for a in catalogue.ATTRIBUTES)}
    )
    rows = _shares(customers, columns)
    learned_from = rows["train"][:FITTED_ON]
    categories = {
        name: preprocessing.frequent(texts.take(pa.array(learned_from)), rules.categories(name))
        for name, texts in customers.attributes.items()
    }
    coded = preprocessing.codes(list(customers.attributes.values()), list(categories.values()), len(customers.ids))
    fitted = preprocessing.fit(
        customers.matrix[learned_from],
        coded[learned_from],
        customers.names,
        columns,
        categories,
        rules.selection,
        settings.seed,
    )
    if not fitted.names:
        raise UserError(f"train: features.customers, day {customers.day}: no feature differs between customers; take another day")
    return Prepared(customers, columns, rows, categories, coded, fitted)


def set_threads(n_numbers: int) -> None:
    """As many as the machine has cores, where that helps; processes of torchrun have one each."""
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    torch.set_num_threads((os.cpu_count() or 1) if alone and n_numbers > ONE_THREAD_UP_TO else 1)


def _shares(customers: data.Customers, columns: list[Column]) -> dict[str, np.ndarray]:
    """Row numbers per share, without customers who lack a value that the policy says to drop them for."""
    needed = [column.missing == "drop" for column in columns]
    complete = np.isfinite(customers.matrix[:, needed]).all(axis=1)
    rows = {share: held[complete[held]] for share, held in data.split(customers.hashes).items()}
    for share, held in rows.items():
        if len(held) == 0:
            dropped = f" ({(~complete).sum()} dropped for a missing value)" if not complete.all() else ""
            raise UserError(
                f"train: features.customers, day {customers.day}: none of {len(customers.ids)} customers{dropped} falls into "
                f"the {share} share; take a day with more customers"
            )
    return rows


def _category_shares(coded: np.ndarray, n: int) -> dict:
    """Shares of n categories and of all others, of the customers with a known one, and the share of the rest."""
    known = coded[coded != preprocessing.MISSING]
    shares = np.bincount(known, minlength=n + 1) / max(1, len(known))
    return {"shares": shares.tolist(), "missing_share": 1 - len(known) / len(coded)}


@dataclass(frozen=True)
class Learned:
    """A trained network, on the CPU, and how it came about."""

    model: Autoencoder
    belongs: Callable[[Tensor], Tensor]  # customers (n x inputs) -> shares of the clusters (n x settings.clusters)
    epochs: list[dict]


def learn(
    numbers: preprocessing.Numbers,
    draws: list[Tensor],
    validation: Tensor,
    settings: Train,
    checkpoints: Checkpoints,
    say: Callable[[str], None],
    after_epoch: Callable[[Autoencoder, list[dict]], None] = lambda *_: None,
    new: Callable[[int, int], Tensor] = torch.empty,
) -> Learned:
    """Train on customers (n x inputs each draw, which differ in what was imputed) until `validation` (m x inputs) is no better.

    `new` makes what arrays of such sizes are needed beside; `after_epoch` gets the network and the epochs so far.
    Raises UserError and SystemExit as loop.fit does.
    """
    device = _device()
    torch.manual_seed(settings.seed)
    model = Autoencoder(Sizes.of(draws[0].shape[1], settings), numbers).to(device)
    learned_from, [held_out] = (Examples.of(points, settings.neighbours, device, new) for points in (draws, [validation]))
    clustered = losses.Clustered(model, max(1, settings.clusters), settings.seed).to(device)
    restoring = losses.restoring(model, settings)
    phases = [
        Phase("restore", restoring, settings.epochs, settings.learning_rate, lambda: losses.validation_error(model, held_out))
    ]
    if settings.clusters:
        phases.append(
            Phase(
                "cluster",
                clustered.loss(restoring),
                max(1, settings.epochs // 2),
                settings.learning_rate / 3,
                begins=lambda: clustered.place_centres(draws[0][:FITTED_ON]),
                epoch_begins=lambda: clustered.weigh_centres(learned_from[0]),
            )
        )
    epochs = fit(
        clustered if settings.clusters else model, phases, learned_from, settings, checkpoints, say, partial(after_epoch, model)
    )
    model.set_axes(draws[0])
    model.set_own(draws[0], validation)
    clustered = clustered.cpu().eval()
    return Learned(model.cpu().eval(), lambda points: clustered.belongs(model.encoder(points)), epochs)


def _device() -> str:
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}"


@contextmanager
def _processes() -> Iterator[bool]:
    """Joins the other processes where torchrun started several; whether this is the one that speaks and writes."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield dist.get_rank() == 0
        dist.barrier()  # none reports success before the model is there
    finally:
        dist.destroy_process_group()


def _figure(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"


def _say(text: str) -> None:
    print(f"train  {text}", flush=True)
