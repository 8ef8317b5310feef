"""One row per customer and day: the segment with the nearest centre; dormant customers get segment 0 by rule.

Input: features.customers, encoded.customers and the segments.definitions of the day's champion. Ties go to the lower
segment_id. An outlier keeps its nearest segment and is flagged.
"""

from jobs.lake import Table

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    day DATE COMMENT 'As of the end of this day, UTC',
    segment_id INT COMMENT 'Segment; 0: dormant',
    distance DOUBLE COMMENT 'Euclidean distance from the centre of the segment; null for dormant',
    runner_up_id INT COMMENT 'Segment with the second nearest centre; null for dormant',
    margin DOUBLE COMMENT '1 - distance / distance from the runner-up: 0 on the border, 1 at the centre; null for dormant',
    is_outlier BOOLEAN COMMENT 'Farther from the centre than the outlier distance of the segment; false for dormant',
    model_version STRING COMMENT 'Version of the encoder'
"""
TABLE = Table(
    "segments.assignments",
    "One row per customer and day: the segment a customer belongs to and how clearly.",
    SCHEMA,
    partition="day",
    checks={"has_customer": "customer_id IS NOT NULL", "segment_not_negative": "segment_id >= 0"},
)
