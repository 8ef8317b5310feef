"""One row per day and pair of different segments: the customers who moved since the known day before, and their money.

Input: segments.history and features.customers. The first known day has no moves. A rerun or a late day also writes the moves of
the next known day. Moves of fewer customers than `segment.min_cell` are published together: they are one row of the day, from
null to null, with as many of the next smallest moves as it takes to reach that number. So the rows of a day still add up to all
customers who moved. Where all moves of a day together are fewer, the row has no money.
"""

from datetime import date
from itertools import groupby, pairwise
from operator import itemgetter

import duckdb
import pyarrow as pa

from jobs.config.settings import Settings
from jobs.marts import _members, segment_changes
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    day DATE COMMENT 'Day on which the customers were in the new segment',
    previous_day DATE COMMENT 'The known day before, on which they were in the old segment',
    from_segment_id INT COMMENT 'Segment on the previous day; null: a new customer',
    to_segment_id INT COMMENT 'Segment on the day; null: no longer known; both null: all moves too small to publish alone',
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


_MOVES = """
    SELECT changes.day, previous_day, from_segment_id, to_segment_id, count(*) AS customers,
        CAST(sum(net_365d) AS DECIMAL(18,4)) AS net_365d
    FROM changes
    INNER JOIN days USING (day)
    LEFT JOIN money
        ON money.customer_id = changes.customer_id AND money.day = if(to_segment_id IS NULL, previous_day, changes.day)
    GROUP BY ALL
    ORDER BY ALL
"""


def sum_moves(changes: pa.Table, money: pa.Table, day_before: dict[date, date]) -> list[dict]:
    """Return the rows of marts.segment_moves, small ones included, in the order of days.

    `changes` are those of segment_changes.list_changes(), `money` is (customer_id, day, net_365d) of their customers.
    `day_before` holds the known day before each day; changes of other days are left out. About 1 µs of CPU a row.
    """
    dates = pa.schema({"day": pa.date32(), "previous_day": pa.date32()})
    days = pa.table([list(day_before), list(day_before.values())], schema=dates)
    with duckdb.connect() as connection:  # not the shared one, which serves one thread
        for name, rows in {"changes": changes, "money": money, "days": days}.items():
            connection.register(name, rows)
        return connection.sql(_MOVES).to_arrow_table().to_pylist()


def merge_small_moves(moves: list[dict], min_cell: int) -> list[dict]:
    """Return the moves of a day, those of fewer than `min_cell` customers merged into one.

    >>> moves = [{"from_segment_id": 1, "to_segment_id": i, "customers": n, "net_365d": n} for i, n in ((2, 9), (3, 5), (4, 1))]
    >>> [(row["from_segment_id"], row["to_segment_id"], row["customers"]) for row in merge_small_moves(moves, 5)]
    [(1, 2, 9), (None, None, 6)]
    """
    moves = sorted(moves, key=itemgetter("customers"))
    n_merged, customers = 0, 0
    while n_merged < len(moves) and (moves[n_merged]["customers"] < min_cell or 0 < customers < min_cell):
        customers += moves[n_merged]["customers"]
        n_merged += 1
    if not n_merged:
        return moves
    nets = [row["net_365d"] for row in moves[:n_merged] if row["net_365d"] is not None]
    merged = moves[0] | {"from_segment_id": None, "to_segment_id": None, "customers": customers}
    return [*moves[n_merged:], merged | {"net_365d": sum(nets) if nets and customers >= min_cell else None}]


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Write the moves of `day`, and of the other days that publishing it affects."""
    days = _members.days_to_publish(lake, TABLE.name, day)
    day_before = {later: earlier for earlier, later in pairwise(lake.days("segments.assignments")) if later in days}
    changes = segment_changes.read_changes(lake, day, list(day_before))
    days_of_money = {*day_before, *day_before.values()}
    money = _members.read_rows(_members.scan_customers(lake, days_of_money, ["customer_id", "day", "net_365d"]))
    moves = sum_moves(changes, money, day_before)
    min_cell = settings.segment.min_cell
    rows = [row for _, of_day in groupby(moves, itemgetter("day")) for row in merge_small_moves(list(of_day), min_cell)]
    lake.replace_rows(TABLE, pa.Table.from_pylist(rows, TABLE.arrow_schema), days)
