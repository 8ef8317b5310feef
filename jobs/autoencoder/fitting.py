"""Fit the network on preprocessed customers: its phases, and what is computed from the trained weights."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from jobs.autoencoder.array_storage import Allocate
from jobs.autoencoder.checkpoint import CheckpointFile
from jobs.autoencoder.examples import Examples
from jobs.autoencoder.losses import JointClustering, denoising_loss, validation_loss
from jobs.autoencoder.model import Autoencoder, Sizes
from jobs.autoencoder.preprocessing import FIT_CUSTOMERS, PreprocessingParameters
from jobs.autoencoder.trainer import Loss, Phase, train_phases
from jobs.config.settings import Train

MAX_NUMBERS_FOR_ONE_THREAD = 10_000_000  # with fewer, a second thread gains nothing and waits long on a busy machine


@dataclass(frozen=True)
class FittedAutoencoder:
    """A trained network, on the CPU, and its history."""

    model: Autoencoder
    soft_assignment: Callable[[Tensor], Tensor]  # (n_customers, n_inputs) -> (n_customers, n_clusters), with settings.clusters
    epochs: list[dict]  # as train_phases returns them


def fit_autoencoder(
    parameters: PreprocessingParameters,
    imputations: list[Tensor],
    validation: Tensor,
    settings: Train,
    checkpoint: CheckpointFile,
    log: Callable[[str], None],
    on_epoch_end: Callable[[Autoencoder, list[dict]], None] = lambda *_: None,
    allocate: Allocate = torch.empty,
    make_network: Callable[[Sizes, PreprocessingParameters], Autoencoder] = Autoencoder,
) -> FittedAutoencoder:
    """Train on each of the `imputations` (n_customers, n_inputs) in turn, until `validation` (n_validation, n_inputs) stalls.

    `allocate` gives the arrays for neighbour means; `on_epoch_end` gets the network and the epochs so far. Raises UserError and
    SystemExit as train_phases does.
    """
    device = select_device()
    torch.manual_seed(settings.seed)
    model = make_network(Sizes.from_settings(imputations[0].shape[1], settings), parameters).to(device)
    storage = {"device": device, "allocate": allocate}
    from_imputations = partial(Examples.from_imputations, k=settings.neighbours, average=model.average_neighbours, **storage)
    examples, [held_out] = from_imputations(imputations), from_imputations([validation])
    clustering = JointClustering(model, max(1, settings.clusters), settings.seed).to(device)
    loss = denoising_loss(model, settings)
    phases = [Phase("restore", loss, settings.epochs, settings.learning_rate, partial(validation_loss, model, held_out))]
    if settings.clusters:
        phases.append(_clustering_phase(clustering, loss, examples[0], settings))
    network = clustering if settings.clusters else model
    epochs = train_phases(network, phases, examples, settings, checkpoint, log, partial(on_epoch_end, model))
    model.fit_outputs(imputations[0], validation)
    clustering = clustering.cpu().eval()
    return FittedAutoencoder(model.cpu().eval(), lambda inputs: clustering.soft_assignment(model.encoder(inputs)), epochs)


def _clustering_phase(clustering: JointClustering, denoising_loss: Loss, examples: Examples, settings: Train) -> Phase:
    return Phase(
        "cluster",
        clustering.clustering_loss(denoising_loss),
        max(1, settings.epochs // 2),
        settings.learning_rate / 3,
        on_start=lambda: clustering.fit_centres(examples.customers[:FIT_CUSTOMERS]),
        on_epoch_start=lambda: clustering.update_cluster_sizes(examples),
    )


def select_device() -> str:
    """Return the GPU of this process if there is one, else the CPU."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}"


def set_threads(n_numbers: int) -> None:
    """Use all cores where that helps with so many numbers; each process of torchrun uses one."""
    is_alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    torch.set_num_threads((os.cpu_count() or 1) if is_alone and n_numbers > MAX_NUMBERS_FOR_ONE_THREAD else 1)
