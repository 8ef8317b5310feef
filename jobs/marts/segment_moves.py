"""One row per day and pair of different segments: who moved since the known day before, and their money.

Input: segments.assignments and features.customers. The first known day has no moves. A rerun of an earlier day renews
the moves of the day after it too.
"""

from jobs.lake import Table

SCHEMA = """
    day DATE COMMENT 'Day on which the customers were in the new segment',
    previous_day DATE COMMENT 'The known day before, on which they were in the old one',
    from_segment_id INT COMMENT 'Segment on the previous day; null: a new customer',
    to_segment_id INT COMMENT 'Segment on the day; null: the customer is no longer known',
    customers BIGINT COMMENT 'Customers who moved',
    net_365d DECIMAL(18,4) COMMENT 'Their net amount in the 365 days up to day (null segment: up to previous_day), home currency'
"""
TABLE = Table(
    "marts.segment_moves",
    "One row per day and pair of segments between which customers moved since the known day before.",
    SCHEMA,
    partition="day",
    checks={"some_customers": "customers > 0"},
)
