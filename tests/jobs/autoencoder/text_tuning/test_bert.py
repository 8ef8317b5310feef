"""The encoder gives what the transformers library gives for the same weights."""

import torch

from jobs.autoencoder.text_tuning.bert import Encoder, Shape

# The second token of each text by BertModel of transformers 5.24.0.
EXPECTED = [
    [1.149237, 0.927867, -0.759209, -0.332699, 0.206402, -1.218753, -0.230202, -0.371894],
    [1.14924, 0.927865, -0.759224, -0.332677, 0.206381, -1.218756, -0.230219, -0.371919],
]


def build_encoder() -> Encoder:
    """Return an encoder whose weights are a sine, so that another library can have the same ones."""
    encoder = Encoder(Shape(words=11, positions=6, types=2, hidden=8, inner=12, layers=2, heads=2)).eval()
    for number, (_, weights) in enumerate(sorted(encoder.state_dict().items())):
        values = torch.sin(torch.arange(weights.numel(), dtype=torch.float64) * 0.7 + number)
        weights.copy_(values.reshape(weights.shape).float())
    return encoder


@torch.no_grad()
def test_the_vectors_of_tokens_are_those_of_the_reference():
    ids = torch.tensor([[2, 5, 9, 3], [2, 7, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    states = build_encoder()(ids, mask, torch.zeros_like(ids))
    torch.testing.assert_close(states[:, 1], torch.tensor(EXPECTED), rtol=0, atol=2e-6)


def test_only_the_top_layers_are_trained():
    encoder = build_encoder()
    trained = encoder.train_top(1)
    assert {id(weight) for weight in trained} == {id(weight) for weight in encoder.layers[1].parameters()}
    assert sum(weight.requires_grad for weight in encoder.parameters()) == len(trained)
    assert [layer.training for layer in encoder.train().layers] == [False, True]
