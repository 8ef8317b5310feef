"""A training as other tools show it: a run in MLflow's local store or on its server, and TensorBoard's files.

What goes wrong here is said in one line and kept in meta.json; it costs no model.
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
FINAL = ("test_error", "test_error_pca", "trustworthiness", "trustworthiness_pca", "best_epoch", "seconds")
_NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true"}
# Where the environment does not say otherwise; MLflow itself asks a server that hangs for a quarter of an hour, each time.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "300",
}
_LONGEST = 300  # letters of a warning


class Tracker:
    """All who follow one training. Who fails while the network learns is asked again only at its end, and then gets all."""

    def __init__(self, followers: list["_MLflow | _TensorBoard"], say: Callable[[str], None]):
        self._followers, self._say = followers, say
        self._warnings: dict[str, str] = {}  # by follower
        self._said: set[str] = set()
        self._params: dict[str, object] = {}

    def begin(self, params: dict[str, object]) -> None:
        """What is known before the first epoch."""
        self._params = params
        self._tell(lambda follower: follower.begin(params))

    def epochs(self, epochs: list[dict]) -> None:
        """All epochs so far, as of loop.fit."""
        self._tell(lambda follower: follower.epochs(epochs))

    def end(self, folder: Path, facts: dict) -> list[str]:
        """The model in `folder` and what meta.json says of it; returns a line for each who does not have all."""
        before, self._warnings = set(self._warnings), {}

        def end(follower: "_MLflow | _TensorBoard") -> None:
            if follower.name in before:
                follower.begin(self._params)
            follower.epochs(facts["epochs"])
            follower.end(folder, facts, _figures(facts))
            if follower.name in before:
                self._say(f"all is in {follower.name} now")

        self._tell(end)
        return list(self._warnings.values())

    def fail(self, status: str) -> None:
        """The training ended without a model."""
        self._tell(lambda follower: follower.fail(status))

    def _tell(self, act: Callable) -> None:
        for follower in self._followers:
            if follower.name in self._warnings:
                continue
            try:
                act(follower)
            except Exception as error:  # of whatever kind: the libraries below have many
                line = f"warning: not in {follower.name}: {_reason(error)}; the model counts all the same"
                self._warnings[follower.name] = line
                if line not in self._said:
                    self._say(line)
                self._said.add(line)


@contextmanager
def of(settings: Settings, version: str, say: Callable[[str], None]) -> Iterator[Tracker]:
    """The tracker of the training of `version`, as the settings say. Raises UserError for what is no place to track at."""
    where, folder = settings.train.tracking, settings.train.tensorboard
    followers: list[_MLflow | _TensorBoard] = []
    if where:
        if where != LOCAL and not where.startswith(("http://", "https://")):
            raise UserError(f"train: train.tracking = '{where}' must be {LOCAL}, the address of an MLflow server, or empty")
        followers.append(_MLflow(where, settings.models, version))
    if folder:
        if "://" in folder:
            raise UserError(f"train: train.tensorboard = '{folder}' must be a folder of this machine, or empty")
        followers.append(_TensorBoard(Path(folder) / version))
    tracker = Tracker(followers, say)
    try:
        yield tracker
    except BaseException as reason:
        tracker.fail("FAILED" if isinstance(reason, Exception) else "KILLED")
        raise


class _MLflow:
    """One run by version: a training that goes on, or is done again, goes on in the run it had."""

    def __init__(self, where: str, root: str, version: str):
        self.name = f"MLflow at {where}" if where != LOCAL else "MLflow's local store"
        self._where, self._root, self._version = where, root, version

    @cached_property
    def _client(self):
        os.environ.update(_PATIENCE | os.environ | _NO_TELEMETRY)
        from mlflow import MlflowClient  # two seconds, and only where a network is trained

        if self._where != LOCAL:
            return MlflowClient(self._where)
        return MlflowClient(f"sqlite:///{self._place() / 'mlflow.db'}")

    @cached_property
    def _run(self):
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            artifacts = (self._place() / "mlflow").as_uri() if self._where == LOCAL else None
            number = self._client.create_experiment(EXPERIMENT, artifacts)
        else:
            number = experiment.experiment_id
        found = self._client.search_runs([number], f"attributes.run_name = '{self._version}'")
        if not found:
            return self._client.create_run(number, run_name=self._version)
        self._client.update_run(found[0].info.run_id, "RUNNING")
        return found[0]

    @cached_property
    def _n_epochs(self) -> int:
        """How many the run has."""
        return int(self._run.data.metrics.get("epochs", 0))

    def begin(self, params: dict[str, object]) -> None:
        from mlflow.entities import Param

        if not self._run.data.params:  # else they are the same, as the version is
            self._client.log_batch(self._number, params=[Param(name, str(value)) for name, value in params.items()])

    def epochs(self, epochs: list[dict]) -> None:
        for n, epoch in enumerate(epochs[self._n_epochs :], start=self._n_epochs + 1):
            values = {f"{epoch['phase']}/{name}": epoch[name] for name in ("loss", "validation")}
            self._log(values | {"epochs": n}, epoch["epoch"])
            self._n_epochs = n

    def end(self, folder: Path, facts: dict, figures: dict) -> None:
        self._log({name: facts[name] for name in FINAL})
        for name, figure in figures.items():
            self._client.log_figure(self._number, figure, f"{name}.png")
        self._client.log_artifacts(self._number, str(folder), "model")
        self._client.set_terminated(self._number)

    def fail(self, status: str) -> None:
        if "_run" in self.__dict__:
            self._client.set_terminated(self._number, status)

    @property
    def _number(self) -> str:
        return self._run.info.run_id

    def _log(self, values: dict[str, float | None], step: int = 0) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        metrics = [Metric(name, float(value), now, step) for name, value in values.items() if value is not None]
        self._client.log_batch(self._number, metrics)

    def _place(self) -> Path:
        place = models.local_root(self._root)
        if place is None:
            raise UserError(f"{self._root} is an object store, which cannot hold it; name a server in train.tracking")
        place.mkdir(parents=True, exist_ok=True)
        return place


class _TensorBoard:
    """One folder by version, begun anew by each process: there is no telling what a killed one left in its file."""

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

    def begin(self, params: dict[str, object]) -> None:
        lines = [f"| {name} | {value} |" for name, value in params.items()]
        self._writer.add_text("parameters", "\n".join(["| name | value |", "|---|---|", *lines]))

    def epochs(self, epochs: list[dict]) -> None:
        for epoch in epochs[self._n_epochs :]:
            for name in ("loss", "validation"):
                if epoch[name] is not None:
                    self._writer.add_scalar(f"{epoch['phase']}/{name}", epoch[name], epoch["epoch"])
        self._n_epochs = len(epochs)
        self._writer.flush()

    def end(self, folder: Path, facts: dict, figures: dict) -> None:
        for name in FINAL:
            if facts[name] is not None:
                self._writer.add_scalar(f"final/{name}", facts[name])
        for name, figure in figures.items():
            self._writer.add_figure(name, figure)
        self._writer.close()

    def fail(self, status: str) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()


def _reason(error: BaseException) -> str:
    """What it came from: the libraries wrap a refused connection thrice."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__


def _figures(facts: dict) -> dict:
    """By name: the loss by epoch, and the error of each input beside that of a PCA."""
    from matplotlib.figure import Figure

    curve = Figure(figsize=(7, 4), layout="constrained")
    axes = curve.subplots()
    for name in ("loss", "validation"):
        values = [float("nan") if epoch[name] is None else epoch[name] for epoch in facts["epochs"]]
        axes.plot(range(1, len(values) + 1), values, label=name)
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend()

    errors = sorted(facts["errors"].items(), key=lambda named: named[1]["error"])
    bars = Figure(figsize=(7, 1 + 0.2 * len(errors)), layout="constrained")
    axes = bars.subplots()
    for shift, name, label in ((0.2, "error", "autoencoder"), (-0.2, "pca", "PCA")):
        axes.barh([place + shift for place in range(len(errors))], [error[name] for _, error in errors], 0.4, label=label)
    axes.set_yticks(range(len(errors)), [name for name, _ in errors], fontsize=7)
    axes.set(xlabel="mean squared error of test customers, scaled units", ylim=(-1, len(errors)))
    axes.legend()
    return {"loss": curve, "error_by_input": bars}
