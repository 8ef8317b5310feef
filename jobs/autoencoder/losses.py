"""What is learned: to restore customers and their neighbourhoods, and, for clearer clusters, to stay near one of some centres."""

import math

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from jobs.autoencoder.examples import Examples
from jobs.autoencoder.loop import Loss, Rows
from jobs.autoencoder.model import Autoencoder
from jobs.config.settings import Train

PULL = 0.1  # weight of the clustering loss beside restoring, as in IDEC
RESTARTS = 10  # of the K-Means that finds the first centres


def restoring(model: Autoencoder, settings: Train) -> Loss:
    """Restore from a customer, a share `noise` of whose values are another's, the mean of him and his neighbours.

    Two customers shall also be as far apart in the latent as what is restored of them: K-Means measures there with a straight
    ruler, and a network left alone bends and stretches it.
    """

    def loss(customers: Tensor, around: Tensor, mine: Rows) -> Tensor:
        latent = model.encoder(_disturbed(customers, settings.noise)[mine])
        restored = model.around(model.decoder(latent))
        losses = model.misfit(restored, around[mine])
        if settings.isometry:
            stretch = _step_lengths(latent) - _step_lengths(model.restored(restored))
            stretch = nn.functional.pad(stretch.square().repeat_interleave(2), (0, len(latent) % 2))
            losses = losses + settings.isometry * stretch / customers.shape[1]
        return losses

    return loss


def _disturbed(customers: Tensor, share: float) -> Tensor:
    """Customers (b x d) of whose values about this share are another's."""
    n, d = customers.shape
    strangers = torch.randperm(n, device=customers.device)
    # So many draws with replacement miss all but `share` of the values; a number for each value would take ten times as long
    places = torch.randint(n * d, (round(-math.log1p(-share) * n * d),), device=customers.device)
    values = customers.flatten()
    return values.index_put((places,), values[strangers[places // d] * d + places % d]).view(n, d)


@torch.no_grad()
def validation_error(model: Autoencoder, examples: Examples) -> float:
    """The mean loss of `restoring` over customers that nothing was done to, distances left aside."""
    total = 0.0
    for customers, around in examples.parts(str(next(model.parameters()).device)):
        losses = model.misfit(model.around(model.decoder(model.encoder(customers))), around)
        total += float(losses.sum(dtype=torch.float64))
    return total / len(examples)


class Clustered(nn.Module):
    """A network and centres in its latent, learned together.

    Improved Deep Embedded Clustering (Guo et al., IJCAI 2017): how much a customer belongs to each centre is given by a
    Student's t distribution around it, and is drawn to a sharper version of itself in which no centre is much larger.
    """

    def __init__(self, model: Autoencoder, clusters: int, seed: int):
        super().__init__()
        self.model, self.clusters, self.seed = model, clusters, seed
        self.centres = nn.Parameter(torch.zeros(clusters, model.sizes.latent))
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("sizes", torch.ones(clusters))

    @torch.no_grad()
    def place_centres(self, points: Tensor) -> None:
        """Where K-Means finds them in the latent of these customers (n x inputs)."""
        latent = self.model.encode(points).cpu()
        found = KMeans(self.clusters, n_init=RESTARTS, random_state=self.seed).fit(latent.numpy())
        self.centres.copy_(torch.from_numpy(found.cluster_centers_))
        self.unit.copy_(latent.std())

    @torch.no_grad()
    def weigh_centres(self, examples: Examples) -> None:
        """How much of all customers belongs to each centre."""
        device = str(self.centres.device)
        self.sizes.copy_(sum(self.belongs(self.model.encoder(points)).sum(dim=0) for points, _ in examples.parts(device)))

    def belongs(self, latent: Tensor) -> Tensor:
        """Shares (n x clusters) of each centre in customers (n x latent)."""
        distances = (torch.cdist(latent, self.centres, compute_mode="donot_use_mm_for_euclid_dist") / self.unit).square()
        kernel = 1 / (1 + distances)
        return kernel / kernel.sum(dim=1, keepdim=True)

    def loss(self, restoring: Loss) -> Loss:
        """`restoring`, and how far customers are from belonging more clearly to where they do."""

        def loss(customers: Tensor, around: Tensor, mine: Rows) -> Tensor:
            losses = restoring(customers, around, mine)
            shares = self.belongs(self.model.encoder(customers[mine])).clamp_min(1e-9)
            sharper = (shares.square() / self.sizes).detach()
            sharper = sharper / sharper.sum(dim=1, keepdim=True)
            return losses + PULL * (sharper * (sharper.log() - shares.log())).sum(dim=1)

        return loss


def _step_lengths(points: Tensor) -> Tensor:
    """How far the two of each pair of rows are apart."""
    one, other = points[: len(points) // 2 * 2].unflatten(0, (-1, 2)).unbind(dim=1)
    return torch.linalg.vector_norm(one - other, dim=1)
