"""One row per customer, as of the latest published day: the segment, since when, how clearly and why.

Input: features.customers, segments.assignments, segments.definitions, segments.history. Publishing a day older than
what is published changes nothing.
"""

from jobs.lake import Table

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
    reasons ARRAY<STRING> COMMENT 'Up to three features that set the customer in this segment rather than the next nearest',
    model_version STRING COMMENT 'Version of the encoder'
"""
TABLE = Table(
    "marts.customer_segments",
    "One row per customer: the segment as of the latest published day, since when, how clearly and why.",
    SCHEMA,
    checks={"has_customer": "customer_id IS NOT NULL", "segment_not_negative": "segment_id >= 0"},
)
