"""`shoal effect`: what a campaign changed, from marts.effects."""

from datetime import date

import pyarrow.dataset as ds

from jobs.cli.text_table import align_columns
from jobs.config.campaigns import Campaign, read_campaigns
from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.experiments.wording import explain_effect, explain_mismatch, explain_uplift, format_difference, format_value
from jobs.report.formatting import format_count, format_number, format_percent
from jobs.storage.delta import read_arrow

_WHOLE = "all"


def print_effect(settings: Settings, name: str, day: date | None) -> None:
    """Print the effect of a campaign as of `day`, or of the latest published day.

    Raises UserError for a campaign that is not declared or not published, and for a sample-ratio mismatch.
    """
    rows = read_effect(settings, name, day)
    if rows[0]["status"] == "mismatch":
        raise UserError(f"effect: campaign {name}: {explain_mismatch(rows[0])}. See docs/campaigns.md for what may cause it")
    print(format_effect(rows))


def read_effect(settings: Settings, name: str, day: date | None) -> list[dict]:
    """Return the rows of marts.effects of a campaign and day, that of the whole audience first."""
    campaign = read_campaigns(settings.campaigns).find(name)
    published = sorted(set(read_arrow(settings.lake, "marts.refreshes", ["day"])["day"].to_pylist()))
    if day and day not in published:
        raise UserError(f"effect: {day} is not published in {settings.lake}. Run first: shoal refresh --day {day}")
    rows = read_arrow(settings.lake, "marts.effects", where=ds.field("campaign") == name).to_pylist()
    day = day or max((row["day"] for row in rows), default=None)
    rows = [row for row in rows if row["day"] == day]
    if not rows:
        raise UserError(f"effect: campaign {name}: {_explain_absence(campaign, day or published[-1])}")
    return sorted(rows, key=lambda row: (row["segment_id"] is not None, row["segment_id"]))


def _explain_absence(campaign: Campaign, day: date) -> str:
    if day >= campaign.first_day:
        return (
            f"no holdout was kept from {campaign.first_day} on, so {day} has no effect of it."
            " Declare it under a first_day that is still to come"
        )
    return f"nothing is published of it on {day}. Run: shoal refresh --steps score,publish --day {day}"


def format_effect(rows: list[dict]) -> str:
    """Return the rows of a campaign and day as a table, below what they say."""
    total = rows[0]
    metric = total["metric"]
    head = ["segment", "name", "treated", "held out", "mean, treated", "mean, held out", "difference", "interval", "p", "status"]
    head += ["detectable"]
    lines = []
    for row in rows:
        low, high = (format_difference(row[end], metric) for end in ("low", "high"))
        lines.append(
            [
                _WHOLE if row["segment_id"] is None else str(row["segment_id"]),
                row["segment_name"] or "",
                format_count(row["n_treated"]),
                format_count(row["n_holdout"]),
                *(format_value(row[mean], metric) for mean in ("mean_treated", "mean_holdout")),
                format_difference(row["difference"], metric),
                "–" if row["low"] is None else f"{low} to {high}",
                format_number(row["p_corrected"]),
                row["status"],
                format_percent(row["detectable_share"]),
            ]
        )
    uplift = explain_uplift(total)
    return "\n".join(
        [
            f"{total['campaign']}, {metric}, {total['first_day']} to {total['last_day']}, as of {total['day']}",
            explain_effect(total),
            *([f"uplift {uplift}"] if uplift else []),
            "",
            *align_columns([head, *lines], left={0, 1, 9}),
        ]
    )
