"""What MLflow and TensorBoard show of a training, and that a training does not depend on them."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from jobs.autoencoder import tracking
from jobs.autoencoder.pipeline import run
from jobs.config.settings import HOME, Settings
from jobs.errors import UserError
from jobs.storage import models

# A training that is killed once its checkpoint has been written 100 times. Its process records each address that it looks up.
KILLED_TRAINING = """
import os, signal, socket, sys
from datetime import date
from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.pipeline import run
from jobs.config.settings import Settings, Train
def record_calls(function):
    def recorded(*arguments, **keywords):
        with open(folder + "/connected", "a") as file:
            file.write(f"{arguments} ")
        return function(*arguments, **keywords)
    return recorded
socket.socket.connect, socket.getaddrinfo = record_calls(socket.socket.connect), record_calls(socket.getaddrinfo)
save = CheckpointFile.save
def kill_after_saves(*arguments, calls=[]):
    save(*arguments)
    calls.append(1)
    if len(calls) == 100:
        os.kill(os.getpid(), signal.SIGKILL)
CheckpointFile.save = kill_after_saves
folder, day = sys.argv[1:]
train = Train(latent=3, hidden=(64, 32), epochs=5, checkpoint_seconds=0, tensorboard=f"{folder}/curves")
roots = {"lake": f"{folder}/lake", "models": f"{folder}/models", "reports": "", "source": "", "input": ""}
run(Settings(**roots, train=train), date.fromisoformat(day), retrain=True)
"""
USER_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_CURRENT_TEST", "DO_NOT_TRACK")
}


def with_tracking(settings: Settings, **changes) -> Settings:
    return replace(settings, train=replace(settings.train, **{"tracking": "local"} | changes))


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, shop):
    """Folder, settings and meta.json of a training that was killed in its third epoch and resumed by another process."""
    folder = tmp_path_factory.mktemp("tracked")
    settings = with_tracking(shop.settings(folder, epochs=5), tensorboard=f"{folder}/curves")
    shop.write(settings.lake, shop.values())
    command = [sys.executable, "-c", KILLED_TRAINING, str(folder), shop.day.isoformat()]
    killed = subprocess.run(command, cwd=HOME, env=USER_ENVIRONMENT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (killed_run,) = search_runs(settings)
    assert (killed_run.info.status, killed_run.data.metrics["epochs"]) == ("RUNNING", 2)
    version = run(settings, shop.day, retrain=True)
    return folder, settings, models.meta(settings.models, version)


def search_runs(settings: Settings) -> list:
    client = MlflowClient(f"sqlite:///{settings.models}/mlflow.db")
    return client.search_runs([client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id])


def test_a_killed_and_resumed_training_is_one_run_with_each_epoch_once(tracked):
    _, settings, meta = tracked
    (mlflow_run,) = search_runs(settings)
    assert (mlflow_run.info.run_name, mlflow_run.info.status) == (meta["version"], "FINISHED")
    client = MlflowClient(f"sqlite:///{settings.models}/mlflow.db")
    for name in ("loss", "validation"):
        metrics = client.get_metric_history(mlflow_run.info.run_id, f"restore/{name}")
        history = [(metric.step, metric.value) for metric in metrics]
        assert history == [(epoch["epoch"], epoch[name]) for epoch in meta["epochs"]]


def test_a_run_has_the_parameters_and_the_final_metrics(tracked):
    _, settings, meta = tracked
    (mlflow_run,) = search_runs(settings)
    params = {"latent": "3", "hidden": "(64, 32)", "train": str(meta["customers"]["train"]), "inputs": str(len(meta["inputs"]))}
    params |= {"day": meta["day"], "delta_version": str(meta["delta_version"]), "policy": meta["policy"]["sha256"]}
    assert params.items() <= mlflow_run.data.params.items()
    assert {name: meta[name] for name in tracking.FINAL_METRICS}.items() <= mlflow_run.data.metrics.items()


def test_a_run_has_the_model_and_figures(tracked):
    _, settings, meta = tracked
    (mlflow_run,) = search_runs(settings)
    artifacts = Path(mlflow_run.info.artifact_uri.removeprefix("file://"))
    assert artifacts.is_relative_to(settings.models)
    assert json.loads((artifacts / "model" / "meta.json").read_text()) == meta
    encoder = models.read(settings.models, meta["version"], "encoder.onnx")
    assert (artifacts / "model" / "encoder.onnx").read_bytes() == encoder
    for name in ("loss", "error_by_input"):
        assert (artifacts / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_local_training_opens_no_connection(tracked):
    assert not (tracked[0] / "connected").exists()


def test_tensorboard_has_each_epoch_once_in_one_file(tracked):
    folder, _, meta = tracked
    (file,) = (folder / "curves" / meta["version"]).iterdir()
    values = [(value, event.step) for event in read_events(file) for value in event.summary.value]
    history = [(step, pytest.approx(value.simple_value)) for value, step in values if value.tag == "restore/validation"]
    assert history == [(epoch["epoch"], epoch["validation"]) for epoch in meta["epochs"]]
    assert {"final/test_error", "error_by_input", "loss"} <= {value.tag for value, _ in values}


def read_events(file: Path) -> list[Event]:
    """Return the events of TensorBoard's file, where each is its length, a checksum, its content, a checksum."""
    content, events = file.read_bytes(), []
    while content:
        end = 12 + int.from_bytes(content[:8], "little")
        assert int.from_bytes(content[end : end + 4], "little") == masked_crc32c(content[12:end])
        events.append(Event.FromString(content[12:end]))
        content = content[end + 4 :]
    return events


def test_a_server_that_does_not_answer_costs_a_line_and_not_the_model(settings, shop, capsys):
    shop.write(settings.lake, shop.values())
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{closed.getsockname()[1]}"
    version = run(with_tracking(settings, tracking=server, epochs=2), shop.day, retrain=True)
    line = f"warning: not logged to MLflow at {server}: [Errno 111] Connection refused; the model is not affected"
    assert models.champion(settings.models, shop.day)["version"] == version
    assert models.meta(settings.models, version)["warnings"] == [line]
    assert capsys.readouterr().out.count(line) == 1


def test_a_logger_that_failed_during_the_training_gets_everything_at_its_end(tracked):
    class UnreliableLogger:
        name, n_epochs, is_up = "Unreliable", 0, False

        def log_params(self, params):
            if not self.is_up:
                raise OSError("not available")

        def log_epochs(self, epochs):
            self.n_epochs = len(epochs)

        def log_model(self, *_):
            pass

    folder, _, meta = tracked
    logger, log_lines = UnreliableLogger(), []
    tracker = tracking.Tracker([logger], log_lines.append)
    tracker.log_params({})
    tracker.log_epochs(meta["epochs"][:1])
    assert logger.n_epochs == 0, "skipped after it failed"
    logger.is_up = True
    assert tracker.log_model(folder, meta) == []
    assert logger.n_epochs == len(meta["epochs"])
    assert log_lines == [
        "warning: not logged to Unreliable: not available; the model is not affected",
        "Unreliable has everything now",
    ]


def test_an_object_store_cannot_hold_the_local_store(settings):
    log_lines = []
    settings = replace(with_tracking(settings), models="mock:///models")
    with tracking.open_tracker(settings, "version", log_lines.append) as tracker:
        tracker.log_params({})
    assert "mock:///models is an object store, which cannot hold it; name a server in train.tracking" in log_lines[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"tracking": "htp://server"}, "train.tracking = 'htp://server' must be"), ({"tensorboard": "s3://x"}, "must be a folder")],
)
def test_a_place_that_cannot_be_tracked_to_is_an_error_before_training(settings, changes, message):
    with (
        pytest.raises(UserError, match=message),
        tracking.open_tracker(with_tracking(settings, **changes), "version", print),
    ):
        pass


def test_a_day_without_training_imports_neither_torch_nor_mlflow(tracked, shop):
    settings = tracked[1]
    code = """
import sys
from jobs.__main__ import main
assert main(["train", "--day", sys.argv[1]]) == 99
print(sorted({"torch", "mlflow", "matplotlib", "sqlalchemy"} & sys.modules.keys()))
"""
    roots = {"SHOAL_LAKE": settings.lake, "SHOAL_MODELS": settings.models}
    command = [sys.executable, "-c", code, (shop.day + timedelta(days=1)).isoformat()]
    process = subprocess.run(command, cwd=HOME, env={**os.environ, **roots}, capture_output=True, text=True)
    assert process.stdout.splitlines()[-1] == "[]", process.stderr
