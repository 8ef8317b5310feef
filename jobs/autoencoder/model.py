"""The network: a principal component analysis that learned to bend.

Encoder and decoder are each a linear map, which starts as the PCA of the training customers, plus a small network,
which starts at zero. So training starts at the error of PCA with as many dimensions and can only go down from there.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from jobs.autoencoder.preprocessing import Numbers, Preprocess


@dataclass(frozen=True)
class Sizes:
    """Widths of the layers: inputs -> *hidden -> latent -> *reversed hidden -> inputs."""

    inputs: int  # columns after preprocessing
    latent: int
    hidden: tuple[int, ...] = (64, 32)


class Autoencoder(nn.Module):
    """Features and attributes in, vector and reconstruction error out; preprocessing is a part of it."""

    def __init__(self, sizes: Sizes, numbers: Numbers):
        super().__init__()
        self.sizes = sizes
        self.preprocess = Preprocess(numbers)
        self.encoder_linear = nn.Linear(sizes.inputs, sizes.latent)
        self.encoder = _network(sizes.inputs, *sizes.hidden, sizes.latent)
        self.decoder_linear = nn.Linear(sizes.latent, sizes.inputs)
        self.decoder = _network(sizes.latent, *reversed(sizes.hidden), sizes.inputs)
        # The published vector: the latent turned to its principal axes, the first varying most.
        self.register_buffer("latent_mean", torch.zeros(sizes.latent))
        self.register_buffer("latent_axes", torch.eye(sizes.latent))

    def forward(self, features: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """As of Preprocess.forward -> vector (n x latent), mean squared error in scaled units (n)."""
        inputs = self.preprocess(features, codes)
        latent = self.encode(inputs)
        return (latent - self.latent_mean) @ self.latent_axes, self.errors(inputs)

    def errors(self, inputs: Tensor) -> Tensor:
        """Mean squared reconstruction error (n) of preprocessed customers (n x inputs)."""
        return (self.decode(self.encode(inputs)) - inputs).square().mean(dim=1)

    def encode(self, scaled: Tensor) -> Tensor:
        return self.encoder_linear(scaled) + self.encoder(scaled)

    def decode(self, latent: Tensor) -> Tensor:
        return self.decoder_linear(latent) + self.decoder(latent)

    @torch.no_grad()
    def start_at_pca(self, scaled: Tensor) -> None:
        """Set the linear maps to the PCA of `scaled` (n x d) and the networks' last layers to zero."""
        mean, axes, _ = principal_axes(scaled)
        axes = axes[:, : self.sizes.latent]
        for linear in (self.encoder_linear, self.decoder_linear):
            linear.weight.zero_()
        self.encoder_linear.weight[: axes.shape[1]] = axes.T
        self.encoder_linear.bias.copy_(-(self.encoder_linear.weight @ mean))
        self.decoder_linear.weight[:, : axes.shape[1]] = axes
        self.decoder_linear.bias.copy_(mean)
        for network in (self.encoder, self.decoder):
            network[-1].weight.zero_()
            network[-1].bias.zero_()

    @torch.no_grad()
    def set_axes(self, scaled: Tensor) -> None:
        """Turn the vector to the principal axes of the latent of `scaled` (n x d), at unit variance on average."""
        mean, axes, variances = principal_axes(torch.cat([self.encode(part) for part in scaled.split(65536)]))
        self.latent_mean.copy_(mean)
        self.latent_axes.copy_(axes / variances.mean().sqrt().clamp_min(1e-6))


def principal_axes(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d), axes as columns (d x d, most variance first, largest entry positive) and variances (d) of n points."""
    mean = points.mean(dim=0, dtype=torch.float64)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=points.device)
    for part in points.split(65536):
        centred = part.double() - mean
        covariance += centred.T @ centred
    variances, axes = torch.linalg.eigh(covariance / len(points))
    variances, axes = variances.flip(0).clamp_min(0), axes.flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    axes = axes * torch.where(largest < 0, -1.0, 1.0)  # an axis has no sign of its own: fix one
    return mean.float(), axes.float(), variances.float()


def pca(fitted_on: Tensor, points: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
    """Coordinates (n x dimensions) and reconstruction (n x d) of `points` by a PCA fitted on `fitted_on`."""
    mean, axes, _ = principal_axes(fitted_on)
    coordinates = (points - mean) @ axes[:, :dimensions]
    return coordinates, coordinates @ axes[:, :dimensions].T + mean


def _network(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
