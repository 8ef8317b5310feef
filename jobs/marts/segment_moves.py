"""One row per day and pair of different segments: who moved since the known day before, and their money.

Input: segments.assignments and features.customers. The first known day has no moves. A rerun of an earlier day renews
the moves of the day after it too.
"""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.errors import UserError
from jobs.lake import Lake, Table, union
from jobs.settings import Settings

SCHEMA = """
    day DATE COMMENT 'Day on which the customers were in the new segment',
    previous_day DATE COMMENT 'The known day before, on which they were in the old one',
    from_segment_id INT COMMENT 'Segment on the previous day; null: a new customer',
    to_segment_id INT COMMENT 'Segment on the day; null: the customer is no longer known',
    customers BIGINT COMMENT 'Customers who moved',
    net_365d DECIMAL(18,4) COMMENT 'Their net amount in the 365 days up to day (no longer known: to previous_day)'
"""
TABLE = Table(
    "marts.segment_moves",
    "One row per day and pair of segments between which customers moved since the known day before.",
    SCHEMA,
    partition="day",
    checks={"some_customers": "customers > 0"},
)


def segment_moves(before: DataFrame, now: DataFrame, money: DataFrame, previous_day: date, day: date) -> DataFrame:
    """(customer_id, segment_id) of two days, (customer_id, day, net_365d) of both -> marts.segment_moves of `day`."""
    pairs = before.select("customer_id", F.col("segment_id").alias("from_segment_id")).join(
        now.select("customer_id", F.col("segment_id").alias("to_segment_id")), "customer_id", how="full_outer"
    )
    moved = pairs.where("from_segment_id IS DISTINCT FROM to_segment_id").withColumn(
        "money_day", F.when(F.col("to_segment_id").isNull(), F.lit(previous_day)).otherwise(F.lit(day))
    )
    money = money.select("customer_id", F.col("day").alias("money_day"), "net_365d")
    with_money = moved.join(money, ["customer_id", "money_day"], how="left")
    return with_money.groupBy("from_segment_id", "to_segment_id").agg(
        F.count("*").alias("customers"), F.sum("net_365d").cast("decimal(18,4)").alias("net_365d")
    ).select(
        F.lit(day).alias("day"), F.lit(previous_day).alias("previous_day"), "from_segment_id", "to_segment_id",
        "customers", "net_365d",
    )  # fmt: skip


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Publish the moves into `day`, and those into the known day after it, whose day before is `day`."""
    days = lake.days("segments.assignments")
    if day not in days:
        raise UserError(f"publish: segments.assignments has no rows on {day}; run first: shoal segment --day {day}")
    at = days.index(day)
    pairs = [(days[i - 1], days[i]) for i in (at, at + 1) if 0 < i < len(days)]
    frames = [
        segment_moves(
            lake.read("segments.assignments", before, before),
            lake.read("segments.assignments", now, now),
            lake.read("features.customers").where(F.col("day").isin(before, now)),
            before,
            now,
        )
        for before, now in pairs
    ]
    nothing = lake.spark.createDataFrame([], SCHEMA)  # the first known day has no moves, whatever an earlier run said
    lake.replace_days(TABLE, union([nothing, *frames]).coalesce(1), {day, *(now for _, now in pairs)})
