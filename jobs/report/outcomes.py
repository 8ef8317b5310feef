"""The section on what may become of customers: by segment, and how well each outcome can be predicted."""

from collections.abc import Sequence
from datetime import date

import polars as pl

from jobs.config.settings import Settings
from jobs.report._tables import read_table
from jobs.storage import models

# What outcomes are predicted by, as people call it.
METHODS = {
    "prevalence": "All alike",
    "recency": "Days since the last order or visit",
    "logistic_regression": "Logistic regression",
    "linear_svm": "Linear support vector machine",
    "random_forest": "Random forest",
    "boosted_trees": "Gradient-boosted trees",
    "network": "Neural network",
}
CURVE_SIZE = 200  # of a side of a plot, in units of its viewBox
# How the name of a method ends that reads more than the features.
_ENDINGS = {"_with_vector": " with the learned vector", "_with_groups": " with the groups of inputs"}
_MEASURES = ("log_loss", "roc_auc", "pr_auc", "brier", "precision", "recall", "f1", "accuracy")


def summarize_outcomes(settings: Settings, day: date, segments: list[dict]) -> list[dict]:
    """Return each outcome with its mean probability in the listed `segments`, and how its method was chosen.

    None are returned where the day has no outcomes. A segment with fewer than segment.min_cell eligible customers has no figures.
    """
    columns = ["customer_id", "outcome", "window_days", "probability", "model_version"]
    scores = read_table(settings.lake, "scores.customer_outcomes", columns, day)
    assignments = read_table(settings.lake, "segments.assignments", ["customer_id", "segment_id"], day)
    if not scores or not assignments:
        return []
    version = scores["model_version"][0].as_py()
    rows, members = (pl.DataFrame(pl.from_arrow(table)) for table in (scores, assignments))
    rows = rows.join(members, "customer_id", how="inner").sort("customer_id")  # means depend on the order
    figures = rows.group_by("outcome", "segment_id", maintain_order=True).agg(
        customers=pl.len(), expected=pl.col("probability").sum(), mean=pl.col("probability").mean()
    )
    figures = figures.filter(pl.col("customers") >= settings.segment.min_cell)
    facts = models.meta(settings.models, version, models.CUSTOMER_OUTCOMES)["outcomes"] if _is_stored(settings, version) else {}
    return [
        {
            "name": name.replace("_", " "),
            "window_days": window_days,
            "rows": _list_segments(figures.filter(pl.col("outcome") == name), segments),
            **_summarize_choice(facts.get(name)),
        }
        for name, window_days in rows.select("outcome", "window_days").unique(maintain_order=True).sort("outcome").iter_rows()
    ]


def _is_stored(settings: Settings, version: str) -> bool:
    return models.exists(settings.models, version, models.CUSTOMER_OUTCOMES)


def _list_segments(figures: pl.DataFrame, segments: list[dict]) -> list[dict]:
    by_segment = {row["segment_id"]: row for row in figures.to_dicts()}
    return [segment | by_segment[segment["segment_id"]] for segment in segments if segment["segment_id"] in by_segment]


def _summarize_choice(facts: dict | None) -> dict:
    """Return the methods compared and the curves of the published one; none where the model is no longer stored."""
    if facts is None:
        return {"method": None, "methods": []}
    method = facts["method"]
    return {
        "method": name_method(method),
        "prevalence": facts["prevalence"],
        "customers": facts["customers"],
        "days": facts["days"],
        "refused": facts["refused"],
        "methods": [
            {"name": name_method(name), "is_published": name == method} | {measure: figures[measure] for measure in _MEASURES}
            for name, figures in facts["figures"].items()
        ],
        "roc": {name_method(name): _to_points(points) for name, points in facts["roc"].items()},
        "calibration": _to_points([(predicted, actual) for predicted, actual, _ in facts["calibration"]]),
        "dots": [
            {"x": predicted * CURVE_SIZE, "y": (1 - actual) * CURVE_SIZE, "predicted": predicted, "actual": actual}
            for predicted, actual, _ in facts["calibration"]
        ],
        "top_features": facts["top_features"],
        "size": CURVE_SIZE,
    }


def _to_points(pairs: Sequence[Sequence[float]]) -> str:
    """Return shares as the points of a line, upwards and to the right.

    >>> _to_points([(0, 0), (0.5, 1)])
    '0,200 100,0'
    """
    return " ".join(f"{x * CURVE_SIZE:.4g},{(1 - y) * CURVE_SIZE:.4g}" for x, y in pairs)


def name_method(method: str) -> str:
    """Return what a method is called.

    >>> name_method("recency"), name_method("network_with_vector")
    ('Days since the last order or visit', 'Neural network with the learned vector')
    """
    ending = next((ending for ending in _ENDINGS if method.endswith(ending)), "")
    return METHODS[method.removesuffix(ending)] + _ENDINGS.get(ending, "")
