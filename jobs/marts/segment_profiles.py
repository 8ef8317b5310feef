"""One row per segment and day: its size, its money and its traits compared with the average active customer.

Input: features.customers, segments.assignments, segments.definitions. A segment with fewer customers than
`segment.min_cell` is not published, and neither is a smaller number of outliers.
"""

import json
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import catalogue, traits
from jobs.config.settings import Settings
from jobs.marts import _members
from jobs.storage.lake import Lake
from jobs.storage.table import Table
from jobs.traits import DORMANT, Trait

MONEY_STEP = Decimal("0.0001")  # of DECIMAL(18,4)

SCHEMA = """
    day DATE COMMENT 'As of the end of this day, UTC',
    segment_id INT COMMENT 'Segment; 0: dormant',
    segment_name STRING COMMENT 'Name of the segment',
    n_customers BIGINT COMMENT 'Customers in the segment',
    share DOUBLE COMMENT 'Share of all customers of the day, dormant ones included, 0 to 1',
    n_outliers BIGINT COMMENT 'Customers far from the centre or unlike others; null: some, but too few to publish',
    orders_365d BIGINT COMMENT 'Orders of the segment in the last 365 days',
    orders_365d_per_customer DOUBLE COMMENT 'Orders per customer',
    net_365d DECIMAL(18,4) COMMENT 'Net amount of the segment in the last 365 days, home currency',
    net_365d_per_customer DECIMAL(18,4) COMMENT 'Net amount per customer, home currency',
    net_share DOUBLE COMMENT 'Share of the net amount of all customers; null where that is not positive',
    typical_recency_days DOUBLE COMMENT 'Median of the days since the last event or order',
    traits ARRAY<STRUCT<
        feature: STRING COMMENT 'Name of the feature',
        meaning: STRING COMMENT 'What the feature says',
        typical: DOUBLE COMMENT 'Mean of the segment, in the unit of the feature',
        overall: DOUBLE COMMENT 'Mean of all active customers',
        effect: DOUBLE COMMENT '(typical - overall) / standard deviation of all active customers',
        low: DOUBLE COMMENT 'Lower end of the 95 % interval of the effect',
        high: DOUBLE COMMENT 'Upper end of the 95 % interval of the effect'
    >> COMMENT 'Differences from the average active customer, strongest first; none for dormant',
    model_version STRING COMMENT 'Version of the encoder'
"""
TABLE = Table(
    "marts.segment_profiles",
    "One row per segment and day: size, money and what marks the segment.",
    SCHEMA,
    partition="day",
    checks={"segment_not_negative": "segment_id >= 0"},
)


def profile_segments(
    members: DataFrame, names: dict[int, str], segment_traits: dict[int, list[Trait]], day: date, min_cell: int
) -> list[dict]:
    """Rows of _members.read_members(), names and traits by segment id -> rows of marts.segment_profiles."""
    sums = members.groupBy("segment_id").agg(
        F.count("*").alias("n_customers"),
        F.count_if("is_outlier").alias("n_outliers"),
        F.sum("orders_365d").alias("orders_365d"),
        F.sum("net_365d").cast("decimal(18,4)").alias("net_365d"),
        F.median("recency_days").alias("typical_recency_days"),
        F.first("model_version").alias("model_version"),
    )
    rows = [row.asDict() for row in sums.orderBy("segment_id").collect()]
    n_customers = sum(row["n_customers"] for row in rows)
    net = sum(row["net_365d"] or 0 for row in rows)
    return [
        row
        | {
            "day": day,
            "segment_name": names[row["segment_id"]],
            "n_outliers": row["n_outliers"] if row["n_outliers"] >= min_cell or row["n_outliers"] == 0 else None,
            "share": row["n_customers"] / n_customers,
            "orders_365d_per_customer": (row["orders_365d"] or 0) / row["n_customers"],
            "net_365d_per_customer": _per_customer(row["net_365d"], row["n_customers"]),
            "net_share": float((row["net_365d"] or 0) / net) if net > 0 else None,
            "traits": segment_traits.get(row["segment_id"], []),  # the dormant segment has none
        }
        for row in rows
        if row["n_customers"] >= min_cell
    ]


def _per_customer(total: Decimal | None, n: int) -> Decimal | None:
    return None if total is None else (total / n).quantize(MONEY_STEP, ROUND_HALF_EVEN)


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Publish the profiles of the day."""
    members = _members.read_members(lake, day)
    features = json.loads(lake.properties("features.customers")["shoal.vector"])
    statistics = traits.feature_statistics(members.where(F.col("segment_id") != DORMANT), features)
    segment_traits = traits.rank_traits(statistics, catalogue.FEATURES)
    names = _members.read_segment_names(lake, day)
    rows = profile_segments(members, names, segment_traits, day, settings.segment.min_cell)
    lake.replace_days(TABLE, lake.spark.createDataFrame(rows, SCHEMA).coalesce(1), [day])  # one file a day
