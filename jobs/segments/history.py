"""One row per customer and interval: the segment a customer was in, and from when to when.

Input: segments.assignments. An interval begins on the first day it held and ends on the first known day on which it no
longer did; days without a refresh lie within the interval that was open before them. A customer's intervals never
overlap. A customer that a known day lacks has no interval on that day.
"""

from jobs.lake import Table

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    segment_id INT COMMENT 'Segment; 0: dormant',
    valid_from DATE COMMENT 'First day it held',
    valid_to DATE COMMENT 'First day it no longer held; null while it does',
    model_version STRING COMMENT 'Model that was champion on the first day'
"""
TABLE = Table(
    "segments.history",
    "One row per customer and interval of days in one segment.",
    SCHEMA,
    checks={"forward": "valid_to IS NULL OR valid_to > valid_from", "segment_not_negative": "segment_id >= 0"},
)
