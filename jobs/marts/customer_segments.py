"""One row per customer, as of the latest published day: the segment, since when, how clearly and why.

Input: features.customers, segments.assignments, segments.definitions, segments.history. Publishing a day older than
what is published changes nothing.
"""

import functools
import json
from collections.abc import Iterator
from datetime import date

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import lake as lakes
from jobs import traits
from jobs.lake import Lake, Table
from jobs.marts import _members
from jobs.settings import Settings
from jobs.traits import DORMANT, Statistics

REASONS = 3
REASON_SDS = 0.25  # nearer to this segment than to the runner-up by at least this many standard deviations

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    segment_id INT COMMENT 'Segment; keeps its meaning over time; 0: dormant',
    segment_name STRING COMMENT 'Name of the segment, unique per day',
    since_day DATE COMMENT 'First day of the present stay in the segment',
    previous_segment_id INT COMMENT 'Segment before the present one; null: none',
    as_of_day DATE COMMENT 'Nothing after the end of this day (UTC) is in this row',
    recency_days BIGINT COMMENT 'Days since the last event or order; null: never any',
    orders_365d BIGINT COMMENT 'Orders in the last 365 days',
    net_365d DECIMAL(18,4) COMMENT 'Net amount of the orders of the last 365 days, home currency',
    confidence DOUBLE COMMENT 'How clearly the customer belongs to the segment rather than to the next nearest: 0 to 1',
    reasons ARRAY<STRING> COMMENT 'Up to three features that speak for this segment rather than the next nearest',
    model_version STRING COMMENT 'Version of the encoder'
"""
TABLE = Table(
    "marts.customer_segments",
    "One row per customer: the segment as of the latest published day, since when, how clearly and why.",
    SCHEMA,
    checks={"has_customer": "customer_id IS NOT NULL", "segment_not_negative": "segment_id >= 0"},
)


def customer_segments(
    members: DataFrame, definitions: DataFrame, stays: DataFrame, statistics: Statistics, day: date
) -> DataFrame:
    """members as from _members.members(), stays as from stays() -> marts.customer_segments as of `day`."""
    named = members.join(
        F.broadcast(definitions.select("segment_id", F.col("name").alias("segment_name"))), "segment_id", "inner"
    )
    known = named.join(stays, "customer_id", how="left")
    rows = known.select(*_CARRIED, "runner_up_id", "vector")
    return rows.mapInArrow(functools.partial(_reasoned, statistics), _REASONED).select(
        "customer_id",
        "segment_id",
        "segment_name",
        "since_day",
        "previous_segment_id",
        F.lit(day).alias("as_of_day"),
        "recency_days",
        "orders_365d",
        "net_365d",
        # the rule for dormant customers leaves no doubt
        F.when(F.col("segment_id") == DORMANT, F.lit(1.0)).otherwise(F.col("margin")).alias("confidence"),
        "reasons",
        "model_version",
    )


def stays(history: DataFrame, day: date) -> DataFrame:
    """segments.history -> (customer_id, since_day, previous_segment_id) of the stay that holds on `day`."""
    begun = history.where(F.col("valid_from") <= F.lit(day))
    holds = F.col("valid_to").isNull() | (F.col("valid_to") > F.lit(day))
    by_customer = begun.groupBy("customer_id").agg(
        F.max(F.when(holds, F.col("valid_from"))).alias("since_day"),
        F.max_by(F.when(~holds, F.col("segment_id")), F.when(~holds, F.col("valid_from"))).alias("previous_segment_id"),
    )
    return by_customer.where("since_day IS NOT NULL")


_CARRIED = (
    "customer_id", "segment_id", "segment_name", "since_day", "previous_segment_id", "recency_days", "orders_365d",
    "net_365d", "margin", "model_version",
)  # fmt: skip
_REASONED = """
    customer_id STRING, segment_id INT, segment_name STRING, since_day DATE, previous_segment_id INT,
    recency_days BIGINT, orders_365d BIGINT, net_365d DECIMAL(18,4), margin DOUBLE, model_version STRING,
    reasons ARRAY<STRING>
"""


def _reasoned(statistics: Statistics, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        reasons = pa.array(_reasons(statistics, batch), pa.list_(pa.string()))
        yield pa.RecordBatch.from_arrays([batch[name] for name in _CARRIED] + [reasons], names=[*_CARRIED, "reasons"])


def _reasons(statistics: Statistics, batch: pa.RecordBatch) -> list[list[str]]:
    reasons = [_dormant_for(days) for days in batch["recency_days"].to_pylist()]
    rows = np.flatnonzero(batch["segment_id"].to_numpy() != DORMANT)
    if len(rows) == 0:
        return reasons
    of = {segment_id: row for row, segment_id in enumerate(statistics.segment_ids)}
    active = batch.take(pa.array(rows))
    values = active["vector"].flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(rows), -1)
    own = statistics.mean[[of[i] for i in active["segment_id"].to_pylist()]]
    # A runner-up without members has no typical values, and so gives no reasons.
    unknown = np.full_like(statistics.overall_mean, np.nan)
    others = active["runner_up_id"].to_pylist()
    other = np.stack([statistics.mean[of[i]] if i in of else unknown for i in others])
    with np.errstate(divide="ignore", invalid="ignore"):
        nearer = (np.abs(values - other) - np.abs(values - own)) / statistics.overall_sd
    nearer = np.where(np.isfinite(nearer), nearer, 0.0)
    strongest = np.argsort(-nearer, axis=1, kind="stable")[:, :REASONS]
    for at, row in enumerate(rows):
        reasons[row] = [
            f"{statistics.features[j]} {traits.number(values[at, j])} (typical here {traits.number(own[at, j])}, "
            f"in the runner-up {traits.number(other[at, j])})"
            for j in strongest[at]
            if nearer[at, j] >= REASON_SDS
        ]
    return reasons


def _dormant_for(days: int | None) -> list[str]:
    return ["no event or order on record" if days is None else f"no event or order for {days:,} days"]


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Publish the day, unless a later one is published."""
    published = max((of for (of,) in lake.count(TABLE.name, ["as_of_day"])), default=day)
    if published > day:
        lakes.log(f"kept  {TABLE.name}: {published} is published, {day} is older")
        return
    members = _members.members(lake, day)
    names = json.loads(lakes.read_properties(lake.path("features.customers"))["shoal.vector"])
    statistics = traits.statistics(members.where(F.col("segment_id") != DORMANT), names)
    stays_of_day = stays(lake.read("segments.history"), day)
    version, _ = _members.assigned(lake, day)
    definitions = lake.read("segments.definitions").where(F.col("model_version") == version)
    frame = customer_segments(members, definitions, stays_of_day, statistics, day)
    lake.replace(TABLE, frame.repartition(1).sortWithinPartitions("customer_id"))
