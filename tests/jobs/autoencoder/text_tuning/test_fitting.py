"""A tuning that was stopped continues from its checkpoint and gives the same weights; its limits end it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.text_tuning.base_model import read_base_model
from jobs.autoencoder.text_tuning.fitting import Tuner
from jobs.autoencoder.text_tuning.objectives import ContrastiveObjective
from jobs.autoencoder.text_tuning.pairs import SEARCH, build_pairs
from jobs.autoencoder.text_tuning.tokens import TokenizedTexts
from jobs.errors import UserError


@pytest.fixture
def make_tuner(settings, tmp_path):
    """A function that returns a tuner of 4 batches an epoch, with a checkpoint after every batch."""
    pairs = build_pairs(SEARCH, {(f"zorb{n} styl{n % 5}", f"quil{n} make{n % 3}"): 8 for n in range(10)})

    def make(name: str, **changes) -> tuple[Tuner, list[str]]:
        tuning = replace(settings.tuning, **({"batch_size": 20, "epochs": 3, "patience": 3} | changes))
        base, log = read_base_model(tuning.base), []
        encoder = base.build_encoder()
        tokenized = TokenizedTexts(base.tokenizer, np.union1d(pairs.queries, pairs.names).tolist(), tuning.max_length)
        objective = ContrastiveObjective(encoder, tokenized, pairs, tuning, "cpu")
        checkpoint = CheckpointFile(str(tmp_path / "models"), name, 0.0)
        tuner = Tuner(encoder, objective, lambda: float(tuner.progress.step), tuning, checkpoint, log.append)
        return tuner, log

    return make


def read_weights(tuner: Tuner) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in tuner.weights])


def test_a_stopped_tuning_continues_where_it_was(make_tuner):
    whole, _ = make_tuner("whole")
    whole.fit()
    stopped, _ = make_tuner("stopped")
    train_batch, batches = stopped._train_batch, iter(range(6))

    def stop_later(batch):
        next(batches)  # raises StopIteration in the second epoch
        return train_batch(batch)

    stopped._train_batch = stop_later
    with pytest.raises(StopIteration):
        stopped.fit()
    resumed, log = make_tuner("stopped")
    resumed.fit()
    assert log[0] == "resumes from epoch 2, batch 2"
    assert torch.equal(read_weights(resumed), read_weights(whole))


def test_the_weights_of_the_best_epoch_are_kept_and_those_of_the_start_where_no_epoch_is_better(make_tuner):
    falling = iter([5.0, 4.0, 3.0, 2.0])
    tuner, _ = make_tuner("falling", patience=2)
    tuner.validate = lambda: next(falling)
    start = read_weights(tuner)
    progress = tuner.fit()
    assert progress.best_epoch == 0
    assert [epoch["epoch"] for epoch in progress.epochs] == [0, 1, 2]
    assert torch.equal(read_weights(tuner), start)


def test_steps_and_minutes_end_a_tuning(make_tuner):
    assert make_tuner("steps", max_steps=6)[0].fit().step == 6
    tuner, log = make_tuner("minutes", max_minutes=0.0)
    assert tuner.fit().step == 1
    assert any("tuning.max_minutes" in line for line in log)


def test_the_checkpoint_of_another_network_is_refused(make_tuner):
    make_tuner("same")[0].fit()
    with pytest.raises(UserError, match="belongs to another network"):
        make_tuner("same", trained_layers=1)[0].fit()


def test_the_same_name_in_a_batch_is_no_wrong_answer(make_tuner):
    tuner, _ = make_tuner("loss")
    pair = np.array([0])
    assert tuner.objective.loss(np.repeat(pair, 4)).item() == pytest.approx(0.0)
