"""The forecast effect of a campaign on each customer of its audience, learned from the campaign once it has ended.

Input: scores.holdouts, features.customers as of the day when the audience was taken, and what customers did in the campaign. Two
methods compete; every customer is scored by models that did not see them. A campaign has rows only where treating the highest
first beats chance: where the interval of its Qini coefficient lies above zero. marts.effects has the coefficients.
"""

from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa

from jobs.config.campaigns import LOWER_IS_BETTER, Campaign
from jobs.config.settings import Settings
from jobs.experiments.uplift import Uplift, estimate_uplift
from jobs.progress import log
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table
from jobs.storage.vectors import to_matrix

SCHEMA = """
    campaign STRING COMMENT 'Name of the campaign',
    customer_id STRING COMMENT 'Customer of its audience',
    day DATE COMMENT 'The effect is learned from what was known by this day, the first from the last day of the campaign on',
    metric STRING COMMENT 'orders, net, visits, conversion or churn: per customer over the window',
    method STRING COMMENT 'two_model or transformed_outcome',
    uplift DOUBLE COMMENT 'Forecast effect of the campaign on the metric of such a customer',
    tenth INT COMMENT 'Tenth of the audience by what is gained, 1: the best to treat'
"""
TABLE = Table(
    "marts.campaign_uplift",
    "One row per campaign and customer: the forecast effect on the customer, where it beats chance.",
    SCHEMA,
    partition="campaign",
    checks={"has_customer": "customer_id IS NOT NULL", "a_tenth": "tenth BETWEEN 1 AND 10"},
)
_VECTORS = Table(
    "features.customers", "What is known of customers.", "customer_id STRING, day DATE, vector ARRAY<FLOAT>", partition="day"
)


def to_rows(members: pl.DataFrame, uplift: Uplift, campaign: Campaign, day: date) -> pa.Table:
    """Return marts.campaign_uplift of a campaign, in the order of the members (n), whose gains are `uplift.scores` (n)."""
    sign = -1.0 if campaign.metric in LOWER_IS_BETTER else 1.0
    place = np.empty(len(members), dtype=np.int64)
    place[np.argsort(-uplift.scores, kind="stable")] = np.arange(len(members))
    rows = members.select(
        "customer_id",
        campaign=pl.lit(campaign.name), day=pl.lit(day), metric=pl.lit(campaign.metric), method=pl.lit(uplift.method),
        uplift=pl.Series(sign * uplift.scores), tenth=pl.Series(place * 10 // len(members) + 1),
    )  # fmt: skip
    return rows.select(TABLE.columns).to_arrow()


def learn(lake: Lake, settings: Settings, campaign: Campaign, day: date, members: pl.DataFrame) -> Uplift | None:
    """Write the uplift of a campaign that has ended, or no rows where it does not beat chance, and return it.

    `members` are those of _campaigns.add_metric(). None where a side has too few customers or nothing is known of them.
    """
    vectors = read_rows(
        lake.root, Rows(_VECTORS, "customer_id", ("customer_id", "vector"), [members["assigned_on"][0]])
    ).combine_chunks()
    places = pl.DataFrame({"customer_id": vectors["customer_id"]}).with_row_index("place")
    joined = members.filter("is_kept").join(places, "customer_id", "inner", maintain_order="left")
    features = to_matrix(vectors["vector"].take(joined["place"].to_arrow()))
    sign = -1.0 if campaign.metric in LOWER_IS_BETTER else 1.0
    held_out, share = joined["holdout"].to_numpy(), joined["share"].to_numpy()
    uplift = estimate_uplift(features, sign * joined["outcome"].to_numpy(), held_out, share, settings.scores.seed)
    is_published = uplift is not None and uplift.holds
    rows = to_rows(joined, uplift, campaign, day) if is_published else TABLE.arrow_schema.empty_table()
    lake.replace_rows(TABLE, rows, [campaign.name])
    log(f"publish uplift of {campaign.name}: {describe_uplift(uplift)}")
    return uplift


def describe_uplift(uplift: Uplift | None) -> str:
    """Return what became of the uplift by customer."""
    if uplift is None:
        return "not learned, because a side has too few customers"
    interval = f"Qini coefficient {uplift.qini:.4g} ({uplift.low:.4g} to {uplift.high:.4g}), {uplift.method}"
    return f"{interval}: {'published' if uplift.holds else 'not better than chance, so nothing is published'}"
