"""Trainings in experiment trackers: a run in MLflow's local store or on its server, and TensorBoard's files.

A failure here is one line in the log and in meta.json, and does not cost the model.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.storage import models

EXPERIMENT = "shoal"
LOCAL = "local"
FINAL_METRICS = ("test_error", "test_error_pca", "trustworthiness", "trustworthiness_pca", "best_epoch", "seconds")
_NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true"}
# Unless the environment says otherwise. By MLflow's defaults, each call to a server that hangs takes a quarter of an hour.
_TIMEOUTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "300",
}
_MAX_REASON_LENGTH = 300  # characters


class Tracker:
    """All loggers of one training.

    A logger that fails during the training is skipped until the end, and is then given everything again.
    """

    def __init__(self, loggers: list["_MLflowLogger | _TensorBoardLogger"], log: Callable[[str], None]):
        self._loggers, self._log = loggers, log
        self._warnings: dict[str, str] = {}  # by name of the logger
        self._logged_warnings: set[str] = set()
        self._params: dict[str, object] = {}

    def log_params(self, params: dict[str, object]) -> None:
        """Log what is known before the first epoch."""
        self._params = params
        self._call_loggers(lambda logger: logger.log_params(params))

    def log_epochs(self, epochs: list[dict]) -> None:
        """Log all epochs so far, as train_phases returns them; a logger adds those that it does not have."""
        self._call_loggers(lambda logger: logger.log_epochs(epochs))

    def log_model(self, folder: Path, meta: dict) -> list[str]:
        """Log the model in `folder` and its meta.json; return a warning for each logger that does not have everything."""
        failed_before, self._warnings = set(self._warnings), {}

        def log_model(logger: "_MLflowLogger | _TensorBoardLogger") -> None:
            if logger.name in failed_before:
                logger.log_params(self._params)
            logger.log_epochs(meta["epochs"])
            logger.log_model(folder, meta, _draw_figures(meta))
            if logger.name in failed_before:
                self._log(f"{logger.name} has everything now")

        self._call_loggers(log_model)
        return list(self._warnings.values())

    def log_failure(self, status: str) -> None:
        """Log that the training ended without a model."""
        self._call_loggers(lambda logger: logger.log_failure(status))

    def _call_loggers(self, call: Callable) -> None:
        for logger in self._loggers:
            if logger.name in self._warnings:
                continue
            try:
                call(logger)
            except Exception as error:  # the libraries below raise many kinds
                warning = f"warning: not logged to {logger.name}: {_root_cause(error)}; the model is not affected"
                self._warnings[logger.name] = warning
                if warning not in self._logged_warnings:
                    self._log(warning)
                self._logged_warnings.add(warning)


@contextmanager
def open_tracker(settings: Settings, version: str, log: Callable[[str], None]) -> Iterator[Tracker]:
    """Yield the tracker for the training of `version` by the settings. Raises UserError for an invalid setting."""
    tracking, tensorboard = settings.train.tracking, settings.train.tensorboard
    loggers: list[_MLflowLogger | _TensorBoardLogger] = []
    if tracking:
        if tracking != LOCAL and not tracking.startswith(("http://", "https://")):
            raise UserError(f"train: train.tracking = '{tracking}' must be {LOCAL}, the address of an MLflow server, or empty")
        loggers.append(_MLflowLogger(tracking, settings.models, version))
    if tensorboard:
        if "://" in tensorboard:
            raise UserError(f"train: train.tensorboard = '{tensorboard}' must be a folder of this machine, or empty")
        loggers.append(_TensorBoardLogger(Path(tensorboard) / version))
    tracker = Tracker(loggers, log)
    try:
        yield tracker
    except BaseException as error:
        tracker.log_failure("FAILED" if isinstance(error, Exception) else "KILLED")
        raise


class _MLflowLogger:
    """One MLflow run per version: a training that is resumed or repeated continues the run."""

    def __init__(self, tracking: str, models_root: str, version: str):
        self.name = f"MLflow at {tracking}" if tracking != LOCAL else "MLflow's local store"
        self._tracking, self._models_root, self._version = tracking, models_root, version

    @cached_property
    def _client(self):
        os.environ.update(_TIMEOUTS | os.environ | _NO_TELEMETRY)
        from mlflow import MlflowClient  # takes two seconds, so it is imported only for a training

        if self._tracking != LOCAL:
            return MlflowClient(self._tracking)
        return MlflowClient(f"sqlite:///{self._local_folder() / 'mlflow.db'}")

    @cached_property
    def _run(self):
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            artifacts = (self._local_folder() / "mlflow").as_uri() if self._tracking == LOCAL else None
            experiment_id = self._client.create_experiment(EXPERIMENT, artifacts)
        else:
            experiment_id = experiment.experiment_id
        runs = self._client.search_runs([experiment_id], f"attributes.run_name = '{self._version}'")
        if not runs:
            return self._client.create_run(experiment_id, run_name=self._version)
        self._client.update_run(runs[0].info.run_id, "RUNNING")
        return runs[0]

    @property
    def _run_id(self) -> str:
        return self._run.info.run_id

    @cached_property
    def _n_epochs(self) -> int:
        """The number of epochs that the run has."""
        return int(self._run.data.metrics.get("epochs", 0))

    def log_params(self, params: dict[str, object]) -> None:
        from mlflow.entities import Param

        if not self._run.data.params:  # a run of this version has the same parameters
            self._client.log_batch(self._run_id, params=[Param(name, str(value)) for name, value in params.items()])

    def log_epochs(self, epochs: list[dict]) -> None:
        for n, epoch in enumerate(epochs[self._n_epochs :], start=self._n_epochs + 1):
            metrics = {f"{epoch['phase']}/{name}": epoch[name] for name in ("loss", "validation")}
            self._log_metrics(metrics | {"epochs": n}, epoch["epoch"])
            self._n_epochs = n

    def log_model(self, folder: Path, meta: dict, figures: dict) -> None:
        self._log_metrics({name: meta[name] for name in FINAL_METRICS})
        for name, figure in figures.items():
            self._client.log_figure(self._run_id, figure, f"{name}.png")
        self._client.log_artifacts(self._run_id, str(folder), "model")
        self._client.set_terminated(self._run_id)

    def log_failure(self, status: str) -> None:
        if "_run" in self.__dict__:
            self._client.set_terminated(self._run_id, status)

    def _log_metrics(self, metrics: dict[str, float | None], step: int = 0) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        entities = [Metric(name, float(value), now, step) for name, value in metrics.items() if value is not None]
        self._client.log_batch(self._run_id, entities)

    def _local_folder(self) -> Path:
        folder = models.local_root(self._models_root)
        if folder is None:
            raise UserError(f"{self._models_root} is an object store, which cannot hold it; name a server in train.tracking")
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class _TensorBoardLogger:
    """One folder per version, emptied by each process: the file of a killed process may end anywhere."""

    def __init__(self, folder: Path):
        self.name = f"TensorBoard's files in {folder}"
        self._folder = folder
        self._n_epochs = 0

    @cached_property
    def _writer(self):
        from tensorboardX import SummaryWriter

        if self._folder.exists():
            shutil.rmtree(self._folder)
        return SummaryWriter(str(self._folder))

    def log_params(self, params: dict[str, object]) -> None:
        lines = [f"| {name} | {value} |" for name, value in params.items()]
        self._writer.add_text("parameters", "\n".join(["| name | value |", "|---|---|", *lines]))

    def log_epochs(self, epochs: list[dict]) -> None:
        for epoch in epochs[self._n_epochs :]:
            for name in ("loss", "validation"):
                if epoch[name] is not None:
                    self._writer.add_scalar(f"{epoch['phase']}/{name}", epoch[name], epoch["epoch"])
        self._n_epochs = len(epochs)
        self._writer.flush()

    def log_model(self, folder: Path, meta: dict, figures: dict) -> None:
        for name in FINAL_METRICS:
            if meta[name] is not None:
                self._writer.add_scalar(f"final/{name}", meta[name])
        for name, figure in figures.items():
            self._writer.add_figure(name, figure)
        self._writer.close()

    def log_failure(self, status: str) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()


def _root_cause(error: BaseException) -> str:
    """Return the message of the first error: the libraries wrap a refused connection three times."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return " ".join(str(error).split())[:_MAX_REASON_LENGTH] or type(error).__name__


def _draw_figures(meta: dict) -> dict:
    """Return figures by name: the loss by epoch, and the error of each input compared with PCA."""
    from matplotlib.figure import Figure

    loss_figure = Figure(figsize=(7, 4), layout="constrained")
    axes = loss_figure.subplots()
    for name in ("loss", "validation"):
        values = [float("nan") if epoch[name] is None else epoch[name] for epoch in meta["epochs"]]
        axes.plot(range(1, len(values) + 1), values, label=name)
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend()

    errors = sorted(meta["errors"].items(), key=lambda item: item[1]["error"])
    error_figure = Figure(figsize=(7, 1 + 0.2 * len(errors)), layout="constrained")
    axes = error_figure.subplots()
    for shift, name, label in ((0.2, "error", "autoencoder"), (-0.2, "pca", "PCA")):
        axes.barh([index + shift for index in range(len(errors))], [error[name] for _, error in errors], 0.4, label=label)
    axes.set_yticks(range(len(errors)), [name for name, _ in errors], fontsize=7)
    axes.set(xlabel="mean squared error of test customers, scaled units", ylim=(-1, len(errors)))
    axes.legend()
    return {"loss": loss_figure, "error_by_input": error_figure}
