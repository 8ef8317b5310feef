"""The sections on why these segments: the gate's decision, the number of segments, and other clustering methods."""

from jobs.config.settings import KMEANS
from jobs.report import charts

# What customers can be clustered by, as people call it.
REPRESENTATIONS = {
    "learned": "Learned embedding",
    "sequence": "Sequence embedding",
    "learned_text": "Learned embedding with text",
    "learned_own_vectors": "Learned embedding with own vectors",
    "learned_sequence": "Learned embedding with sequences",
    "learned_all": "Learned embedding with all groups",
    "pca": "PCA",
    "features": "Raw features",
    "live": "Live model",
}
METHODS = {
    "kmeans": "K-Means",
    "bisecting": "Bisecting K-Means",
    "gaussian_mixture": "Gaussian mixture",
    "ward": "Ward",
    "hdbscan": "HDBSCAN",
}
# Columns of segments.candidates that a lake of an earlier version lacks.
LATER_COLUMNS = ("calinski_harabasz", "cluster_stability", "representation", "method")
SWEEP_FIGURES = {"silhouette": "silhouette", "stability": "run-to-run stability"}


def summarize_decision(run: dict | None) -> dict | None:
    """Return what a row of marts.refreshes says was decided, and the figures of the representations compared."""
    if not (run and run.get("decision")):
        return None
    published, _, reason = run["decision"].partition(": ")
    order = list(REPRESENTATIONS)
    return {
        "day": run["decided_on"],
        "published": published,
        "reason": reason[:1].upper() + reason[1:],
        "rows": sorted(run["judged"], key=lambda row: order.index(row["representation"])),
    }


def summarize_candidates(candidates: list[dict], version: str) -> dict | None:
    """Return the numbers of segments tried for the published representation, their chart, and the other methods.

    `candidates` are the rows of segments.candidates. None where it has none of this model.
    """
    rows = [dict.fromkeys(LATER_COLUMNS) | row for row in candidates if row["model_version"] == version]
    chosen = next((c for c in rows if c["chosen"]), None)
    representation = chosen and chosen["representation"]
    rows = [c for c in rows if c["representation"] == representation]
    sweep = sorted((c for c in rows if c["method"] in (None, KMEANS)), key=lambda c: c["k"])
    if not sweep:
        return None
    alternatives = sorted((c for c in rows if c["method"] not in (None, KMEANS)), key=lambda c: c["method"])
    chosen_sweep = [c for c in sweep if alternatives and chosen and c["k"] == chosen["k"]]
    return {
        "rows": [c | {"least_stable": min(c["cluster_stability"] or [], default=None)} for c in sweep],
        "chart": charts.sweep_chart(sweep, SWEEP_FIGURES),
        "is_refused": any(c["chosen"] and c["refused_by"] for c in sweep),
        "methods": [c | {"name": METHODS.get(c["method"] or KMEANS, c["method"])} for c in [*chosen_sweep, *alternatives]],
    }


def summarize_fit(definitions: list[dict]) -> dict | None:
    """Return how well separated all active customers were in the segments at the fit, from a model's definitions.

    None for a lake of an earlier version, which does not say.
    """
    scored = [d for d in definitions if d.get("silhouette") is not None]
    if not scored:
        return None
    n = sum(d["n_customers"] for d in scored)
    return {
        "n_customers": n,
        "day": scored[0]["fitted_on"],
        "silhouette": sum(d["silhouette"] * d["n_customers"] for d in scored) / n,
        "davies_bouldin": sum(d["davies_bouldin"] for d in scored) / len(scored),
        "least": min(scored, key=lambda d: d["silhouette"]),
    }
