"""The wide network: an autoencoder of the features and of groups of inputs, each of which a customer may lack.

A group is a block of columns. A block of zeros, its mean, says that the customer has none. In training whole groups are hidden
from the encoder at times, so it learns to encode customers without them, and one network gives a vector by any of the groups.
What a customer does not have is not predicted for them either: such a customer is not drawn to the mean of the group.
"""

import torch
from torch import Tensor

from jobs.autoencoder.examples import average_neighbours
from jobs.autoencoder.model import Autoencoder, Sizes, principal_axes
from jobs.autoencoder.preprocessing import CHUNK_ROWS, PreprocessingParameters
from jobs.input_groups import list_learned


class GroupAutoencoder(Autoencoder):
    """Preprocessed customers, their features first and then a block for each group, to a vector by each of several groups."""

    def __init__(self, sizes: Sizes, parameters: PreprocessingParameters, blocks: dict[str, slice], dropout: float):
        super().__init__(sizes, parameters)
        self.blocks, self.dropout = blocks, dropout
        # by representation the latent's mean and axes, as those of the plain network
        self.outputs: dict[str, tuple[Tensor, Tensor]] = {}

    def mask_inputs(self, inputs: Tensor) -> Tensor:
        """Return customers (n_rows, n_inputs), each without each group by the probability `dropout`."""
        is_kept = torch.rand(len(inputs), len(self.blocks), device=inputs.device) >= self.dropout
        masked = inputs.clone()
        for column, block in enumerate(self.blocks.values()):
            masked[:, block] *= is_kept[:, column, None]
        return masked

    def average_neighbours(self, customers: Tensor, neighbourhood: Tensor) -> Tensor:
        """Return the mean inputs of each neighbourhood; that of a group is the mean of the neighbours who have it.

        It is zero where the customer has none.
        """
        means = average_neighbours(customers, neighbourhood)
        for block in self.blocks.values():
            is_there = has_group(customers, block).float()[:, None]
            shares = average_neighbours(is_there, neighbourhood)
            means[:, block] *= is_there[neighbourhood[:, 0].long()] / shares.clamp_min(torch.finfo(shares.dtype).tiny)
        return means

    def prediction_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss (n_rows,) without the groups that the customers lack."""
        filled = target.clone()
        for block in self.blocks.values():
            filled[:, block] = torch.where(has_group(target, block)[:, None], target[:, block], prediction[:, block])
        return super().prediction_loss(prediction, filled)

    @torch.no_grad()
    def fit_outputs(self, inputs: Tensor, held_out: Tensor) -> None:
        """Fit the axes of each representation on `inputs` (n_customers, n_inputs), at a mean variance of 1."""
        for name, groups in list_learned(self.blocks).items():
            latent = torch.cat([self.encode(self.keep_groups(chunk, groups)) for chunk in inputs.split(CHUNK_ROWS)])
            mean, axes, variances = principal_axes(latent)
            self.outputs[name] = mean.cpu(), (axes / variances.mean().sqrt().clamp_min(1e-6)).cpu()

    def keep_groups(self, inputs: Tensor, groups: tuple[str, ...]) -> Tensor:
        """Return customers (n_rows, n_inputs) without the groups that are not among `groups`."""
        masked = inputs.clone()
        for group, block in self.blocks.items():
            if group not in groups:
                masked[:, block] = 0
        return masked

    @torch.no_grad()
    def represent(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return the vectors (n_customers, n_latent) of preprocessed customers by representation."""
        learned = list_learned(self.blocks)
        latents = {name: self.encode(self.keep_groups(inputs, groups)) for name, groups in learned.items()}
        return {name: (latents[name] - mean) @ axes for name, (mean, axes) in self.outputs.items()}


def has_group(inputs: Tensor, block: slice) -> Tensor:
    """Return whether customers (n_rows, n_inputs) have the group of a block."""
    return (inputs[:, block] != 0).any(dim=1)
