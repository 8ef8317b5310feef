"""The section on the model: what it was trained on, how good it is, and how far today's customers have drifted."""

from datetime import date

from jobs.report.data_quality import is_known
from jobs.storage import models


def read_model(root: str, version: str, day: date) -> dict | None:
    """Return a model's facts and since when it is the champion; None where its files are gone."""
    if not models.exists(root, version):
        return None
    champion = models.champion(root, day)
    since = champion["since"] if champion and champion["version"] == version else None
    return models.meta(root, version) | {"since": since}


def summarize_drift(results: list[dict]) -> dict:
    """Return how far the day's active customers are from those of the training, from the rows of quality.results.

    `features` is (feature, population stability index), the largest first.
    """
    figures = {r["column"]: float(r["observed"]) for r in results if r["column"] and _is_drift(r["column"]) and is_known(r)}
    error, out_of_range = figures.pop("psi_reconstruction_error", None), figures.pop("out_of_range", None)
    features = sorted(((name.removeprefix("psi_"), psi) for name, psi in figures.items()), key=lambda row: -row[1])
    return {"error": error, "out_of_range": out_of_range, "features": features}


def _is_drift(column: str) -> bool:
    return column == "out_of_range" or column.startswith("psi_")
