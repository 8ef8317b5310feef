"""One row per segment and day: its size, its money and what marks it against the average active customer.

Input: features.customers, segments.assignments, segments.definitions. A segment with fewer customers than
`segment.min_cell` is not published.
"""

from jobs.lake import Table

SCHEMA = """
    day DATE COMMENT 'As of the end of this day, UTC',
    segment_id INT COMMENT 'Segment; 0: dormant',
    segment_name STRING COMMENT 'Name of the segment',
    n_customers BIGINT COMMENT 'Customers in the segment',
    share DOUBLE COMMENT 'Share of all customers of the day, dormant ones included, 0 to 1',
    n_outliers BIGINT COMMENT 'Customers far from the centre of the segment',
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
    >> COMMENT 'What differs from the average active customer, strongest first',
    model_version STRING COMMENT 'Version of the encoder'
"""
TABLE = Table(
    "marts.segment_profiles",
    "One row per segment and day: size, money and what marks the segment.",
    SCHEMA,
    partition="day",
    checks={"segment_not_negative": "segment_id >= 0"},
)
