"""The section on what each group of inputs adds to segments and outcomes."""

from datetime import date

from jobs.config.settings import Settings
from jobs.report._tables import read_rows
from jobs.storage import models

# Groups of inputs, as people call them.
GROUPS = {
    "text": "Texts",
    "own_vectors": "The shop’s own vectors",
    "sequence": "Order of events",
    "all": "All groups",
}
_SEPARATION = "Variance explained by the segments"


def summarize_groups(settings: Settings, day: date, candidates: list[dict], version: str) -> dict | None:
    """Return what each group adds to the segments of the model `version`, and to the outcomes by the models of the day.

    `candidates` are the rows of segments.candidates. None where there are no groups.
    """
    columns = {_SEPARATION: _list_separation(candidates, version)} | _list_outcomes(settings, day)
    columns = {name: gains for name, gains in columns.items() if gains}
    if not columns:
        return None
    scales = {name: max(max(-row["low"], row["high"]) for row in gains.values()) for name, gains in columns.items()}
    of_outcomes = [scale for name, scale in scales.items() if name != _SEPARATION]
    scales |= {name: max(of_outcomes) for name in scales if name != _SEPARATION}  # so that outcomes can be compared
    return {
        "columns": [{"name": name, "is_separation": name == _SEPARATION} for name in scales],
        "rows": [
            {"name": GROUPS[group], "gains": [_describe(columns[name].get(group), scale) for name, scale in scales.items()]}
            for group in GROUPS
            if any(group in gains for gains in columns.values())
        ],
    }


def _list_separation(candidates: list[dict], version: str) -> dict[str, dict]:
    """Return by group what it adds to the variance that segments by the same network explain without it."""
    rows = {
        row["representation"].removeprefix("learned_"): {
            "gain": row["separation_gain"],
            "low": row["separation_gain_low"],
            "high": row["separation_gain_high"],
            "customers": row["n_customers"],
            "baseline": row["separation"] - row["separation_gain"],
        }
        for row in candidates
        if row["model_version"] == version and row.get("separation_gain") is not None
    }
    return {group: rows[group] for group in GROUPS if group in rows}


def _list_outcomes(settings: Settings, day: date) -> dict[str, dict[str, dict]]:
    """Return by outcome and group what it adds to the area under the ROC curve."""
    entry = models.champion(settings.models, day, models.CUSTOMER_OUTCOMES)
    columns: dict[str, dict[str, dict]] = {}
    for row in read_rows(settings.lake, "scores.ablation") if entry else []:
        if row["model_version"] == entry["version"]:
            gain = {"gain": row["gain"], "low": row["gain_low"], "high": row["gain_high"]}
            gain |= {"customers": row["n_customers"], "baseline": row["roc_auc"]}
            columns.setdefault(row["outcome"].replace("_", " ").capitalize(), {})[row["input_group"]] = gain
    return dict(sorted(columns.items()))


def _describe(gain: dict | None, scale: float) -> dict | None:
    """Return a gain with what can be said of it, and its bar: shares of the width, the middle of which is no gain.

    >>> row = _describe({"gain": 0.02, "low": 0.01, "high": 0.04}, 0.04)
    >>> row["verdict"], row["left"], row["width"], row["interval_left"], row["interval_width"]
    ('adds', 0.5, 0.25, 0.625, 0.375)
    >>> _describe({"gain": 0.02, "low": 0.0, "high": 0.04}, 0.04)["verdict"]
    'adds nothing that can be told from chance'
    """
    if gain is None:
        return None
    verdict = "adds" if gain["low"] > 0 else "takes away" if gain["high"] < 0 else "adds nothing that can be told from chance"
    low, middle, high = (0.5 + gain[name] / (2 * scale or 1) for name in ("low", "gain", "high"))
    return gain | {
        "verdict": verdict,
        "left": min(middle, 0.5),
        "width": abs(middle - 0.5),
        "interval_left": low,
        "interval_width": high - low,
    }
