"""One row per day and pair of different segments: who moved since the known day before, and their money.

Input: segments.history and features.customers. The first known day has no moves. A rerun or a late day renews the moves
of the day after it too. Moves of fewer customers than `segment.min_cell` are not told apart: they are one row of the day,
from null to null, together with as many of the next smallest as bring it to that number. So the rows of a day still add up
to all who moved. Where even all moves of a day are of fewer, the row has no money.
"""

from datetime import date
from itertools import groupby, pairwise
from operator import itemgetter

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.settings import Settings
from jobs.marts import _members, segment_changes
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    day DATE COMMENT 'Day on which the customers were in the new segment',
    previous_day DATE COMMENT 'The known day before, on which they were in the old one',
    from_segment_id INT COMMENT 'Segment on the previous day; null: a new customer',
    to_segment_id INT COMMENT 'Segment on the day; null: no longer known; both null: all moves too small to tell apart',
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


def segment_moves(changes: DataFrame, money: DataFrame, day_before: dict[date, date]) -> DataFrame:
    """marts.segment_changes, (customer_id, day, net_365d), and the known day before each day -> marts.segment_moves, however
    small."""
    days = changes.sparkSession.createDataFrame(list(day_before.items()), "day DATE, previous_day DATE")
    moved = changes.join(F.broadcast(days), "day", how="inner").withColumn(
        "money_day", F.when(F.col("to_segment_id").isNull(), F.col("previous_day")).otherwise(F.col("day"))
    )
    money = money.select("customer_id", F.col("day").alias("money_day"), "net_365d")
    with_money = moved.join(money, ["customer_id", "money_day"], how="left")
    return with_money.groupBy("day", "previous_day", "from_segment_id", "to_segment_id").agg(
        F.count("*").alias("customers"), F.sum("net_365d").cast("decimal(18,4)").alias("net_365d")
    )


def large_enough(moves: list[dict], min_cell: int) -> list[dict]:
    """The moves of a day, those of fewer customers than `min_cell` put together.

    >>> moves = [{"from_segment_id": 1, "to_segment_id": i, "customers": n, "net_365d": n} for i, n in ((2, 9), (3, 5), (4, 1))]
    >>> [(row["from_segment_id"], row["to_segment_id"], row["customers"]) for row in large_enough(moves, 5)]
    [(1, 2, 9), (None, None, 6)]
    """
    moves = sorted(moves, key=itemgetter("customers"))
    together, customers = 0, 0
    while together < len(moves) and (moves[together]["customers"] < min_cell or 0 < customers < min_cell):
        customers += moves[together]["customers"]
        together += 1
    if not together:
        return moves
    nets = [row["net_365d"] for row in moves[:together] if row["net_365d"] is not None]
    rest = moves[0] | {"from_segment_id": None, "to_segment_id": None, "customers": customers}
    return [*moves[together:], rest | {"net_365d": sum(nets) if nets and customers >= min_cell else None}]


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Publish the moves that publishing `day` brings."""
    days = _members.days_to_publish(lake, TABLE.name, day)
    day_before = {now: before for before, now in pairwise(lake.days("segments.assignments")) if now in days}
    changes = segment_changes.segment_changes(_members.history(lake, day), days)
    money = lake.read("features.customers").where(F.col("day").isin(*day_before, *day_before.values()))
    moves = sorted((row.asDict() for row in segment_moves(changes, money, day_before).collect()), key=itemgetter("day"))
    rows = [
        row for _, of_day in groupby(moves, itemgetter("day")) for row in large_enough(list(of_day), settings.segment.min_cell)
    ]
    lake.replace_days(TABLE, lake.spark.createDataFrame(rows, SCHEMA).coalesce(1), days)
