"""The sequence encoder: what it learns, that ONNX gives the same, and that a killed training resumes."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import pyarrow as pa
import pytest
import torch

from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.customers import hash_ids
from jobs.autoencoder.sequence_losses import contrastive_loss
from jobs.autoencoder.sequence_training import hash_sequences, train_sequence_encoder
from jobs.config.settings import HOME, Sequence, Settings
from jobs.errors import UserError
from jobs.event_sequences import encode_sequences, open_encoder, read_event_sequences
from tests.jobs.shop_sequences import DAY, to_rows, write_rows

IDS = [f"customer-{number}" for number in range(150)]
SMALL = Sequence(width=16, dimension=4, epochs=3, batch_size=16, max_events=12)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("lake"))
    write_rows(folder, to_rows(IDS[:-1]))  # the last one has no event
    return folder


def to_settings(lake, models, sequence=SMALL):
    roots = {"lake": lake, "models": str(models), "reports": "", "source": "", "input": ""}
    settings = Settings(**roots, sequence=sequence)
    return replace(settings, train=replace(settings.train, checkpoint_seconds=0.0))


def train(settings):
    checkpoint = CheckpointFile(settings.models, "v1-sequence", settings.train.checkpoint_seconds)
    ids = pa.array(IDS)
    return train_sequence_encoder(settings, DAY, ids, hash_ids(ids), checkpoint, lambda _: None)


@pytest.mark.parametrize("encoder", ["gru", "transformer"])
def test_the_vectors_tell_customers_apart_by_what_they_do_in_order(lake, tmp_path, encoder):
    trained = train(to_settings(lake, tmp_path, replace(SMALL, encoder=encoder, epochs=4)))
    vectors = encode_sequences(trained.content, trained.sequences)

    losses = [epoch["validation"] for epoch in trained.meta["epochs"]]
    is_buyer = np.arange(149) % 2 == 1
    distances = [np.linalg.norm(vectors[:-1] - vectors[:-1][group].mean(axis=0), axis=1) for group in (is_buyer, ~is_buyer)]
    assert losses[-1] < losses[0]
    assert vectors.shape == (150, 4)
    assert np.isnan(vectors[-1]).all()
    assert np.allclose(np.linalg.norm(vectors[:-1], axis=1), 1, atol=1e-5)
    assert ((distances[0] < distances[1]) == is_buyer).mean() > 0.85


def test_a_vector_depends_on_the_customers_own_events_alone(lake, tmp_path):
    trained = train(to_settings(lake, tmp_path))
    alone = read_event_sequences(lake, DAY, pa.array(IDS[7:8]), SMALL.max_events)
    together = encode_sequences(trained.content, trained.sequences)
    assert np.allclose(encode_sequences(trained.content, alone)[0], together[7], atol=1e-6)


def test_two_slices_of_a_customer_are_compared_with_the_slices_of_others():
    near = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), dim=1)
    far = near[[0, 2, 1, 3]]
    long, short = torch.full((4,), 9), torch.full((4,), 2)
    assert contrastive_loss(near, long).mean() < 0.1 < 2 < contrastive_loss(far, long).mean()
    assert contrastive_loss(far, short).tolist() == [0, 0, 0, 0]


def test_too_few_customers_with_events_give_no_encoder_and_say_so(lake, tmp_path):
    settings, lines = to_settings(lake, tmp_path), []
    ids = pa.array(IDS[:20])
    checkpoint = CheckpointFile(settings.models, "v1", 1.0)
    assert train_sequence_encoder(settings, DAY, ids, hash_ids(ids), checkpoint, lines.append) is None
    assert lines == ["no sequence encoder: 20 customers have two events or more, 50 are needed"]
    off = to_settings(lake, tmp_path, replace(SMALL, encoder="none"))
    assert train(off) is None
    assert hash_sequences(off, DAY, pa.array(IDS)) == []


def test_what_the_encoder_depends_on_is_in_the_hash(lake, tmp_path):
    settings = to_settings(lake, tmp_path)
    inputs = hash_sequences(settings, DAY, pa.array(IDS))
    assert inputs == hash_sequences(settings, DAY, pa.array(IDS))
    assert inputs != hash_sequences(settings, DAY, pa.array(IDS[1:]))
    assert inputs != hash_sequences(to_settings(lake, tmp_path, replace(SMALL, width=24)), DAY, pa.array(IDS))


def test_a_damaged_file_gives_one_clear_line():
    with pytest.raises(UserError, match=r"^models: the sequence encoder cannot be read .*train again"):
        open_encoder(b"no graph")


def test_an_encoder_of_an_earlier_version_is_named_in_one_clear_line():
    graph = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        earlier (int64[n, l, 6] codes) => (int64[n, l, 6] vector) { vector = Identity(codes) }
    """)
    with pytest.raises(UserError, match=r"^models: the sequence encoder reads 6 fields of an event, and events have 9"):
        open_encoder(graph.SerializeToString())


KILLED = """
import os, signal, sys
from jobs.autoencoder.checkpoint import CheckpointFile
from tests.jobs.autoencoder.test_sequence_training import to_settings, train
save, calls = CheckpointFile.save, []
def kill_after_save(*arguments):
    save(*arguments)
    calls.append(0)
    if len(calls) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
CheckpointFile.save = kill_after_save
train(to_settings(*sys.argv[1:]))
"""


def test_a_killed_training_resumes_and_gives_the_same_vectors(lake, tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, lake, tmp_path / "killed"], cwd=HOME, check=False)
    assert killed.returncode == -9
    assert list((tmp_path / "killed/autoencoder").glob(".checkpoint-*"))
    resumed, whole = (train(to_settings(lake, tmp_path / name)) for name in ("killed", "whole"))
    vectors = [encode_sequences(trained.content, trained.sequences)[:-1] for trained in (resumed, whole)]
    assert len(resumed.meta["epochs"]) == len(whole.meta["epochs"])
    assert np.allclose(*vectors, atol=1e-5)
