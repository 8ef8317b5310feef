import pytest
import torch

from jobs.autoencoder import losses
from jobs.autoencoder.checkpoints import Checkpoints
from jobs.autoencoder.examples import Examples
from jobs.autoencoder.loop import Phase, fit
from jobs.config.settings import Train
from jobs.errors import UserError


@pytest.fixture
def learn(points, network, tmp_path):
    """Trains a network of two dimensions on `points`: its model, epochs and what was said."""

    def learn(loss=None, error=None, **settings):
        settings = Train(hidden=(8,), **{"epochs": 8, "patience": 8} | settings)
        torch.manual_seed(1)
        model, said = network(latent=2, hidden=(8,)), []
        made = loss(model) if loss else losses.restoring(model, settings)
        phase = Phase("restore", made, settings.epochs, settings.learning_rate, error(model) if error else None)
        checkpoints = Checkpoints(str(tmp_path), "version", settings.checkpoint_seconds)
        return model, fit(model, [phase], Examples.of([points], k=5), settings, checkpoints, said.append), said

    return learn


def weights(model) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_the_weights_of_the_best_epoch_stay(learn):
    seen = {}

    def error(model):
        errors = iter([3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])

        def next_error():
            found = next(errors)
            seen[found] = weights(model)
            return found

        return next_error

    model, epochs, _ = learn(error=error, patience=2)
    assert [epoch["validation"] for epoch in epochs] == [3.0, 2.0, 1.0, 2.0, 3.0]
    assert torch.equal(weights(model), seen[1.0])


def test_the_loss_falls(learn):
    losses = [epoch["loss"] for epoch in learn(epochs=20, learning_rate=0.01)[1]]
    assert losses[-1] < 0.5 * losses[0]


def test_many_customers_need_fewer_epochs(learn):
    assert len(learn(epochs=50, max_steps=70, batch_size=6)[1]) == 2  # 200 customers are 34 batches of 6


def test_a_batch_too_large_for_the_memory_is_learned_from_in_pieces(learn):
    def short_of_memory(model):
        whole = losses.restoring(model, Train(hidden=(8,)))

        def loss(customers, around, mine):
            if len(customers[mine]) > 3:
                raise torch.OutOfMemoryError
            return whole(customers, around, mine)

        return loss

    in_pieces, _, said = learn(loss=short_of_memory, batch_size=6)
    assert "each batch is learned from in 2 pieces" in said[0]
    torch.testing.assert_close(weights(in_pieces), weights(learn(batch_size=6)[0]), atol=1e-6, rtol=0)


def test_where_not_one_customer_fits_it_ends_in_one_line(learn):
    def loss(*_):
        raise torch.OutOfMemoryError

    with pytest.raises(UserError, match="not even one customer at a time fits into the GPU's memory"):
        learn(loss=lambda _: loss)


def test_a_loss_that_is_no_number_ends_in_one_line(learn):
    with pytest.raises(UserError, match=r"the loss is no number after epoch 1; lower train.learning_rate \(it is 0.001\)"):
        learn(loss=lambda model: lambda customers, *_: model.encoder(customers).sum(dim=1) * torch.nan)


def test_a_checkpoint_of_another_network_is_refused(learn, tmp_path):
    Checkpoints(str(tmp_path), "version", 0).save({"weight.encoder.0.weight": torch.zeros(2)}, {})
    with pytest.raises(UserError, match="is of another network; remove it"):
        learn()
