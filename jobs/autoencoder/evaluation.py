"""How well the vector keeps customers that training never saw, beside a PCA with as many dimensions."""

import torch
from sklearn.manifold import trustworthiness
from torch import Tensor

from jobs.autoencoder.model import Autoencoder, pca

SAMPLE = 2000  # customers whose neighbours are compared: of each pair the distance is needed
NEIGHBOURS = 10
WORST = 10
FEATURES_NAMED = 3


@torch.no_grad()
def of(model: Autoencoder, train: Tensor, test: Tensor, ids: list[str], names: list[str]) -> dict:
    """What meta.json says of the test customers (n x inputs, their ids, the inputs' names); the PCA is fitted on `train`.

    {"test_error", "test_error_pca": mean squared error in scaled units; "better_than_pca"; "errors": by input both;
    "trustworthiness", "trustworthiness_pca": 0 to 1, how far the nearest in the vector are near in the inputs (Venna and Kaski
    2001), None below three customers; "worst": the customers restored worst, each with the inputs that are most to blame}.
    """
    latent = model.encode(test)
    errors = (model.decode(latent) - test).square()
    projected, restored = pca(train, test, model.sizes.latent)
    errors_pca = (restored - test).square()
    error, error_pca = (float(e.double().mean()) for e in (errors, errors_pca))
    sample = slice(None, None, -(-len(test) // SAMPLE))
    return {
        "test_error": error,
        "test_error_pca": error_pca,
        "better_than_pca": error < error_pca,
        "errors": {
            name: {"error": ours, "pca": pca}
            for name, ours, pca in zip(names, errors.mean(dim=0).tolist(), errors_pca.mean(dim=0).tolist(), strict=True)
        },
        "trustworthiness": _trustworthiness(test[sample], latent[sample]),
        "trustworthiness_pca": _trustworthiness(test[sample], projected[sample]),
        "worst": _worst(errors, ids, names),
    }


def _trustworthiness(inputs: Tensor, vectors: Tensor) -> float | None:
    neighbours = min(NEIGHBOURS, (len(inputs) - 1) // 2)
    if neighbours < 1:
        return None
    return float(trustworthiness(inputs.cpu().numpy(), vectors.cpu().numpy(), n_neighbors=neighbours))


def _worst(errors: Tensor, ids: list[str], names: list[str]) -> list[dict]:
    by_customer = errors.mean(dim=1)
    rows = by_customer.topk(min(WORST, len(errors))).indices.tolist()
    found = []
    for row in rows:
        shares = errors[row] / errors[row].sum().clamp_min(1e-12)
        blamed = shares.topk(min(FEATURES_NAMED, len(names))).indices.tolist()
        because = {names[j]: round(float(shares[j]), 3) for j in blamed}
        found.append({"customer_id": ids[row], "error": float(by_customer[row]), "share_of_error": because})
    return found
