"""How well the autoencoder reconstructs the held-out test customers, compared with a PCA of as many dimensions."""

import torch
from sklearn.manifold import trustworthiness
from torch import Tensor

from jobs.autoencoder.model import Autoencoder
from jobs.autoencoder.preprocessing import CHUNK_ROWS

TRUSTWORTHINESS_SAMPLE = 2000  # customers: trustworthiness needs the distance of each pair
N_NEIGHBOURS = 10
N_WORST_CUSTOMERS = 10
N_WORST_INPUTS = 3


@torch.no_grad()
def evaluate(model: Autoencoder, pca: tuple[Tensor, Tensor], test: Tensor, ids: list[str], names: list[str]) -> dict:
    """Return the figures of the test customers for meta.json.

    `pca` is the mean and the axes of model.principal_components, `test` (n_customers, n_inputs), `ids` the customers' and `names`
    the inputs'. The figures are:
    - test_error, test_error_pca: mean squared error in scaled units; better_than_pca compares them
    - errors: by input, {"error", "pca"}
    - trustworthiness, trustworthiness_pca: 0 to 1, how many nearest neighbours in the vector are also near in the inputs (Venna
      and Kaski 2001), None below three customers
    - worst: the customers with the largest errors, each with the inputs of the largest share in it
    """
    mean, axes = pca
    input_errors, customer_errors = torch.zeros(2, len(names), dtype=torch.float64), []
    for chunk in test.split(CHUNK_ROWS):
        errors, components = model.squared_errors(chunk), (chunk - mean) @ axes
        input_errors[0] += errors.sum(dim=0, dtype=torch.float64).cpu()
        input_errors[1] += (components @ axes.T + mean - chunk).square().sum(dim=0, dtype=torch.float64).cpu()
        customer_errors.append(errors.mean(dim=1))
    input_errors /= len(test)
    error, error_pca = input_errors.mean(dim=1).tolist()
    sample = test[:: -(-len(test) // TRUSTWORTHINESS_SAMPLE)]
    return {
        "test_error": error,
        "test_error_pca": error_pca,
        "better_than_pca": error < error_pca,
        "errors": {name: {"error": own, "pca": pca} for name, own, pca in zip(names, *input_errors.tolist(), strict=True)},
        "trustworthiness": _trustworthiness(sample, model.encoder(sample)),
        "trustworthiness_pca": _trustworthiness(sample, (sample - mean) @ axes),
        "worst": _worst_customers(model, test, torch.cat(customer_errors), ids, names),
    }


def _trustworthiness(inputs: Tensor, vectors: Tensor) -> float | None:
    n_neighbours = min(N_NEIGHBOURS, (len(inputs) - 1) // 2)
    if n_neighbours < 1:
        return None
    return float(trustworthiness(inputs.cpu().numpy(), vectors.cpu().numpy(), n_neighbors=n_neighbours))


def _worst_customers(model: Autoencoder, test: Tensor, errors: Tensor, ids: list[str], names: list[str]) -> list[dict]:
    """Return the customers with the largest mean squared `errors` (n_customers,), largest first."""
    rows = errors.topk(min(N_WORST_CUSTOMERS, len(test))).indices
    customers = []
    for row, input_errors in zip(rows.tolist(), model.squared_errors(test[rows]), strict=True):
        shares = input_errors / input_errors.sum().clamp_min(1e-12)
        worst_inputs = shares.topk(min(N_WORST_INPUTS, len(names))).indices.tolist()
        share_of_error = {names[column]: round(float(shares[column]), 3) for column in worst_inputs}
        customers.append({"customer_id": ids[row], "error": float(errors[row]), "share_of_error": share_of_error})
    return customers
