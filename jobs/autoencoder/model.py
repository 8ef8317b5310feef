"""The network: preprocessing, an encoder to a short vector, and two decoders.

One decoder restores the customers who are most alike, from whom the encoder learns which differences matter: what a customer
shares with his neighbours is kept, what is his alone is not. The other restores the customer himself from the vector as it
is; it tells how much the vector holds, and teaches the encoder nothing.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from jobs.autoencoder.preprocessing import Numbers, Preprocess, groups
from jobs.settings import Train

ROWS_AT_ONCE = 65536


@dataclass(frozen=True)
class Sizes:
    """Widths of the layers: inputs -> *hidden -> latent -> *reversed hidden -> inputs, and what lies between them."""

    inputs: int  # columns after preprocessing
    latent: int
    hidden: tuple[int, ...]
    dropout: float = 0.0
    layer_norm: bool = False

    @classmethod
    def of(cls, inputs: int, settings: Train) -> "Sizes":
        return cls(inputs, settings.latent, settings.hidden, settings.dropout, settings.layer_norm)


class Autoencoder(nn.Module):
    """Features and attributes in, vector and reconstruction error out; preprocessing is a part of it."""

    def __init__(self, sizes: Sizes, numbers: Numbers):
        super().__init__()
        self.sizes = sizes
        self.preprocess = Preprocess(numbers)
        self.groups = groups(numbers)
        # Of a category's column, what was taken from its 0 or 1 and by what that was divided.
        places = torch.from_numpy(numbers.selected - len(numbers.fill)).clamp_min(0)
        for name, values in (("category_mean", numbers.extra_mean), ("category_scale", numbers.extra_scale)):
            values = torch.from_numpy(values)[places] if len(values) else torch.zeros(len(places))
            self.register_buffer(name, values, persistent=False)
        widths = [sizes.inputs, *sizes.hidden, sizes.latent]
        self.encoder = _network(sizes, widths)
        self.decoder = _network(sizes, widths[::-1])
        self.neighbourhood = _network(sizes, widths[::-1])
        # The published vector: the latent turned to its principal axes, the first varying most.
        self.register_buffer("latent_mean", torch.zeros(sizes.latent))
        self.register_buffer("latent_axes", torch.eye(sizes.latent))

    def forward(self, features: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """As of Preprocess.forward -> vector (n x latent), mean squared error in scaled units (n)."""
        inputs = self.preprocess(features, codes)
        latent = self.encoder(inputs)
        return (latent - self.latent_mean) @ self.latent_axes, self.squared_errors(inputs).mean(dim=1)

    @torch.no_grad()
    def encode(self, inputs: Tensor) -> Tensor:
        """The latent (n x latent) of preprocessed customers (n x inputs), in parts, wherever these are."""
        device = self.latent_mean.device
        return torch.cat([self.encoder(part.to(device)) for part in inputs.split(ROWS_AT_ONCE)])

    def squared_errors(self, inputs: Tensor) -> Tensor:
        """By which the decoder is off preprocessed customers (n x inputs), in scaled units."""
        return (self.restored(self.decoder(self.encoder(inputs))) - inputs).square()

    def restored(self, decoded: Tensor) -> Tensor:
        """What a decoder says (n x inputs) as preprocessed customers: an attribute's numbers are logits of its categories."""
        parts, at = [], 0
        for group in self.groups:
            probabilities = _with_rest(decoded[:, group]).softmax(dim=1)[:, :-1]
            parts += [decoded[:, at : group.start], (probabilities - self.category_mean[group]) / self.category_scale[group]]
            at = group.stop
        return torch.cat([*parts, decoded[:, at:]], dim=1) if parts else decoded

    def misfit(self, decoded: Tensor, wanted: Tensor) -> Tensor:
        """Loss (n) of decoders' numbers against customers (n x inputs each), per column: squared errors of numbers, and
        cross-entropy for the categories of an attribute, of which a customer may have several by shares."""
        squares = (decoded - wanted).square()
        total, at = 0, 0
        for group in self.groups:
            shares = wanted[:, group] * self.category_scale[group] + self.category_mean[group]
            shares = torch.cat([shares, 1 - shares.sum(dim=1, keepdim=True)], dim=1)
            entropy = -(shares * _with_rest(decoded[:, group]).log_softmax(dim=1)).sum(dim=1)
            total = total + squares[:, at : group.start].sum(dim=1) + entropy
            at = group.stop
        return (total + squares[:, at:].sum(dim=1)) / wanted.shape[1]

    @torch.no_grad()
    def set_axes(self, scaled: Tensor) -> None:
        """Turn the vector to the principal axes of the latent of `scaled` (n x d), at unit variance on average."""
        mean, axes, variances = principal_axes(self.encode(scaled))
        self.latent_mean.copy_(mean)
        self.latent_axes.copy_(axes / variances.mean().sqrt().clamp_min(1e-6))


def principal_axes(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d), axes as columns (d x d, most variance first, largest entry positive) and variances (d) of n points."""
    mean = sum(part.sum(dim=0, dtype=torch.float64) for part in points.split(ROWS_AT_ONCE)) / len(points)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=points.device)
    for part in points.split(ROWS_AT_ONCE):
        centred = part.double() - mean
        covariance += centred.T @ centred
    variances, axes = torch.linalg.eigh(covariance / len(points))
    variances, axes = variances.flip(0).clamp_min(0), axes.flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    axes = axes * torch.where(largest < 0, -1.0, 1.0)  # an axis has no sign of its own: fix one
    return mean.float(), axes.float(), variances.float()


def _with_rest(logits: Tensor) -> Tensor:
    """With a column for the category that has no number of its own: none is known, or one that the network does not see."""
    return torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)


def _network(sizes: Sizes, widths: list[int]) -> nn.Sequential:
    *hidden, last = pairwise(widths)
    layers: list[nn.Module] = []
    for inputs, outputs in hidden:
        layers.append(nn.Linear(inputs, outputs))
        if sizes.layer_norm:
            layers.append(nn.LayerNorm(outputs))
        layers.append(nn.SiLU())
        if sizes.dropout:
            layers.append(nn.Dropout(sizes.dropout))
    return nn.Sequential(*layers, nn.Linear(*last))
