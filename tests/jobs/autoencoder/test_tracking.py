"""What MLflow and TensorBoard show of a training, and that a training does not hang on them."""

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

from jobs import autoencoder
from jobs.autoencoder import tracking
from jobs.config.settings import HOME, Settings
from jobs.errors import UserError
from jobs.storage import models

# A training that is killed when its checkpoint has been written 100 times, in a process that notes each address it looks up.
KILLED = """
import os, signal, socket, sys
from datetime import date
from jobs import autoencoder
from jobs.autoencoder.checkpoints import Checkpoints
from jobs.settings import Settings, Train
def noted(function):
    def noted(*arguments, **keywords):
        with open(place + "/connected", "a") as file:
            file.write(f"{arguments} ")
        return function(*arguments, **keywords)
    return noted
socket.socket.connect, socket.getaddrinfo = noted(socket.socket.connect), noted(socket.getaddrinfo)
save = Checkpoints.save
def killed(*arguments, calls=[]):
    save(*arguments)
    calls.append(1)
    if len(calls) == 100:
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoints.save = killed
place, day = sys.argv[1:]
train = Train(latent=3, hidden=(64, 32), epochs=5, checkpoint_seconds=0, tensorboard=f"{place}/curves")
roots = {"lake": f"{place}/lake", "models": f"{place}/models", "reports": "", "source": "", "input": ""}
autoencoder.run(Settings(**roots, train=train), date.fromisoformat(day), retrain=True)
"""
OUTSIDE = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_CURRENT_TEST", "DO_NOT_TRACK")}


def followed(settings: Settings, **changes) -> Settings:
    return replace(settings, train=replace(settings.train, **{"tracking": "local"} | changes))


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, shop):
    """A place where a training was killed in its third epoch and another went on, and the meta.json of its model."""
    place = tmp_path_factory.mktemp("tracked")
    settings = followed(shop.settings(place, epochs=5), tensorboard=f"{place}/curves")
    shop.write(settings.lake, shop.values())
    command = [sys.executable, "-c", KILLED, str(place), shop.day.isoformat()]
    killed = subprocess.run(command, cwd=HOME, env=OUTSIDE, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (half,) = runs(settings)
    assert (half.info.status, half.data.metrics["epochs"]) == ("RUNNING", 2)
    version = autoencoder.run(settings, shop.day, retrain=True)
    return place, settings, models.meta(settings.models, version)


def runs(settings: Settings) -> list:
    client = MlflowClient(f"sqlite:///{settings.models}/mlflow.db")
    return client.search_runs([client.get_experiment_by_name(tracking.EXPERIMENT).experiment_id])


def test_a_killed_and_resumed_training_is_one_run_with_each_epoch_once(tracked):
    _, settings, meta = tracked
    (run,) = runs(settings)
    assert (run.info.run_name, run.info.status) == (meta["version"], "FINISHED")
    client = MlflowClient(f"sqlite:///{settings.models}/mlflow.db")
    for name in ("loss", "validation"):
        told = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, f"restore/{name}")]
        assert told == [(epoch["epoch"], epoch[name]) for epoch in meta["epochs"]]


def test_a_run_says_what_was_trained_on_what_and_how_well(tracked):
    _, settings, meta = tracked
    (run,) = runs(settings)
    told = {"latent": "3", "hidden": "(64, 32)", "train": str(meta["customers"]["train"]), "inputs": str(len(meta["inputs"]))}
    told |= {"day": meta["day"], "delta_version": str(meta["delta_version"]), "policy": meta["policy"]["sha256"]}
    assert told.items() <= run.data.params.items()
    assert {name: meta[name] for name in tracking.FINAL}.items() <= run.data.metrics.items()


def test_a_run_has_the_model_and_figures(tracked):
    _, settings, meta = tracked
    (run,) = runs(settings)
    kept = Path(run.info.artifact_uri.removeprefix("file://"))
    assert kept.is_relative_to(settings.models)
    assert json.loads((kept / "model" / "meta.json").read_text()) == meta
    assert (kept / "model" / "encoder.onnx").read_bytes() == models.read(settings.models, meta["version"], "encoder.onnx")
    for name in ("loss", "error_by_input"):
        assert (kept / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_local_training_opens_no_connection(tracked):
    assert not (tracked[0] / "connected").exists()


def test_tensorboard_has_each_epoch_once_in_one_file(tracked):
    place, _, meta = tracked
    (file,) = (place / "curves" / meta["version"]).iterdir()
    values = [(value, event.step) for event in events(file) for value in event.summary.value]
    told = [(step, pytest.approx(value.simple_value)) for value, step in values if value.tag == "restore/validation"]
    assert told == [(epoch["epoch"], epoch["validation"]) for epoch in meta["epochs"]]
    assert {"final/test_error", "error_by_input", "loss"} <= {value.tag for value, _ in values}


def events(file: Path) -> list[Event]:
    """Of TensorBoard's file: each is its length, a checksum, itself, a checksum."""
    content, found = file.read_bytes(), []
    while content:
        end = 12 + int.from_bytes(content[:8], "little")
        assert int.from_bytes(content[end : end + 4], "little") == masked_crc32c(content[12:end])
        found.append(Event.FromString(content[12:end]))
        content = content[end + 4 :]
    return found


def test_a_server_that_does_not_answer_costs_a_line_and_no_model(settings, shop, capsys):
    shop.write(settings.lake, shop.values())
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{closed.getsockname()[1]}"
    version = autoencoder.run(followed(settings, tracking=server, epochs=2), shop.day, retrain=True)
    line = f"warning: not in MLflow at {server}: [Errno 111] Connection refused; the model counts all the same"
    assert models.champion(settings.models, shop.day)["version"] == version
    assert models.meta(settings.models, version)["warnings"] == [line]
    assert capsys.readouterr().out.count(line) == 1


def test_what_failed_while_the_network_learned_is_made_up_for_at_its_end(tracked):
    class Moody:
        name, got, up = "Moody", 0, False

        def begin(self, params):
            if not self.up:
                raise OSError("in no mood")

        def epochs(self, epochs):
            self.got = len(epochs)

        def end(self, *_):
            pass

    place, _, meta = tracked
    moody, said = Moody(), []
    tracker = tracking.Tracker([moody], said.append)
    tracker.begin({})
    tracker.epochs(meta["epochs"][:1])
    assert moody.got == 0, "left alone"
    moody.up = True
    assert tracker.end(place, meta) == []
    assert moody.got == len(meta["epochs"])
    assert said == ["warning: not in Moody: in no mood; the model counts all the same", "all is in Moody now"]


def test_an_object_store_cannot_hold_the_local_store_and_says_so(settings):
    said = []
    with tracking.of(replace(followed(settings), models="mock:///models"), "version", said.append) as tracker:
        tracker.begin({})
    assert "mock:///models is an object store, which cannot hold it; name a server in train.tracking" in said[0]


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"tracking": "htp://server"}, "train.tracking = 'htp://server' must be"), ({"tensorboard": "s3://x"}, "must be a folder")],
)
def test_a_place_that_is_none_is_refused_before_training(settings, changes, says):
    with pytest.raises(UserError, match=says), tracking.of(followed(settings, **changes), "version", print):
        pass


def test_a_day_without_training_loads_neither_torch_nor_mlflow(tracked, shop):
    settings = tracked[1]
    code = """
import sys
from jobs.__main__ import main
assert main(["train", "--day", sys.argv[1]]) == 99
print(sorted({"torch", "mlflow", "matplotlib", "sqlalchemy"} & sys.modules.keys()))
"""
    roots = {"SHOAL_LAKE": settings.lake, "SHOAL_MODELS": settings.models}
    command = [sys.executable, "-c", code, (shop.day + timedelta(days=1)).isoformat()]
    done = subprocess.run(command, cwd=HOME, env={**os.environ, **roots}, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
