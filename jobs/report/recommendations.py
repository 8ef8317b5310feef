"""The section on what to offer: by segment, which products mark it, and which contestant made the lists."""

import json
from datetime import date

import pyarrow.compute as pc

from jobs.config.settings import Settings
from jobs.report._tables import read_table
from jobs.storage import models

# What makes a list, as people call it.
METHODS = {
    "popularity": "Popularity",
    "segment_popularity": "Popularity in the segment",
    "co_purchase": "Co-purchase",
    "content": "Content match",
    "als": "ALS",
    "blend": "Blend",
}


def summarize_recommendations(settings: Settings, day: date, segments: list[dict]) -> dict | None:
    """Return how the day's lists were made, and for each of the listed `segments` the products that mark it.

    None where the day has no recommendations.
    """
    rows = read_table(settings.lake, "scores.recommendations", ["rank", "method", "model_version"], day)
    if not rows:
        return None
    version, counts = rows["model_version"][0].as_py(), rows.group_by("method").aggregate([([], "count_all")]).to_pylist()
    counts.sort(key=lambda row: (-row["count_all"], row["method"]))
    return {
        "n_customers": pc.sum(pc.equal(rows["rank"], 1)).as_py(),
        "parts": [{"name": METHODS[row["method"]], "share": row["count_all"] / rows.num_rows} for row in counts],
        **_summarize_model(settings.models, version, segments),
    }


def _summarize_model(root: str, version: str, segments: list[dict]) -> dict:
    """Return the reason of the choice, the contestants compared and the products of segments, as far as they are known."""
    if not models.exists(root, version, models.RECOMMENDATIONS):
        return {"method": None, "reason": None, "contestants": [], "since": None, "tested": 0, "fitted_on": None, "segments": []}
    meta = models.meta(root, version, models.RECOMMENDATIONS)
    of_segments = json.loads(models.read(root, version, "segments.json", models.RECOMMENDATIONS))
    by_segment = {row["segment_id"]: row for row in of_segments}
    return {
        "method": METHODS[meta["method"]],
        "reason": _name_methods(meta["reason"]),
        "contestants": [
            {"name": METHODS[name], "is_published": name == meta["method"], **figures}
            for name, figures in meta["backtest"]["figures"].items()
        ],
        "since": meta["backtest"]["day"],
        "tested": meta["backtest"]["customers"],
        "fitted_on": meta["day"],
        "segments": [
            segment | _describe_products(by_segment[segment["segment_id"]])
            for segment in segments
            if segment["segment_id"] in by_segment
        ],
    }


def _describe_products(of_segment: dict) -> dict:
    """Return the products and pairs of a segment by name, by id where they have none."""
    return {
        "buyers": of_segment["buyers"],
        "products": [row | {"label": row["name"] or row["product_id"]} for row in of_segment["products"]],
        "pairs": [
            row | {"labels": [name or id_ for name, id_ in zip(row["names"], row["product_ids"], strict=True)]}
            for row in of_segment["pairs"]
        ],
    }


def _name_methods(reason: str) -> str:
    """Return a reason with the contestants as people call them.

    >>> _name_methods("als is better than popularity and co_purchase in NDCG; blend is not better than it")
    'ALS is better than popularity and co-purchase in NDCG; blend is not better than it.'
    """
    words = {name: label if label == "ALS" else label[:1].lower() + label[1:] for name, label in METHODS.items()}
    text = " ".join(words.get(word, word) for word in reason.split(" "))
    return f"{text[:1].upper()}{text[1:]}."
