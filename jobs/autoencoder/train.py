"""Train, export and promote the autoencoder of a day."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import partial
from importlib.metadata import version as library_version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from jobs import progress
from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.customers import Customers, input_fingerprint, read_customers
from jobs.autoencoder.evaluation import evaluate
from jobs.autoencoder.export import write_meta, write_model
from jobs.autoencoder.fitting import MAX_NUMBERS_FOR_ONE_THREAD, fit_autoencoder, select_device
from jobs.autoencoder.group_training import Groups, GroupsExport, group_settings, hash_groups, to_group, train_groups
from jobs.autoencoder.model import principal_components
from jobs.autoencoder.onnx_graph import TrainedModel, build_encoder
from jobs.autoencoder.preprocessing import FIT_CUSTOMERS
from jobs.autoencoder.profile import profile_values
from jobs.autoencoder.searched_settings import apply_searched_settings, default_scaling
from jobs.autoencoder.sequence_training import TrainedSequenceEncoder, hash_sequences, train_sequence_encoder
from jobs.autoencoder.tracking import Tracker, open_tracker
from jobs.autoencoder.training_data import TrainingData, prepare_training_data
from jobs.concurrency import call_in_process
from jobs.config.policy import Column, Policy, load_policy
from jobs.config.settings import Settings, Train
from jobs.errors import UserError
from jobs.input_groups import read_interests
from jobs.storage import models

MIN_NUMBERS_FOR_A_PROCESS = 100_000  # fewer are trained on before a process has imported torch
FORMAT = 6  # raise it when the same inputs are to give another model
_LIBRARIES = ("torch", "numpy", "pyarrow", "deltalake", "onnx", "onnxruntime", "scikit-learn")
_SETTINGS_WITHOUT_EFFECT_ON_WEIGHTS = {
    "retrain_every_days", "retrain_psi", "min_customers", "checkpoint_seconds", "memory_share", "tracking", "tensorboard",
    "group_components", "group_weight", "group_dropout",  # they count where there are groups, see group_settings()
}  # fmt: skip

Log = Callable[[str], None]


@dataclass(frozen=True)
class TrainingPlan:
    """What a training uses: the settings and the policy with the values of a search, and the version that follows from them."""

    version: str
    settings: Train
    policy: Policy
    search: str | None  # name of the search


class Backtest(NamedTuple):
    """The encoders of the backtest by the name of their file, and its part of meta.json; None where it is left out."""

    files: dict[str, bytes]
    meta: dict | None


def train_model(settings: Settings, day: date) -> str:
    """Train on the customers of `day`, save the model, make it the champion from `day` on, and return its version.

    If the version already exists, its inputs are the same: it is promoted and not trained again. Raises UserError for features
    that cannot be trained on.
    """
    with _join_processes() as is_first:
        log = _log if is_first else lambda _: None
        started = time.perf_counter()
        customers = _read_customers(settings, day, log)
        groups = read_interests(settings.lake, day, customers.ids)
        plan = _plan_training(settings, customers, groups)
        if models.exists(settings.models, plan.version):
            log(f"{plan.version} already exists with the same inputs; not trained again")
        else:
            n_numbers = len(customers.ids) * len(customers.feature_names)
            with (
                _open_backtest(partial(_train_backtest, settings, day, plan), n_numbers, log) as finish_backtest,
                open_tracker(settings, plan.version, log) if is_first else nullcontext(Tracker([], log)) as tracker,
            ):
                data = prepare_training_data(customers, plan.settings, plan.policy)
                sequence = _train_sequence(settings, plan, customers, "sequence", log)
                groups |= to_group(sequence, plan.version)
                del customers  # as read, they take as much memory as all else
                checkpoint = CheckpointFile(settings.models, plan.version, settings.train.checkpoint_seconds)
                trained, meta = _train(data, plan, checkpoint, tracker, log)
                wide = _train_groups(settings, data, groups, plan, "groups", log)
                verification_rows = data.verification_rows
                del data, groups  # the backtest may read as many customers again
                backtest = finish_backtest()
                seconds = round(time.perf_counter() - started, 1)
                meta = {"version": plan.version, **meta, "sequence": sequence and sequence.meta}
                meta |= {"groups": wide.meta} if wide else {}
                meta |= {"backtest": backtest.meta, "search": plan.search, "seconds": seconds}
                if is_first:
                    files = backtest.files | _list_files(sequence, wide, models.SEQUENCE, models.GROUPS)
                    files |= {models.GROUPS_GOLDEN: wide.golden} if wide else {}
                    _save_model(settings.models, trained, verification_rows, files, meta, tracker)
        if is_first:
            models.promote(settings.models, plan.version, since=day)
        log(f"{plan.version} is champion from {day} on")
    return plan.version


def _read_customers(settings: Settings, day: date, log: Log) -> Customers:
    started = time.perf_counter()
    customers = read_customers(settings.lake, day, settings.train.min_customers, settings.train.memory_share)
    storage = "files, because they take more memory than train.memory_share" if customers.storage.is_on_disk else "memory"
    log(f"{day}  {len(customers.ids)} active customers read into {storage}, {time.perf_counter() - started:.1f} s")
    return customers


def _plan_training(settings: Settings, customers: Customers, groups: Groups) -> TrainingPlan:
    policy = load_policy(settings.policy)
    search = models.read_search(settings.models)
    train_settings, policy = apply_searched_settings(settings.train, policy, search["settings"] if search else {})
    inputs = [*hash_sequences(settings, customers.day, customers.ids), *hash_groups(groups, customers)]
    inputs += [group_settings(train_settings)] if inputs else []
    version = f"{customers.day}-{_hash_inputs(customers, train_settings, policy, inputs)[:8]}"
    return TrainingPlan(version, train_settings, policy, search and search["search"])


def _hash_inputs(customers: Customers, settings: Train, policy: Policy, further_inputs: list) -> str:
    """Return the SHA-256 of all that the weights depend on."""
    inputs = [FORMAT, customers.feature_names, weight_settings(settings), policy.sha256, input_fingerprint(customers)]
    if (scaling := default_scaling(policy)) != Column.scaling:  # by the policy file or by a search
        inputs.append(scaling)
    inputs += further_inputs
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def weight_settings(settings: Train) -> dict:
    """Return the settings that the weights depend on."""
    return {name: value for name, value in asdict(settings).items() if name not in _SETTINGS_WITHOUT_EFFECT_ON_WEIGHTS}


def _train(
    data: TrainingData, plan: TrainingPlan, checkpoint: CheckpointFile, tracker: Tracker, log: Log
) -> tuple[TrainedModel, dict]:
    """Train and evaluate; return the trained model, on the CPU, and its meta.json."""
    settings, inputs = plan.settings, data.inputs
    _log_sizes(data, log)
    tracker.log_params(_tracked_params(data, plan))
    fitted = fit_autoencoder(
        data.parameters,
        data.imputations,
        inputs["validation"],
        settings,
        checkpoint,
        log,
        lambda _, epochs: tracker.log_epochs(epochs),
        data.storage.allocate,
    )
    model = fitted.model
    pca = principal_components(inputs["train"], settings.latent)
    evaluation = evaluate(model, pca, inputs["test"], data.test_ids, data.meta["inputs"])
    _log_evaluation(evaluation, settings.latent, log)
    errors = profile_values(model.reconstruction_errors(inputs["train"][:FIT_CUSTOMERS]).numpy())
    validated_epochs = (epoch for epoch in fitted.epochs if epoch["validation"] is not None)
    meta = {
        **data.meta,
        "profile": data.meta["profile"] | {"reconstruction_error": errors},
        "sizes": asdict(model.sizes),
        "settings": asdict(settings),
        **evaluation,
        "best_epoch": min(validated_epochs, key=lambda epoch: epoch["validation"])["epoch"],
        "epochs": fitted.epochs,
        "device": select_device(),
        "libraries": {"python": platform.python_version()} | {name: library_version(name) for name in _LIBRARIES},
    }
    return TrainedModel(model, data.forest, data.categories, pca), meta


def _train_sequence(
    settings: Settings, plan: TrainingPlan, customers: Customers, name: str, log: Log
) -> TrainedSequenceEncoder | None:
    """Train the sequence encoder of the same customers; `name` is that of its checkpoint."""
    checkpoint = CheckpointFile(settings.models, f"{plan.version}-{name}", settings.train.checkpoint_seconds)
    return train_sequence_encoder(settings, customers.day, customers.ids, customers.hashes, checkpoint, log)


def _train_groups(
    settings: Settings, data: TrainingData, groups: Groups, plan: TrainingPlan, name: str, log: Log
) -> GroupsExport | None:
    """Train the wide network where there are groups; `name` is that of its checkpoint."""
    checkpoint = CheckpointFile(settings.models, f"{plan.version}-{name}", settings.train.checkpoint_seconds)
    return train_groups(data, groups, plan.settings, checkpoint, log) if groups else None


def _list_files(
    sequence: TrainedSequenceEncoder | None, wide: GroupsExport | None, sequence_name: str, groups_name: str
) -> dict[str, bytes]:
    """Return the contents of the files that only customers with groups of inputs need, by name."""
    files = {sequence_name: sequence.content} if sequence else {}
    return files | ({groups_name: wide.graph} if wide else {})


def _tracked_params(data: TrainingData, plan: TrainingPlan) -> dict[str, object]:
    meta = data.meta
    return {
        "day": meta["day"],
        "delta_version": meta["delta_version"],
        "policy": plan.policy.sha256,
        "scaling": default_scaling(plan.policy),
        "features": len(meta["features"]),
        "inputs": len(meta["inputs"]),
        **meta["customers"],
        **weight_settings(plan.settings),
    }


def _log_sizes(data: TrainingData, log: Log) -> None:
    meta = data.meta
    splits = ", ".join(f"{n} {split}" for split, n in meta["customers"].items())
    columns = f"{len(meta['inputs'])} columns after {len(meta['left_out'])} were left out"
    log(f"{len(meta['features'])} features and {len(data.categories)} attributes, {columns}, {splits}, on {select_device()}")


def _log_evaluation(evaluation: dict, n_latent: int, log: Log) -> None:
    errors = f"test error {evaluation['test_error']:.4f}, PCA with {n_latent} dimensions {evaluation['test_error_pca']:.4f}"
    trustworthiness, of_pca = (_format_figure(evaluation[name]) for name in ("trustworthiness", "trustworthiness_pca"))
    log(f"{errors}; trustworthiness {trustworthiness}, of PCA {of_pca}")


def _format_figure(figure: float | None) -> str:
    return "not known" if figure is None else f"{figure:.3f}"


@contextmanager
def _open_backtest(train: Callable[[Log], Backtest], n_numbers: int, log: Log) -> Iterator[Callable[[], Backtest]]:
    """Yield a function that returns the backtest of a model of so many numbers.

    It is trained beside the block in a process of its own where the block trains in one thread, and after it elsewhere: two
    large trainings take the memory of two.
    """
    is_alone = int(os.environ.get("WORLD_SIZE", "1")) == 1 and (os.cpu_count() or 1) > 1 and select_device() == "cpu"
    if not is_alone or not MIN_NUMBERS_FOR_A_PROCESS <= n_numbers <= MAX_NUMBERS_FOR_ONE_THREAD:
        yield partial(train, log)
        return
    with call_in_process(train, log) as backtest:

        def finish() -> Backtest:
            try:
                return backtest.result()
            except BrokenProcessPool:
                log("backtest: its process died, perhaps for want of memory; it is trained once more")
                return train(log)

        yield finish


def _train_backtest(settings: Settings, day: date, plan: TrainingPlan, log: Log) -> Backtest:
    """Train the same on the customers of train.backtest_days earlier.

    By this model the gate of the segments measures how well the vector predicts what customers did next: the model of `day` has
    already seen that.
    """
    if not settings.train.backtest_days:
        return Backtest({}, None)
    earlier_day = day - timedelta(days=settings.train.backtest_days)
    try:
        customers = read_customers(settings.lake, earlier_day, settings.train.min_customers, settings.train.memory_share)
    except UserError as error:
        log(f"no backtest: {error}")
        return Backtest({}, {"day": earlier_day.isoformat(), "left_out": str(error)})
    log(f"backtest: the same training as of {earlier_day}, {len(customers.ids)} active customers")
    groups = read_interests(settings.lake, earlier_day, customers.ids)
    data = prepare_training_data(customers, plan.settings, plan.policy)
    log_backtest = partial(_log_backtest, log)
    sequence = _train_sequence(settings, plan, customers, "backtest-sequence", log_backtest)
    groups |= to_group(sequence, plan.version)
    del customers
    checkpoint = CheckpointFile(settings.models, f"{plan.version}-backtest", settings.train.checkpoint_seconds)
    trained, meta = _train(data, plan, checkpoint, Tracker([], log), log_backtest)
    wide = _train_groups(settings, data, groups, plan, "backtest-groups", log_backtest)
    names = ("day", "delta_version", "features", "attributes", "customers", "test_error", "test_error_pca")
    summary = {name: meta[name] for name in names} | {"sequence": sequence and sequence.meta}
    summary |= {"groups": wide.meta} if wide else {}
    files = _list_files(sequence, wide, models.BACKTEST_SEQUENCE, models.BACKTEST_GROUPS)
    return Backtest(files | {models.BACKTEST: build_encoder(trained).SerializeToString()}, summary)


def _log_backtest(log: Log, text: str) -> None:
    log(f"backtest: {text}")


def _save_model(
    models_root: str,
    trained: TrainedModel,
    verification_rows: tuple[np.ndarray, np.ndarray],
    files: dict[str, bytes],
    meta: dict,
    tracker: Tracker,
) -> None:
    """Write all files of the model, `files` among them, and log it, then remove the checkpoints."""
    version, meta = meta["version"], meta | {"warnings": []}

    def write_files(folder: Path) -> None:
        write_model(folder, trained, verification_rows, meta)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        if warnings := tracker.log_model(folder, meta):
            write_meta(folder, meta | {"warnings": warnings})

    models.save(models_root, version, write_files)
    for name in ("", "-backtest", "-sequence", "-backtest-sequence", "-groups", "-backtest-groups"):
        models.remove_checkpoint(models_root, f"{version}{name}")


@contextmanager
def _join_processes() -> Iterator[bool]:
    """Join the other processes if torchrun started several; yield whether this is the first one, which logs and writes."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield dist.get_rank() == 0
        dist.barrier()  # no process reports success before the model is saved
    finally:
        dist.destroy_process_group()


def _log(text: str) -> None:
    progress.log(f"train  {text}")
