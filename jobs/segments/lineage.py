"""One row per change at a retrain: which segment of the model before became which of the new one.

Input: the day's customers under the new segments.definitions, against segments.assignments under the model before.
Only customers active in both count. The first model of a lake has no row.
"""

from jobs.lake import Table

SCHEMA = """
    model_version STRING COMMENT 'The new model',
    day DATE COMMENT 'Day of the change',
    from_segment_id INT COMMENT 'Segment under the model before; null: born',
    to_segment_id INT COMMENT 'Segment under the new model; null: died',
    kind STRING COMMENT 'kept, born or died',
    n_customers BIGINT COMMENT 'kept: customers in both; born, died: customers in the segment',
    overlap DOUBLE COMMENT 'n_customers over the customers of the smaller side, 0 to 1; null for born and died'
"""
TABLE = Table(
    "segments.lineage",
    "One row per change at a retrain: what became of each segment, and where each new one comes from.",
    SCHEMA,
    checks={"known_kind": "kind IN ('kept', 'split', 'merged', 'born', 'died')"},
)
