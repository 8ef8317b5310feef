"""The network: preprocessing, an encoder to the latent, a decoder, and two heads on top of the decoder.

The neighbour head predicts the mean of a customer's neighbourhood. Only this teaches encoder and decoder: the latent keeps what
a customer shares with similar customers, and drops what is individual. The reconstruction head predicts the customer's own
inputs, from the decoder's output and the latent. It is fitted by least squares after training, teaches the encoder nothing, and
gives the published reconstruction error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from jobs.autoencoder.examples import average_neighbours
from jobs.autoencoder.preprocessing import CHUNK_ROWS, PreprocessingParameters, Preprocessor, category_slices
from jobs.config.settings import Train

RIDGES = (1e-4, 1e-3, 1e-2)  # relative to the mean square of the head's inputs; with less, float32 errors show in the sums
_SAVED_LAYER_NAMES = {"neighbour_head": "around", "reconstruction_head": "own"}  # in weights.safetensors and checkpoints


@dataclass(frozen=True)
class Sizes:
    """Widths of the layers, inputs -> *hidden -> latent -> *reversed(hidden) -> inputs, and what lies between them."""

    inputs: int  # n_inputs
    latent: int  # n_latent
    hidden: tuple[int, ...]
    dropout: float = 0.0
    layer_norm: bool = False

    @classmethod
    def from_settings(cls, n_inputs: int, settings: Train) -> "Sizes":
        return cls(n_inputs, settings.latent, settings.hidden, settings.dropout, settings.layer_norm)


class Autoencoder(nn.Module):
    """Features and attributes to vector and reconstruction error, preprocessing included."""

    average_neighbours = staticmethod(average_neighbours)

    def __init__(self, sizes: Sizes, parameters: PreprocessingParameters):
        super().__init__()
        self.sizes = sizes
        self.preprocess = Preprocessor(parameters)
        widths = [sizes.inputs, *sizes.hidden, sizes.latent]
        self.encoder = nn.Sequential(*_hidden_layers(sizes, widths[:-1]), nn.Linear(*widths[-2:]))
        self.decoder = nn.Sequential(*_hidden_layers(sizes, widths[:0:-1]))
        self.neighbour_head = nn.Linear(widths[1], sizes.inputs)
        self.reconstruction_head = nn.Linear(widths[1] + sizes.latent, sizes.inputs).requires_grad_(False)
        # the vector is the latent, rotated to its principal axes and scaled
        self.register_buffer("latent_mean", torch.zeros(sizes.latent))
        self.register_buffer("latent_axes", torch.eye(sizes.latent))
        # the inputs that are the categories of one attribute, and how each of these 0/1 columns was scaled
        self.category_slices = category_slices(parameters)
        for name, values in (("category_mean", parameters.extra_mean), ("category_scale", parameters.extra_scale)):
            self.register_buffer(name, _select_extra(values, parameters), persistent=False)
        self.register_state_dict_post_hook(_use_saved_layer_names)
        self.register_load_state_dict_pre_hook(_use_layer_names)

    def forward(self, features: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """(n_rows, n_features), (n_rows, n_attributes), as in Preprocessor.forward -> vector (n_rows, n_latent), error (n_rows,).

        The error is the mean squared reconstruction error in scaled units.
        """
        inputs = self.preprocess(features, codes)
        latent = self.encoder(inputs)
        return (latent - self.latent_mean) @ self.latent_axes, self.squared_errors(inputs).mean(dim=1)

    def mask_inputs(self, inputs: Tensor) -> Tensor:
        """Return what the encoder is shown of customers (n_rows, n_inputs) in training."""
        return inputs

    def squared_errors(self, inputs: Tensor) -> Tensor:
        """Return the squared reconstruction errors (n_rows, n_inputs) of preprocessed customers, in scaled units."""
        return (self.reconstruction_head(self._reconstruction_inputs(inputs)) - inputs).square()

    def _reconstruction_inputs(self, inputs: Tensor) -> Tensor:
        latent = self.encoder(inputs)
        return torch.cat([self.decoder(latent), latent], dim=1)

    @torch.no_grad()
    def encode(self, inputs: Tensor) -> Tensor:
        """Return the latent (n_customers, n_latent) of preprocessed customers on any device, chunk by chunk."""
        device = self.latent_mean.device
        return torch.cat([self.encoder(chunk.to(device)) for chunk in inputs.split(CHUNK_ROWS)])

    @torch.no_grad()
    def reconstruction_errors(self, inputs: Tensor) -> Tensor:
        """Return the mean squared error (n_customers,) of preprocessed customers on any device, chunk by chunk."""
        device = self.latent_mean.device
        return torch.cat([self.squared_errors(chunk.to(device)).mean(dim=1) for chunk in inputs.split(CHUNK_ROWS)])

    def prediction_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss (n_rows,) of the neighbour head's prediction (n_rows, n_inputs), divided by n_inputs.

        It sums the squared errors of the numbers, and the cross-entropy of each attribute, whose numbers are logits. The target
        may have several categories by shares, because it is a mean of customers.
        """
        squared = nn.functional.mse_loss(prediction, target, reduction="none")
        total, start = 0, 0
        for columns in self.category_slices:
            shares = target[:, columns] * self.category_scale[columns] + self.category_mean[columns]
            shares = torch.cat([shares, 1 - shares.sum(dim=1, keepdim=True)], dim=1)
            cross_entropy = -(shares * _add_rest(prediction[:, columns]).log_softmax(dim=1)).sum(dim=1)
            total = total + squared[:, start : columns.start].sum(dim=1) + cross_entropy
            start = columns.stop
        return (total + squared[:, start:].sum(dim=1)) / target.shape[1]

    def to_inputs(self, prediction: Tensor) -> Tensor:
        """Return a prediction (n_rows, n_inputs) as preprocessed customers: logits become scaled shares of the categories."""
        parts, start = [], 0
        for columns in self.category_slices:
            shares = _add_rest(prediction[:, columns]).softmax(dim=1)[:, :-1]
            scaled = (shares - self.category_mean[columns]) / self.category_scale[columns]
            parts += [prediction[:, start : columns.start], scaled]
            start = columns.stop
        return torch.cat([*parts, prediction[:, start:]], dim=1) if parts else prediction

    def fit_outputs(self, inputs: Tensor, held_out: Tensor) -> None:
        """Fit what is computed from the latent, on `inputs` (n_customers, n_inputs) and validation customers."""
        self.fit_principal_axes(inputs)
        self.fit_reconstruction_head(inputs, held_out)

    @torch.no_grad()
    def fit_principal_axes(self, inputs: Tensor) -> None:
        """Rotate the vector to the principal axes of the latent of `inputs` (n_customers, n_inputs), at a mean variance of 1."""
        mean, axes, variances = principal_axes(self.encode(inputs))
        self.latent_mean.copy_(mean)
        self.latent_axes.copy_(axes / variances.mean().sqrt().clamp_min(1e-6))

    @torch.no_grad()
    def fit_reconstruction_head(self, inputs: Tensor, held_out: Tensor) -> None:
        """Fit the head by ridge regression on `inputs` (n_customers, n_inputs), with the ridge of least error on `held_out`."""
        device = self.latent_mean.device
        products = 0.0
        for chunk in inputs.split(CHUNK_ROWS):
            chunk = chunk.to(device)
            columns = torch.cat([self._reconstruction_inputs(chunk), torch.ones_like(chunk[:, :1]), chunk], dim=1).double()
            products = products + columns.T @ columns / len(inputs)
        n = self.reconstruction_head.in_features
        penalty = torch.diag(torch.arange(n + 1, device=device) < n) * products.diagonal()[:n].mean()  # none on the intercept
        gram, moments = products[: n + 1].split([n + 1, len(products) - n - 1], dim=1)

        def held_out_error(solution: Tensor) -> float:
            self._set_reconstruction_head(solution)
            return float(self.reconstruction_errors(held_out).sum(dtype=torch.float64))

        solutions = (torch.linalg.solve(gram + ridge * penalty, moments).float() for ridge in RIDGES)
        self._set_reconstruction_head(min(solutions, key=held_out_error))

    def _set_reconstruction_head(self, solution: Tensor) -> None:
        self.reconstruction_head.weight.copy_(solution[:-1].T)
        self.reconstruction_head.bias.copy_(solution[-1])


def principal_axes(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (d,), axes as columns (d, d) and variances (d,) of points (n, d).

    The axis of most variance comes first; the largest entry of each axis is positive.
    """
    mean = sum(chunk.sum(dim=0, dtype=torch.float64) for chunk in points.split(CHUNK_ROWS)) / len(points)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=points.device)
    for chunk in points.split(CHUNK_ROWS):
        centred = chunk.double() - mean
        covariance += centred.T @ centred
    variances, axes = torch.linalg.eigh(covariance / len(points))
    variances, axes = variances.flip(0).clamp_min(0), axes.flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    axes = axes * torch.where(largest < 0, -1.0, 1.0)  # the sign of an axis is arbitrary; this fixes it
    return mean.float(), axes.float(), variances.float()


def principal_components(points: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the mean (d,) and the first n principal axes (d, n) of points."""
    mean, axes, _ = principal_axes(points)
    return mean, axes[:, :n]


def _hidden_layers(sizes: Sizes, widths: list[int]) -> Iterator[nn.Module]:
    for n_in, n_out in pairwise(widths):
        yield nn.Linear(n_in, n_out)
        if sizes.layer_norm:
            yield nn.LayerNorm(n_out)
        yield nn.SiLU()
        if sizes.dropout:
            yield nn.Dropout(sizes.dropout)


def _select_extra(values: np.ndarray, parameters: PreprocessingParameters) -> Tensor:
    """Return mean or scale of the flags and categories by input (n_inputs,); its entries for features mean nothing."""
    places = torch.from_numpy(parameters.selected - len(parameters.fill)).clamp_min(0)
    return torch.from_numpy(values)[places] if len(values) else torch.zeros(len(places))


def _add_rest(logits: Tensor) -> Tensor:
    """Append a logit of 0 for the rest: no known category, or one that is not among the inputs."""
    return torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)


def _use_saved_layer_names(_: nn.Module, state_dict: dict[str, Tensor], prefix: str, *__) -> None:
    for layer, saved_layer in _SAVED_LAYER_NAMES.items():
        _rename_layer(state_dict, f"{prefix}{layer}", f"{prefix}{saved_layer}")


def _use_layer_names(_: nn.Module, state_dict: dict[str, Tensor], prefix: str, *__) -> None:
    for layer, saved_layer in _SAVED_LAYER_NAMES.items():
        _rename_layer(state_dict, f"{prefix}{saved_layer}", f"{prefix}{layer}")


def _rename_layer(state_dict: dict[str, Tensor], old: str, new: str) -> None:
    for name in ("weight", "bias"):
        if f"{old}.{name}" in state_dict:
            state_dict[f"{new}.{name}"] = state_dict.pop(f"{old}.{name}")
