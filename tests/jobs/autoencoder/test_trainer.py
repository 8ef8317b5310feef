import pytest
import torch

from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.examples import Examples
from jobs.autoencoder.losses import denoising_loss
from jobs.autoencoder.trainer import Phase, train_phases
from jobs.config.settings import Train
from jobs.errors import UserError


@pytest.fixture
def train(points, make_network, tmp_path):
    """A function that trains a network of two dimensions on `points` and returns model, epochs and log lines."""

    def train(make_loss=None, make_validate=None, **settings):
        settings = Train(hidden=(8,), **{"epochs": 8, "patience": 8} | settings)
        torch.manual_seed(1)
        model, log_lines = make_network(latent=2, hidden=(8,)), []
        loss = make_loss(model) if make_loss else denoising_loss(model, settings)
        validate = make_validate(model) if make_validate else None
        phase = Phase("restore", loss, settings.epochs, settings.learning_rate, validate)
        checkpoint = CheckpointFile(str(tmp_path), "version", settings.checkpoint_seconds)
        examples = Examples.from_imputations([points], k=5)
        return model, train_phases(model, [phase], examples, settings, checkpoint, log_lines.append), log_lines

    return train


def weights(model) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_the_weights_of_the_best_epoch_are_kept(train):
    weights_by_error = {}

    def make_validate(model):
        errors = iter([3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])

        def validate():
            error = next(errors)
            weights_by_error[error] = weights(model)
            return error

        return validate

    model, epochs, _ = train(make_validate=make_validate, patience=2)
    assert [epoch["validation"] for epoch in epochs] == [3.0, 2.0, 1.0, 2.0, 3.0]
    assert torch.equal(weights(model), weights_by_error[1.0])


def test_the_loss_falls(train):
    losses = [epoch["loss"] for epoch in train(epochs=20, learning_rate=0.01)[1]]
    assert losses[-1] < 0.5 * losses[0]


def test_max_steps_limits_the_epochs(train):
    assert len(train(epochs=50, max_steps=70, batch_size=6)[1]) == 2  # 200 customers are 34 batches of 6


def test_a_batch_too_large_for_the_memory_is_processed_in_pieces(train):
    def make_loss_short_of_memory(model):
        loss_of_batch = denoising_loss(model, Train(hidden=(8,)))

        def loss(customers, neighbour_means, rows):
            if len(customers[rows]) > 3:
                raise torch.OutOfMemoryError
            return loss_of_batch(customers, neighbour_means, rows)

        return loss

    model, _, log_lines = train(make_loss=make_loss_short_of_memory, batch_size=6)
    assert "each batch is processed in 2 pieces" in log_lines[0]
    torch.testing.assert_close(weights(model), weights(train(batch_size=6)[0]), atol=1e-6, rtol=0)


def test_memory_too_small_for_one_customer_ends_in_one_line(train):
    def loss(*_):
        raise torch.OutOfMemoryError

    with pytest.raises(UserError, match="not even one customer at a time fits into the GPU's memory"):
        train(make_loss=lambda _: loss)


def test_a_loss_that_is_not_a_number_ends_in_one_line(train):
    with pytest.raises(UserError, match=r"the loss is not a number after epoch 1; lower train.learning_rate \(it is 0.001\)"):
        train(make_loss=lambda model: lambda customers, *_: model.encoder(customers).sum(dim=1) * torch.nan)


def test_a_checkpoint_of_another_network_is_an_error(train, tmp_path):
    CheckpointFile(str(tmp_path), "version", 0).save({"weight.encoder.0.weight": torch.zeros(2)}, {})
    with pytest.raises(UserError, match="belongs to another network; remove it"):
        train()
