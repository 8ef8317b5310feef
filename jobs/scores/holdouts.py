"""Who is in the audience of a campaign, and who of them is held out: the campaign must leave them alone.

Input: the declared campaigns, segments.assignments, features.customers and scores.customer_values of the day. Until a campaign
begins, each day replaces its rows by the audience of that day. Once a day of the campaign is published, the rows are kept as
they are, whatever customers, segments or the file become: everyone stays on their side. A campaign that was first declared then
has no holdout and is left out.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl
import pyarrow as pa

from jobs import catalogue
from jobs.config.campaigns import SCORES, Campaign, Condition, read_campaigns
from jobs.config.settings import Settings, read_secret
from jobs.errors import UserError
from jobs.experiments.holdouts import draw_numbers
from jobs.scores import customer_values
from jobs.scores._inputs import ASSIGNMENTS
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table

SCHEMA = """
    campaign STRING COMMENT 'Name of the campaign',
    customer_id STRING COMMENT 'Customer in its audience',
    assigned_on DATE COMMENT 'Day as of whose end the audience and the segment were taken',
    segment_id INT COMMENT 'Segment of the customer on that day',
    share DOUBLE COMMENT 'Share of such customers that is held out, above 0 and below 1',
    holdout BOOLEAN COMMENT 'Whether the campaign must leave the customer alone'
"""
TABLE = Table(
    "scores.holdouts",
    "One row per campaign and customer of its audience: whether the customer is held out.",
    SCHEMA,
    partition="campaign",
    checks={"has_customer": "customer_id IS NOT NULL", "a_share": "share > 0 AND share < 1"},
)
_REFRESHES = Table("marts.refreshes", "The published days.", "day DATE")


def hold_out(customers: pl.DataFrame, campaign: Campaign, day: date, secret: str) -> pa.Table:
    """Return scores.holdouts of a campaign, of the customers of a day.

    `customers` has customer_id, segment_id and the columns of the campaign's conditions. Sorted by customer.
    """
    audience = select_audience(customers, campaign).sort("customer_id")
    segment_shares = {segment_id: campaign.share_of(segment_id) for segment_id in audience["segment_id"].unique()}
    shares = audience["segment_id"].replace_strict(segment_shares, return_dtype=pl.Float64)
    numbers = pl.Series(draw_numbers(campaign.name, audience["customer_id"].to_list(), secret))
    rows = audience.select(
        "customer_id",
        "segment_id",
        campaign=pl.lit(campaign.name),
        assigned_on=pl.lit(day),
        share=shares,
        holdout=numbers < shares,
    )
    return rows.select(TABLE.columns).to_arrow()


def select_audience(customers: pl.DataFrame, campaign: Campaign) -> pl.DataFrame:
    """Return the customers that a campaign is for. A value that is not known fulfils no condition."""
    conditions = [_to_expression(condition) for condition in campaign.where]
    if campaign.segments:
        conditions.append(pl.col("segment_id").is_in(campaign.segments))
    return customers.filter(*conditions) if conditions else customers


def _to_expression(condition: Condition) -> pl.Expr:
    column, value = pl.col(condition.column), condition.value
    is_text = isinstance(value[0] if condition.operator == "in" else value, str)
    column = column if is_text else column.cast(pl.Float64)
    if condition.operator == "in":
        return column.is_in(list(value) if is_text else [float(number) for number in value])
    comparisons = {"=": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
    return getattr(column, comparisons[condition.operator])(value)


def run(lake: Lake, settings: Settings, day: date, retrain: bool = False) -> str | None:
    """Write the holdouts of the campaigns that have not begun; return which campaigns were left out of the day, and why."""
    lake.create(TABLE)
    campaigns = read_campaigns(settings.campaigns)
    omissions = list(campaigns.problems.values())
    due = []
    published = lake.read_arrow(_REFRESHES)["day"].to_pylist() if campaigns.declared else []
    stored = dict(lake.count_by(TABLE.name, ["campaign", "assigned_on"]).keys())
    for campaign in campaigns.declared:
        is_fixed = day >= campaign.first_day or any(known_day >= campaign.first_day for known_day in published)
        if not is_fixed and stored.get(campaign.name, day) <= day:
            due.append(campaign)
        elif is_fixed and campaign.name not in stored:
            omissions.append(
                f"campaign {campaign.name} began on {campaign.first_day} and was declared later: no holdout was kept."
                " Declare it under a first_day that is still to come"
            )
    if due:
        omissions += _write_holdouts(lake, day, due)
    return "; ".join(omissions) or None


def _write_holdouts(lake: Lake, day: date, campaigns: Sequence[Campaign]) -> list[str]:
    """Replace the rows of each campaign by those of the day; return why any has none."""
    try:
        secret = read_secret(purpose="holdouts of campaigns are drawn by a keyed hash")
    except UserError as error:
        return [f"holdouts of {', '.join(campaign.name for campaign in campaigns)} are left out: {error}"]
    customers = _read_customers(lake, day, {condition.column for campaign in campaigns for condition in campaign.where})
    omissions = []
    for campaign in campaigns:
        rows = hold_out(customers, campaign, day, secret)
        if not rows.num_rows:
            omissions.append(f"campaign {campaign.name} has no audience: no customer of {day} fulfils its conditions")
        lake.replace_rows(TABLE, rows, [campaign.name])
    return omissions


def _read_customers(lake: Lake, day: date, columns: set[str]) -> pl.DataFrame:
    """Return customer_id, segment_id and these columns of features.customers and scores.customer_values of the day."""
    customers = to_frame(read_rows(lake.root, Rows(ASSIGNMENTS, "customer_id", ("customer_id", "segment_id"), [day])))
    of_scores = sorted(columns & set(SCORES))
    if of_features := sorted(columns - set(SCORES)):
        types = {feature.name: feature.sql_type for feature in catalogue.FEATURES}
        schema = ", ".join(f"{column} {types.get(column, 'STRING')}" for column in of_features)
        table = Table("features.customers", "What conditions name.", f"customer_id STRING, day DATE, {schema}", "day")
        rows = read_rows(lake.root, Rows(table, "customer_id", ("customer_id", *of_features), [day]))
        customers = customers.join(to_frame(rows), "customer_id", "inner")
    if of_scores:
        rows = read_rows(lake.root, Rows(customer_values.TABLE, "customer_id", ("customer_id", *of_scores), [day]))
        customers = customers.join(to_frame(rows), "customer_id", "left")
    return customers
