"""features.outcomes: one row per customer, earlier day and outcome of conf/outcomes.toml: whether it came true since.

Inputs: features.customers as of the earlier day, who is eligible and what is known of them; features.customer_days of the days
after it, as they are known on the day of the training; segments.history. Only customers who are eligible have a row, and no
account that became part of another one since: what it did counts as the other's. The table holds what the last training was
made of, and nothing of those before. A day of more than MAX_CUSTOMERS customers has a random sample of them.
"""

from collections.abc import Mapping
from datetime import date, timedelta

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.parquet

from jobs import outcome_schedule
from jobs.config.outcomes import Outcome, load_outcomes
from jobs.config.settings import Settings
from jobs.errors import UserError
from jobs.features import customer_days, customers
from jobs.features._accounts import read_accounts
from jobs.progress import log
from jobs.segment_history import segments_on
from jobs.storage.files import open_filesystem
from jobs.storage.frames import to_frame
from jobs.storage.lake import Lake
from jobs.storage.rows import Rows, read_rows
from jobs.storage.table import Table

MAX_CUSTOMERS = 100_000  # of a day, chosen by a hash: more change a model by less than its error
SCHEMA = """
    customer_id STRING NOT NULL COMMENT 'customer',
    day DATE NOT NULL COMMENT 'as of the end of this day the customer was eligible',
    outcome STRING NOT NULL COMMENT 'name in conf/outcomes.toml',
    known_on DATE NOT NULL COMMENT 'last day of the time in which the outcome counts',
    label BOOLEAN NOT NULL COMMENT 'whether it came true from the day after `day` to known_on'
"""
TABLE = Table(
    "features.outcomes", __doc__.split("\n\n")[0], SCHEMA, checks={"known_later": "known_on > day"},
)  # fmt: skip
_LABELLED = {"customer_id": pl.String, "day": pl.Date, "outcome": pl.String, "known_on": pl.Date, "label": pl.Boolean}
_CUSTOMERS = ("customer_id", "last_seen_day", "last_order_day", "order_gap_days")
_DAYS = ("customer_id", "day", "identified_on", "known_until", "orders", "net", "returned")


def label_customers(
    customers: pl.DataFrame, later: pl.DataFrame, outcome: Outcome, as_of: date, marked: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Return (customer_id, label) of the customers who are eligible as of a day, sorted by customer.

    `customers` has customer_id, last_seen_day, last_order_day, order_gap_days and segment_id as of the day; `later` has
    customer_id, day, orders, net and returned of each day after it on which a customer did something; `marked` are the rows
    (customer_id, day) of the outcome's own file.
    """
    since, days = outcome.eligible_since
    eligible = customers.filter(pl.col(since) > as_of - timedelta(days=days)).sort("customer_id")
    if outcome.label == "table":
        return _label_by_file(eligible, marked, outcome, as_of)
    eligible = eligible.with_columns(period=_derive_period(outcome) if outcome.label == "no_order" else outcome.window_days)
    in_period = (pl.col("day") - as_of).dt.total_days() <= pl.col("period")
    sums = (
        later.join(eligible.select("customer_id", "period"), "customer_id", "inner")
        .filter(in_period)
        .group_by("customer_id")
        .agg(pl.col("orders", "net", "returned").sum())
    )
    outcomes = eligible.join(sums, "customer_id", "left", maintain_order="left").with_columns(
        pl.col("orders", "net", "returned").fill_null(0)
    )
    label = {
        "no_order": pl.col("orders") <= 0,
        "order": pl.col("orders") > 0,
        "return": pl.col("returned") > 0,
        "top_net": (pl.col("net") > 0) & (pl.col("net").cast(pl.Float64) >= _quantile(outcomes["net"], 1 - outcome.top_share)),
    }[outcome.label]
    return outcomes.select("customer_id", label=label)


def _derive_period(outcome: Outcome) -> pl.Expr:
    """Return in how many days a customer is expected to order again, by their own gaps, else by those of the segment or shop."""
    gap = pl.coalesce("order_gap_days", pl.col("order_gap_days").median().over("segment_id"), pl.col("order_gap_days").median())
    days = (gap * outcome.gap_multiple).fill_null(outcome.window_days).round()
    return days.clip(min(outcome.min_period_days, outcome.window_days), outcome.window_days)


def _quantile(values: pl.Series, share: float) -> float:
    return values.cast(pl.Float64).quantile(share, "higher") if len(values) else 0.0


def _label_by_file(eligible: pl.DataFrame, marked: pl.DataFrame, outcome: Outcome, as_of: date) -> pl.DataFrame:
    """Who was marked by the day is not eligible: it has come true already."""
    earlier = marked.filter(pl.col("day") <= as_of)
    later = marked.filter(pl.col("day") > as_of, pl.col("day") <= as_of + timedelta(days=outcome.window_days))
    eligible = eligible.join(earlier, "customer_id", "anti")
    return eligible.select("customer_id", label=pl.col("customer_id").is_in(later["customer_id"].implode()))


def list_label_days(settings: Settings, day: date, retrain: bool) -> list[date]:
    """Return the earlier days of which a training of outcomes on `day` needs customers, oldest first; none where none is due."""
    if not outcome_schedule.is_fit_due(settings, day, retrain):
        return []
    return sorted({earlier for outcome in load_outcomes(settings.outcomes) for earlier in outcome.label_days(day)})


def run(lake: Lake, settings: Settings, day: date, retrain: bool) -> None:
    """Write the outcomes of the earlier days that a training on `day` needs, where one is due or `retrain` asks for it."""
    if not outcome_schedule.is_fit_due(settings, day, retrain) and lake.exists(TABLE.name):
        return
    label_days = set(list_label_days(settings, day, retrain)).intersection(lake.days(customers.TABLE.name))
    outcomes = load_outcomes(settings.outcomes) if label_days else ()
    marked = {outcome.name: _read_file(settings, outcome) for outcome in outcomes if outcome.label == "table"}
    _, accounts = read_accounts(lake, [day])
    owners = dict(accounts[day].owners) if accounts else {}
    later = _read_later_days(lake, min(label_days, default=day), day, owners)
    parts = [pl.DataFrame(schema=_LABELLED)]
    for as_of in sorted(label_days):
        eligible = _read_customers(lake, as_of, owners)
        since = later.filter(pl.col("day") > as_of)
        for outcome in outcomes:
            if as_of in outcome.label_days(day):
                labels = label_customers(eligible, since, outcome, as_of, marked.get(outcome.name))
                known_on = as_of + timedelta(days=outcome.window_days)
                labels = labels.with_columns(day=as_of, outcome=pl.lit(outcome.name), known_on=known_on)
                parts.append(labels.select(TABLE.columns))
    rows = pl.concat(parts).to_arrow().cast(TABLE.arrow_schema)
    lake.replace_rows(TABLE, rows)
    log(f"features {TABLE.name}: {rows.num_rows:,} outcomes of {len(outcomes)} kinds as of {len(label_days)} earlier days")


def _read_customers(lake: Lake, as_of: date, owners: Mapping[str, str]) -> pl.DataFrame:
    rows = to_frame(read_rows(lake.root, Rows(customers.TABLE, "customer_id", _CUSTOMERS, [as_of])))
    rows = rows.filter(~pl.col("customer_id").is_in(list(owners)))
    if len(rows) > MAX_CUSTOMERS:
        rows = rows.sort(pl.col("customer_id").hash(17), "customer_id").head(MAX_CUSTOMERS)
    return rows.join(to_frame(read_rows(lake.root, segments_on(as_of))), "customer_id", "left")


def _read_later_days(lake: Lake, first: date, day: date, owners: Mapping[str, str]) -> pl.DataFrame:
    """Return what customers did after `first` and by `day`, as it is known on `day`, a row per customer and day.

    What an account did that is part of another one on `day` counts as that one's.
    """
    days = [stored for stored in lake.days(customer_days.TABLE.name) if first < stored <= day]
    is_known = (ds.field("identified_on") <= day) & (ds.field("known_until") > day)
    rows = to_frame(read_rows(lake.root, Rows(customer_days.TABLE, "customer_id", _DAYS, days, where=is_known)))
    rows = rows.with_columns(pl.col("customer_id").replace(owners)) if owners else rows
    return rows.group_by("customer_id", "day").agg(pl.col("orders", "net", "returned").sum())


def _read_file(settings: Settings, outcome: Outcome) -> pl.DataFrame:
    """Return the rows (customer_id, day) of the file of an outcome. Raises UserError for a file that cannot be read so."""
    place = f"features: {settings.outcomes}: {outcome.name}: file {outcome.file}"
    try:
        filesystem, base = open_filesystem(settings.input)
        with filesystem.open_input_file(f"{base}/{outcome.file}") as file:
            read = pa.parquet.read_table if outcome.file.endswith(".parquet") else pa.csv.read_csv
            table = read(file)
        columns = {"customer_id": table[outcome.customer].cast(pa.string()), "day": table[outcome.date].cast(pa.date32())}
    except KeyError as error:
        raise UserError(f"{place} has no column {error}; the keys `customer` and `date` name them") from None
    except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"{place} cannot be read: {str(error).splitlines()[0]}") from None
    return to_frame(pa.table(columns)).drop_nulls()
