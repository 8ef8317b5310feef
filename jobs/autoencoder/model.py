"""The network: preprocessing, an encoder to a short vector, a decoder, and what is read from that.

The decoder restores the customers who are most alike, from whom the encoder learns which differences matter: what a customer
shares with his neighbours is kept, what is his alone is not. How much of the customer himself the vector still holds is told
by least squares from the decoder's last hidden layer and the vector; that is solved afterwards, and teaches nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from jobs.autoencoder.preprocessing import ROWS_AT_ONCE, Numbers, Preprocess, groups
from jobs.config.settings import Train

RIDGES = (1e-4, 1e-3, 1e-2)  # shares of the mean square of what is read from; with less, float32 shows in the sums


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
        self.encoder = nn.Sequential(*_hidden_layers(sizes, widths[:-1]), nn.Linear(*widths[-2:]))
        self.decoder = nn.Sequential(*_hidden_layers(sizes, widths[:0:-1]))
        self.around = nn.Linear(widths[1], sizes.inputs)
        self.own = nn.Linear(widths[1] + sizes.latent, sizes.inputs).requires_grad_(False)
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
        """By which what is read of preprocessed customers (n x inputs) is off, in scaled units."""
        return (self.own(self._readable(inputs)) - inputs).square()

    @torch.no_grad()
    def errors(self, inputs: Tensor) -> Tensor:
        """The mean squared error (n) of preprocessed customers (n x inputs), in parts, wherever these are."""
        device = self.latent_mean.device
        return torch.cat([self.squared_errors(part.to(device)).mean(dim=1) for part in inputs.split(ROWS_AT_ONCE)])

    def _readable(self, inputs: Tensor) -> Tensor:
        latent = self.encoder(inputs)
        return torch.cat([self.decoder(latent), latent], dim=1)

    def restored(self, decoded: Tensor) -> Tensor:
        """What the decoder says (n x inputs) as preprocessed customers: an attribute's numbers are logits of its categories."""
        parts, at = [], 0
        for group in self.groups:
            probabilities = _with_rest(decoded[:, group]).softmax(dim=1)[:, :-1]
            parts += [decoded[:, at : group.start], (probabilities - self.category_mean[group]) / self.category_scale[group]]
            at = group.stop
        return torch.cat([*parts, decoded[:, at:]], dim=1) if parts else decoded

    def misfit(self, decoded: Tensor, wanted: Tensor) -> Tensor:
        """Loss (n) of the decoder's numbers against customers (n x inputs each), per column: squared errors of numbers, and
        cross-entropy for the categories of an attribute, of which a customer may have several by shares."""
        squares = nn.functional.mse_loss(decoded, wanted, reduction="none")
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

    @torch.no_grad()
    def set_own(self, scaled: Tensor, held_out: Tensor) -> None:
        """Read `scaled` (n x inputs) by least squares, with the ridge by which `held_out` (m x inputs) is read best."""
        device = self.latent_mean.device
        products = 0.0
        for part in scaled.split(ROWS_AT_ONCE):
            part = part.to(device)
            both = torch.cat([self._readable(part), torch.ones_like(part[:, :1]), part], dim=1).double()
            products = products + both.T @ both / len(scaled)
        n = self.own.in_features
        penalty = torch.diag(torch.arange(n + 1, device=device) < n) * products.diagonal()[:n].mean()  # the constant is free

        def error(solved: Tensor) -> float:
            self._read_by(solved)
            return float(self.errors(held_out).sum(dtype=torch.float64))

        seen, wanted = products[: n + 1].split([n + 1, len(products) - n - 1], dim=1)
        self._read_by(min((torch.linalg.solve(seen + ridge * penalty, wanted).float() for ridge in RIDGES), key=error))

    def _read_by(self, solved: Tensor) -> None:
        self.own.weight.copy_(solved[:-1].T)
        self.own.bias.copy_(solved[-1])


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


def components(points: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The mean (d) of points and their first n principal axes (d x n)."""
    mean, axes, _ = principal_axes(points)
    return mean, axes[:, :n]


def _with_rest(logits: Tensor) -> Tensor:
    """With a column for the category that has no number of its own: none is known, or one that the network does not see."""
    return torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)


def _hidden_layers(sizes: Sizes, widths: list[int]) -> Iterator[nn.Module]:
    for inputs, outputs in pairwise(widths):
        yield nn.Linear(inputs, outputs)
        if sizes.layer_norm:
            yield nn.LayerNorm(outputs)
        yield nn.SiLU()
        if sizes.dropout:
            yield nn.Dropout(sizes.dropout)
