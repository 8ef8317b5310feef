"""The losses of the sequence encoder: two slices of one customer are alike, and a state predicts the next event."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from jobs.autoencoder.sequence_examples import SequenceExamples
from jobs.autoencoder.sequence_model import SequenceEncoder
from jobs.autoencoder.trainer import Loss, Rows

TEMPERATURE = 0.1
MIN_EVENTS = 6  # of customers whose slices are compared: those of a shorter history are all but the same
PREDICTIONS = 512  # next events of a batch that are predicted, chosen at random: each costs as much as the vocabulary is large


def sequence_loss(model: SequenceEncoder) -> Loss:
    """Return the loss of a batch of SequenceExamples: of its slices (n_slices, length, n_fields) and lengths (n_slices,)."""
    return partial(_sequence_loss, model)


def _sequence_loss(model: SequenceEncoder, codes: Tensor, lengths: Tensor, rows: Rows) -> Tensor:
    codes, lengths = codes[rows], lengths[rows]
    contrast = contrastive_loss(model(codes, lengths), lengths)
    firsts, first_lengths = codes[::2], lengths[::2]  # of the two slices of a customer one is enough to predict
    prediction = next_event_loss(model, model.compute_states(firsts), firsts, first_lengths)
    return contrast + prediction.repeat_interleave(2)


def contrastive_loss(vectors: Tensor, lengths: Tensor) -> Tensor:
    """Return for each slice (n_slices,) the cross entropy of finding the other slice of its customer among all of the batch.

    Slices 2i and 2i + 1 are of one customer (Babaev et al. 2022, with the loss of Chen et al. 2020). Customers with few events
    have 0.
    """
    places = torch.arange(len(vectors), device=vectors.device)
    similarity = (vectors @ vectors.T).float() / TEMPERATURE
    similarity = similarity.masked_fill(places[:, None] == places, -torch.inf)
    pair = torch.maximum(lengths, lengths[places ^ 1])
    return functional.cross_entropy(similarity, places ^ 1, reduction="none") * (pair >= MIN_EVENTS)


def next_event_loss(model: SequenceEncoder, states: Tensor, codes: Tensor, lengths: Tensor) -> Tensor:
    """Return for each slice (n_slices,) its part of the batch's mean cross entropy of the next event's codes."""
    is_followed = torch.arange(states.shape[1] - 1, device=states.device) < (lengths - 1)[:, None]
    slices, steps = is_followed.nonzero(as_tuple=True)
    chosen = torch.randperm(len(slices), device=slices.device)[:PREDICTIONS]
    slices, steps = slices[chosen], steps[chosen]
    targets = codes[slices, steps + 1]
    logits = model.predict_codes(states[slices, steps])
    errors = [functional.cross_entropy(of_field.float(), targets[:, n], reduction="none") for n, of_field in enumerate(logits)]
    per_prediction = torch.stack(errors).sum(dim=0) / len(slices) * len(states)
    return torch.zeros(len(states), device=states.device).index_add(0, slices, per_prediction)


@torch.no_grad()
def validation_loss(model: SequenceEncoder, held_out: SequenceExamples, batch_size: int, seed: int) -> float:
    """Return the mean loss of held-out customers, by the same slices each time."""
    random = torch.Generator().manual_seed(seed)
    total, n_slices = 0.0, 0
    for codes, lengths in held_out.iterate_batches(batch_size, random, str(model.starts.device)):
        torch.manual_seed(seed)
        total += float(_sequence_loss(model, codes, lengths, slice(None)).sum())
        n_slices += len(codes)
    return total / n_slices
