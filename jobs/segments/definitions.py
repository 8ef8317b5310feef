"""One row per segment and model: what a segment is, from the day the model was first clustered on.

Input: encoded.customers and features.customers of that day, the chosen k of segments.candidates, and the assignments
under the model before. A cluster that shares at least half of the customers of the smaller side with a live segment
keeps its id; any other gets an id never used before. Segment 0, dormant, is given by rule and has no centre.
"""

from jobs.lake import Table

SCHEMA = """
    segment_id INT COMMENT 'Keeps its meaning across models; 0 is dormant, clusters start at 1',
    model_version STRING COMMENT 'Version of the encoder in whose space the centre lies',
    name STRING COMMENT 'Short, unique within the model, from what marks the segment',
    description STRING COMMENT 'What the name rests on, with numbers',
    center ARRAY<FLOAT> COMMENT 'Centre in the space of the model; null for dormant',
    radius DOUBLE COMMENT 'Mean distance of the members from the centre at the fit; null for dormant',
    outlier_distance DOUBLE COMMENT 'A member farther from the centre than this is an outlier; null for dormant',
    n_customers BIGINT COMMENT 'Members at the fit',
    fitted_on DATE COMMENT 'Day whose customers were clustered',
    born_on DATE COMMENT 'First day the segment existed, under whichever model',
    retired_on DATE COMMENT 'First day it no longer did; null while it lives'
"""
TABLE = Table(
    "segments.definitions",
    "One row per segment and model: name, description, centre and life span of a segment.",
    SCHEMA,
    checks={"segment_not_negative": "segment_id >= 0"},
)
