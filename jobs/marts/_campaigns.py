"""The customers of a campaign, and what they did before it and in it."""

from datetime import date, timedelta

import duckdb
import polars as pl

from jobs.config.campaigns import Campaign, read_campaigns
from jobs.config.settings import Settings
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table

# The columns that are read.
HOLDOUTS = Table(
    "scores.holdouts",
    "Who is held out of a campaign.",
    "campaign STRING, customer_id STRING, assigned_on DATE, segment_id INT, share DOUBLE, holdout BOOLEAN",
    partition="campaign",
)
_CUSTOMERS = Table("features.customers", "Who is known on a day.", "customer_id STRING, day DATE", partition="day")
_SUMMED = {"orders": "orders", "net": "net", "visits": "sessions", "conversion": "orders", "churn": "orders"}
_DAYS = "customer_id STRING, day DATE, identified_on DATE, known_until DATE, orders BIGINT, sessions BIGINT, net DECIMAL(18,4)"
_CUSTOMER_DAYS = Table("features.customer_days", "What customers did on a day.", _DAYS, partition="day")

# A day counts as it was known on another day: `identified_on` and `known_until` say from when until when a row holds.
_SUMS = """
    SELECT customer_id,
        sum(value) FILTER (day BETWEEN $first_day AND $until AND known_now)::DOUBLE AS outcome,
        sum(value) FILTER (day BETWEEN $pre_first AND $eve AND known_then)::DOUBLE AS before,
        sum(value) FILTER (day BETWEEN $trial_first AND $eve AND known_then)::DOUBLE AS trial_outcome,
        sum(value) FILTER (day < $trial_first AND day >= $trial_pre_first AND known_then)::DOUBLE AS trial_before
    FROM (
        SELECT *, identified_on <= $day AND known_until > $day AS known_now,
            identified_on <= $assigned_on AND known_until > $assigned_on AS known_then
        FROM days SEMI JOIN members USING (customer_id)
    )
    GROUP BY customer_id
"""
SUMS = ("outcome", "before", "trial_outcome", "trial_before")


def list_in_force(lake: Lake, settings: Settings, day: date) -> set[str]:
    """Return the names of the campaigns that are announced or in force on a day.

    A wrong file may be that of any other campaign that has a holdout, so all these are left alone until it is corrected.
    """
    campaigns = read_campaigns(settings.campaigns)
    in_force = {campaign.name for campaign in campaigns.declared if day <= campaign.last_day}
    if campaigns.problems:
        stored = {name for (name,) in lake.count_by(HOLDOUTS.name, ["campaign"])}
        in_force |= stored - {campaign.name for campaign in campaigns.declared}
    return in_force


def read_assigned(lake: Lake, campaign: Campaign, day: date) -> pl.DataFrame:
    """Return the columns of HOLDOUTS of a campaign, sorted by customer; none where they were made later than `day`.

    `is_kept` says whether the customer is still known on the day: an account that was merged into another one is not.
    """
    of_campaign = read_rows(lake.root, Rows(HOLDOUTS, "customer_id", days=[campaign.name]))
    members = pl.DataFrame(pl.from_arrow(of_campaign)).filter(pl.col("assigned_on") <= day).sort("customer_id")
    known_ids = pl.Series(read_rows(lake.root, Rows(_CUSTOMERS, "customer_id", ("customer_id",), [day]))["customer_id"])
    return members.with_columns(is_kept=pl.col("customer_id").is_in(known_ids.implode()))


def add_metric(lake: Lake, campaign: Campaign, day: date, members: pl.DataFrame) -> pl.DataFrame:
    """Return the members with the metric of the campaign over four windows, SUMS.

    `outcome` is over the campaign until the day, as known by it. The others are as known when the audience was taken: `before`
    over `pre_days` days before the campaign; `trial_outcome` over as many days before it as it is long, and `trial_before` over
    `pre_days` days before those.
    """
    trial_first = campaign.first_day - timedelta(days=campaign.days)
    trial_pre_first = trial_first - timedelta(days=campaign.pre_days)
    pre_first = campaign.first_day - timedelta(days=campaign.pre_days)
    first = min(trial_pre_first, pre_first)
    until = min(day, campaign.last_day)
    days = [first + timedelta(days=n) for n in range((max(until, campaign.eve) - first).days + 1)]
    column = _SUMMED[campaign.metric]
    columns = ("customer_id", "day", "identified_on", "known_until", column)
    rows = read_rows(lake.root, Rows(_CUSTOMER_DAYS, "customer_id", columns, days)).rename_columns([*columns[:-1], "value"])
    dates = {
        "day": day, "first_day": campaign.first_day, "until": until, "eve": campaign.eve, "pre_first": pre_first,
        "trial_first": trial_first, "trial_pre_first": trial_pre_first, "assigned_on": members["assigned_on"].max(),
    }  # fmt: skip
    with duckdb.connect() as connection:  # not the shared one, which serves one thread
        connection.register("days", rows)
        connection.register("members", members.select("customer_id").to_arrow())
        sums = pl.DataFrame(pl.from_arrow(connection.sql(_SUMS, params=dates).to_arrow_table()))
    sums = members.join(sums, "customer_id", "left", maintain_order="left").with_columns(pl.col(*SUMS).fill_null(0.0))
    if campaign.metric == "conversion":
        return sums.with_columns((pl.col(*SUMS) > 0).cast(pl.Float64))
    if campaign.metric == "churn":
        return sums.with_columns((pl.col(*SUMS) <= 0).cast(pl.Float64))
    return sums
