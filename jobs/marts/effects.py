"""What each campaign changed, as of a day: the customers it was for against those who were held out.

Input: the declared campaigns, scores.holdouts, features.customer_days, features.customers. Everyone in the audience counts on
their side, whatever they did. Before the first day a row says what effect can be seen. Until the last day the intervals hold
however often one looks. From the last day on the interval is an ordinary one. The rows of a campaign end 30 days after it, when
its returns have come in.

A row claims something only where the sizes suffice for the smallest effect that matters, and where the draw shows no sample-ratio
mismatch. Until the last day the sizes are judged on the days before the campaign, then as it turned out.
"""

from datetime import date, timedelta

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.config.campaigns import Campaign, read_campaigns
from jobs.config.settings import Settings
from jobs.experiments.effects import (
    ALPHA,
    Estimate,
    Plan,
    correct_p_values,
    estimate_effect,
    judge_estimate,
    part_of_alpha,
    plan_effect,
)
from jobs.experiments.holdouts import MISMATCH, check_shares
from jobs.experiments.uplift import Uplift
from jobs.experiments.wording import explain_effect
from jobs.marts import _members, campaign_uplift
from jobs.marts._campaigns import add_metric, read_assigned
from jobs.progress import log
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SETTLING_DAYS = 30
STATUSES = ("planned", "running", "effect", "no_effect", "too_few", "mismatch")
SCHEMA = """
    day DATE COMMENT 'As of the end of this day, in the business time zone',
    campaign STRING COMMENT 'Name of the campaign',
    segment_id INT COMMENT 'Segment when the audience was taken; null: the whole audience',
    segment_name STRING COMMENT 'Its name then; null: the whole audience',
    metric STRING COMMENT 'orders, net, visits, conversion or churn: per customer over the window',
    first_day DATE COMMENT 'First day of the window',
    last_day DATE COMMENT 'Last day of the window',
    status STRING COMMENT 'planned: not begun; running: not over, nothing seen yet; effect; no_effect: over, and none was seen; too_few: not enough customers to tell; mismatch: the sides are not as drawn',
    n_treated BIGINT COMMENT 'Customers of the audience who are not held out',
    n_holdout BIGINT COMMENT 'Customers who are held out',
    expected_holdout DOUBLE COMMENT 'How many would be held out on average',
    mismatch_p DOUBLE COMMENT 'P-value of the draw; below 0.001 is a sample-ratio mismatch',
    mean_treated DOUBLE COMMENT 'Mean of the metric, adjusted by the days before; null where nothing is claimed, as are the next ones',
    mean_holdout DOUBLE COMMENT 'The same of the customers held out',
    difference DOUBLE COMMENT 'Mean of the treated less mean of the held out: the effect per customer',
    low DOUBLE COMMENT 'Lower end of its interval: 95 %; until the last day of all days together 99 %; of segments together as much',
    high DOUBLE COMMENT 'Upper end of the interval',
    relative DOUBLE COMMENT 'The difference as a share of the mean of the held out; null where that may be 0',
    relative_low DOUBLE COMMENT 'Lower end of its interval',
    relative_high DOUBLE COMMENT 'Upper end of its interval',
    p_value DOUBLE COMMENT 'P-value of no difference, corrected for looking every day until the last; below 0.05 is an effect',
    p_corrected DOUBLE COMMENT 'The same, corrected for the number of segments (Holm); of the whole audience the same',
    variance_reduction DOUBLE COMMENT 'Share of the variance that the adjustment by the days before took away',
    smallest_effect DOUBLE COMMENT 'The smallest effect that matters, as a share of the mean: from the file of the campaign',
    detectable DOUBLE COMMENT 'Difference that is found with a probability of 0.8: judged on the days before it, and from the last day on as it turned out; null: nothing to judge by',
    detectable_share DOUBLE COMMENT 'The same as a share of the mean, over as many days before it or of the held out',
    needed_customers BIGINT COMMENT 'Customers that it takes to find the smallest effect that matters, with these shares held out',
    uplift_method STRING COMMENT 'two_model or transformed_outcome; null before the last day, and of segments',
    qini DOUBLE COMMENT 'Qini coefficient of the uplift by customer: above 0, treating the highest first beats chance',
    qini_low DOUBLE COMMENT 'Lower end of its interval: where it is above 0, marts.campaign_uplift has the customers',
    qini_high DOUBLE COMMENT 'Upper end of its interval',
    qini_curve ARRAY<DOUBLE> COMMENT 'Gain per customer of the audience where the first 1, 2, ... 10 tenths by uplift are treated'
"""  # noqa: E501  a comment is one text
TABLE = Table(
    "marts.effects",
    "One row per campaign, day and segment, and one for the whole audience: what the campaign changed.",
    SCHEMA,
    partition="day",
    checks={"status_is_known": f"status IN {STATUSES}"},
)


def measure_effects(members: pl.DataFrame, campaign: Campaign, day: date, min_cell: int) -> list[dict]:
    """Return the rows of a campaign without names and uplift: the whole audience, then its segments.

    `members` are those of add_metric(), sorted by customer. Segments of fewer than `min_cell` customers have no row.
    """
    members = members.filter("is_kept")
    sizes = dict(members.group_by("segment_id").len().iter_rows())
    segments = sorted(segment_id for segment_id, n in sizes.items() if n >= min_cell)
    total = _measure_group(members, campaign, day, None, 1)
    rows = [_measure_group(members.filter(segment_id=i), campaign, day, i, len(segments)) for i in segments]
    claimed = [row for row in rows if row["p_value"] is not None]
    for row, corrected in zip(claimed, correct_p_values([row["p_value"] for row in claimed]), strict=True):
        row["p_corrected"] = corrected
    for row in (total, *rows):
        _decide(row, campaign, day, is_mismatch=total["mismatch_p"] < MISMATCH)
    return [total, *rows]


def _measure_group(members: pl.DataFrame, campaign: Campaign, day: date, segment_id: int | None, n_groups: int) -> dict:
    """Return the figures of the whole audience or of one of `n_groups` segments."""
    held_out, share = members["holdout"].to_numpy(), members["share"].to_numpy()
    outcome, before, trial, trial_before = (
        members[name].to_numpy() for name in ("outcome", "before", "trial_outcome", "trial_before")
    )
    shares = check_shares(held_out, share)
    row = dict.fromkeys(TABLE.columns) | {
        "day": day, "campaign": campaign.name, "segment_id": segment_id, "metric": campaign.metric,
        "first_day": campaign.first_day, "last_day": campaign.last_day, "n_treated": len(members) - shares.held_out,
        "n_holdout": shares.held_out, "expected_holdout": shares.expected, "mismatch_p": shares.p_value,
        "smallest_effect": campaign.smallest_effect,
    }  # fmt: skip
    is_over, limits = day >= campaign.last_day, (campaign.smallest_effect, ALPHA / n_groups)
    plan = None if is_over else plan_effect(trial, trial_before, held_out, share, *limits)
    if day >= campaign.first_day:
        estimate = estimate_effect(outcome, before, held_out, share, is_early=not is_over)
        row |= _describe_estimate(estimate, part_of_alpha(campaign.days - 1, is_over), n_groups)
        plan = judge_estimate(estimate, len(members), *limits) if is_over and estimate else plan
    return row | _describe_plan(plan)


def _describe_plan(plan: Plan | None) -> dict:
    return dict(zip(("detectable", "detectable_share", "needed_customers"), plan or (), strict=False))


def _describe_estimate(estimate: Estimate | None, alpha: float, n_groups: int) -> dict:
    if estimate is None:
        return {}
    low, high = estimate.interval(alpha / n_groups)
    relative = estimate.relative_interval(alpha / n_groups) or (None, None, None)
    p_value = min(1.0, estimate.p_value * ALPHA / alpha)
    return {
        "mean_treated": estimate.mean_treated, "mean_holdout": estimate.mean_holdout, "difference": estimate.difference,
        "low": low, "high": high, "relative": relative[0], "relative_low": relative[1], "relative_high": relative[2],
        "p_value": p_value, "p_corrected": p_value, "variance_reduction": estimate.variance_reduction,
    }  # fmt: skip


_CLAIMLESS = ("mismatch", "too_few")
_CLAIMS = (
    "mean_treated", "mean_holdout", "difference", "low", "high", "relative", "relative_low", "relative_high", "p_value",
    "p_corrected", "variance_reduction",
)  # fmt: skip


def _decide(row: dict, campaign: Campaign, day: date, is_mismatch: bool) -> None:
    """Set the status, and take away the figures of a row that claims nothing."""
    detectable_share = row["detectable_share"]
    has_power = detectable_share is not None and detectable_share <= campaign.smallest_effect
    if is_mismatch:
        row["status"] = "mismatch"
    elif day < campaign.first_day:
        row["status"] = "planned"
    elif not has_power:
        row["status"] = "too_few"
    elif row["p_corrected"] is not None and row["p_corrected"] < ALPHA:
        row["status"] = "effect"
    else:
        row["status"] = "no_effect" if day >= campaign.last_day else "running"
    if row["status"] in _CLAIMLESS:
        row |= dict.fromkeys(_CLAIMS)


def run(lake: Lake, settings: Settings, day: date) -> str | None:
    """Write the effects of the day, and the uplift of campaigns that ended; return what was left out, and why."""
    rows, omissions = [], []
    lake.create(campaign_uplift.TABLE)
    for campaign in read_campaigns(settings.campaigns).declared:
        if day > campaign.last_day + timedelta(days=SETTLING_DAYS):
            continue
        members = read_assigned(lake, campaign, day)
        if not members["is_kept"].any():
            continue  # scores.holdouts says why
        members = add_metric(lake, campaign, day, members)
        of_campaign = measure_effects(members, campaign, day, settings.segment.min_cell)
        names = _members.read_segment_names(lake, members["assigned_on"][0])
        for row in of_campaign:
            row["segment_name"] = names.get(row["segment_id"])
        total = of_campaign[0]
        if total["status"] != "mismatch":
            total |= _describe_uplift(lake, settings, campaign, day, members)
        log(f"publish campaign {campaign.name}: {explain_effect(total)}")
        if total["status"] in _CLAIMLESS:
            omissions.append(f"campaign {campaign.name}: {explain_effect(total)}")
        rows += of_campaign
    lake.create(TABLE)
    lake.replace_rows(TABLE, pa.Table.from_pylist(rows, TABLE.arrow_schema), [day])
    return "; ".join(omissions) or None


_UPLIFT = ("uplift_method", "qini", "qini_low", "qini_high", "qini_curve")


def _describe_uplift(lake: Lake, settings: Settings, campaign: Campaign, day: date, members: pl.DataFrame) -> dict:
    """Return the columns on uplift: learned on the first known day from the last one on, and as they were then on later days."""
    if day < campaign.last_day:
        return {}
    first_known = min(known_day for known_day in lake.days("segments.assignments") if known_day >= campaign.last_day)
    if day > first_known:
        of_campaign = (
            (ds.field("campaign") == campaign.name) & (ds.field("day") == first_known) & ds.field("segment_id").is_null()
        )
        rows = lake.read_small_table(TABLE, list(_UPLIFT), of_campaign)
        return rows[0] if rows else {}
    uplift: Uplift | None = campaign_uplift.learn(lake, settings, campaign, day, members)
    if uplift is None:
        return {}
    return dict(zip(_UPLIFT, (uplift.method, uplift.qini, uplift.low, uplift.high, uplift.curve), strict=True))
