"""How well the vector keeps customers that training never saw, beside a PCA with as many dimensions."""

import torch
from sklearn.manifold import trustworthiness
from torch import Tensor

from jobs.autoencoder.model import Autoencoder
from jobs.autoencoder.preprocessing import ROWS_AT_ONCE

SAMPLE = 2000  # customers whose neighbours are compared: of each pair the distance is needed
NEIGHBOURS = 10
WORST = 10
FEATURES_NAMED = 3


@torch.no_grad()
def of(model: Autoencoder, pca: tuple[Tensor, Tensor], test: Tensor, ids: list[str], names: list[str]) -> dict:
    """What meta.json says of the test customers (n x inputs, their ids, the inputs' names), beside a PCA as of model.components.

    {"test_error", "test_error_pca": mean squared error in scaled units; "better_than_pca"; "errors": by input both;
    "trustworthiness", "trustworthiness_pca": 0 to 1, how far the nearest in the vector are near in the inputs (Venna and Kaski
    2001), None below three customers; "worst": the customers restored worst, each with the inputs that are most to blame}.
    """
    mean, axes = pca
    by_input, by_customer = torch.zeros(2, len(names), dtype=torch.float64), []
    for part in test.split(ROWS_AT_ONCE):
        errors, projected = model.squared_errors(part), (part - mean) @ axes
        by_input[0] += errors.sum(dim=0, dtype=torch.float64).cpu()
        by_input[1] += (projected @ axes.T + mean - part).square().sum(dim=0, dtype=torch.float64).cpu()
        by_customer.append(errors.mean(dim=1))
    by_input /= len(test)
    error, error_pca = by_input.mean(dim=1).tolist()
    sample = test[:: -(-len(test) // SAMPLE)]
    return {
        "test_error": error,
        "test_error_pca": error_pca,
        "better_than_pca": error < error_pca,
        "errors": {name: {"error": ours, "pca": pca} for name, ours, pca in zip(names, *by_input.tolist(), strict=True)},
        "trustworthiness": _trustworthiness(sample, model.encoder(sample)),
        "trustworthiness_pca": _trustworthiness(sample, (sample - mean) @ axes),
        "worst": _worst(model, test, torch.cat(by_customer), ids, names),
    }


def _trustworthiness(inputs: Tensor, vectors: Tensor) -> float | None:
    neighbours = min(NEIGHBOURS, (len(inputs) - 1) // 2)
    if neighbours < 1:
        return None
    return float(trustworthiness(inputs.cpu().numpy(), vectors.cpu().numpy(), n_neighbors=neighbours))


def _worst(model: Autoencoder, test: Tensor, by_customer: Tensor, ids: list[str], names: list[str]) -> list[dict]:
    rows = by_customer.topk(min(WORST, len(test))).indices
    found = []
    for row, errors in zip(rows.tolist(), model.squared_errors(test[rows]), strict=True):
        shares = errors / errors.sum().clamp_min(1e-12)
        blamed = shares.topk(min(FEATURES_NAMED, len(names))).indices.tolist()
        because = {names[j]: round(float(shares[j]), 3) for j in blamed}
        found.append({"customer_id": ids[row], "error": float(by_customer[row]), "share_of_error": because})
    return found
