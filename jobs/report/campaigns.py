"""The section on campaigns: what each changed, or what it will be able to see."""

from datetime import date

from jobs.config.campaigns import METRICS
from jobs.experiments.wording import explain_effect, explain_uplift, format_difference, format_value
from jobs.report._tables import read_rows


def summarize_campaigns(root: str, day: date) -> list[dict]:
    """Return the campaigns of the day, each with its sentence and its rows, the whole audience first."""
    rows = read_rows(root, "marts.effects", day=day)
    rows.sort(key=lambda row: (row["campaign"], row["segment_id"] is not None, row["segment_id"]))
    return [
        {
            "name": total["campaign"],
            "noun": METRICS[total["metric"]],
            "first_day": total["first_day"],
            "last_day": total["last_day"],
            "sentence": explain_effect(total),
            "uplift": explain_uplift(total),
            "rows": [_describe_row(row) for row in rows if row["campaign"] == total["campaign"]],
        }
        for total in rows
        if total["segment_id"] is None
    ]


def list_holdouts(campaigns: list[dict], day: date) -> dict[int, list[str]]:
    """Return the campaigns of summarize_campaigns() with customers held out by segment, those that are not over on the day."""
    holdouts: dict[int, list[str]] = {}
    for campaign in campaigns:
        for row in campaign["rows"]:
            if row["segment_id"] is not None and row["n_holdout"] and campaign["last_day"] >= day:
                holdouts.setdefault(row["segment_id"], []).append(campaign["name"])
    return holdouts


_MEANS, _DIFFERENCES = ("mean_treated", "mean_holdout"), ("difference", "low", "high")


def _describe_row(row: dict) -> dict:
    texts = {name: format_value(row[name], row["metric"]) for name in _MEANS}
    texts |= {name: format_difference(row[name], row["metric"]) for name in _DIFFERENCES}
    return row | texts | {"interval": None if row["low"] is None else f"{texts['low']} to {texts['high']}"}
