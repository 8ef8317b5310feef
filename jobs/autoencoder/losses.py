"""The losses: denoising towards the neighbour mean, and for clearer clusters the joint clustering of IDEC."""

import math

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from jobs.autoencoder.examples import Examples
from jobs.autoencoder.model import Autoencoder
from jobs.autoencoder.trainer import Loss, Rows
from jobs.config.settings import Train

CLUSTERING_WEIGHT = 0.1  # of the clustering loss relative to the denoising loss, gamma in IDEC
KMEANS_RESTARTS = 10  # for the initial centres


def denoising_loss(model: Autoencoder, settings: Train) -> Loss:
    """Return the loss of predicting the neighbour mean of a customer from the customer with swap noise.

    `noise` is the share of values that are swapped. With `isometry` two customers are also to be as far apart in the latent as
    in what is predicted for them. K-Means compares Euclidean distances there, and without this term the network distorts them.
    """

    def loss(customers: Tensor, neighbour_means: Tensor, rows: Rows) -> Tensor:
        latent = model.encoder(model.mask_inputs(_add_swap_noise(customers, settings.noise))[rows])
        prediction = model.neighbour_head(model.decoder(latent))
        losses = model.prediction_loss(prediction, neighbour_means[rows])
        if settings.isometry:
            distortion = _pair_distances(latent) - _pair_distances(model.to_inputs(prediction))
            distortion = nn.functional.pad(distortion.square().repeat_interleave(2), (0, len(latent) % 2))
            losses = losses + settings.isometry * distortion / customers.shape[1]
        return losses

    return loss


def _add_swap_noise(customers: Tensor, share: float) -> Tensor:
    """Return customers (n_rows, n_inputs), about this share of whose values is that of another customer."""
    n_rows, n_inputs = customers.shape
    donors = torch.randperm(n_rows, device=customers.device)
    # so many draws with replacement miss all but `share` of the values; a random number per value would take ten times as long
    n_draws = round(-math.log1p(-share) * n_rows * n_inputs)
    places = torch.randint(n_rows * n_inputs, (n_draws,), device=customers.device)
    values = customers.flatten()
    swapped = values[donors[places // n_inputs] * n_inputs + places % n_inputs]
    return values.index_put((places,), swapped).view(n_rows, n_inputs)


def _pair_distances(points: Tensor) -> Tensor:
    """Return the distance (n_pairs,) between the two rows of each pair; a last row without a partner is left out."""
    first, second = points[: len(points) // 2 * 2].unflatten(0, (-1, 2)).unbind(dim=1)
    return torch.linalg.vector_norm(first - second, dim=1)


@torch.no_grad()
def validation_loss(model: Autoencoder, examples: Examples) -> float:
    """Return the mean denoising loss over customers without noise and without the isometry term."""
    total = 0.0
    for customers, neighbour_means in examples.iterate_blocks(str(next(model.parameters()).device)):
        prediction = model.neighbour_head(model.decoder(model.encoder(customers)))
        total += float(model.prediction_loss(prediction, neighbour_means).sum(dtype=torch.float64))
    return total / len(examples)


class JointClustering(nn.Module):
    """A network and cluster centres in its latent, trained together.

    Improved Deep Embedded Clustering (Guo et al., IJCAI 2017): the soft assignment of a customer to the centres is given by a
    Student's t distribution around each. The target distribution is a sharper version of it in which no cluster is much larger.
    """

    def __init__(self, model: Autoencoder, n_clusters: int, seed: int):
        super().__init__()
        self.model, self.n_clusters, self.seed = model, n_clusters, seed
        self.centres = nn.Parameter(torch.zeros(n_clusters, model.sizes.latent))
        self.register_buffer("unit", torch.ones(()))  # of distances: the standard deviation of the latent
        self.register_buffer("sizes", torch.ones(n_clusters))  # of the clusters: sums of the soft assignments

    @torch.no_grad()
    def fit_centres(self, inputs: Tensor) -> None:
        """Set the centres by K-Means in the latent of these customers (n_customers, n_inputs)."""
        latent = self.model.encode(inputs).cpu()
        k_means = KMeans(self.n_clusters, n_init=KMEANS_RESTARTS, random_state=self.seed).fit(latent.numpy())
        self.centres.copy_(torch.from_numpy(k_means.cluster_centers_))
        self.unit.copy_(latent.std())

    @torch.no_grad()
    def update_cluster_sizes(self, examples: Examples) -> None:
        """Set the cluster sizes to the sums of the soft assignments of all customers."""
        blocks = examples.iterate_blocks(str(self.centres.device))
        self.sizes.copy_(sum(self.soft_assignment(self.model.encoder(customers)).sum(dim=0) for customers, _ in blocks))

    def soft_assignment(self, latent: Tensor) -> Tensor:
        """Return the share of each cluster (n_rows, n_clusters) in customers (n_rows, n_latent)."""
        distances = torch.cdist(latent, self.centres, compute_mode="donot_use_mm_for_euclid_dist")
        kernel = 1 / (1 + (distances / self.unit).square())
        return kernel / kernel.sum(dim=1, keepdim=True)

    def clustering_loss(self, denoising_loss: Loss) -> Loss:
        """Return `denoising_loss` plus the Kullback-Leibler divergence of the soft assignment from its target distribution."""

        def loss(customers: Tensor, neighbour_means: Tensor, rows: Rows) -> Tensor:
            losses = denoising_loss(customers, neighbour_means, rows)
            assignment = self.soft_assignment(self.model.encoder(customers[rows])).clamp_min(1e-9)
            target = (assignment.square() / self.sizes).detach()
            target = target / target.sum(dim=1, keepdim=True)
            return losses + CLUSTERING_WEIGHT * (target * (target.log() - assignment.log())).sum(dim=1)

        return loss
