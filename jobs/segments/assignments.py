"""One row per customer and day: the segment with the nearest centre; dormant customers get segment 0 by rule.

Input: features.customers, encoded.customers, and the segments.definitions and segments.calibration of the day's champion.
Of two centres equally near, the one with the lower segment_id counts. An outlier keeps its nearest segment and is flagged, with
the reason.
"""

from datetime import date

import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config.settings import Settings
from jobs.engine.workers import user_errors
from jobs.errors import UserError
from jobs.segments import _inputs, calibration, definitions
from jobs.segments._centres import Centres, find_nearest
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    day DATE COMMENT 'As of the end of this day, UTC',
    segment_id INT COMMENT 'Segment; 0: dormant',
    distance DOUBLE COMMENT 'Euclidean distance from the centre of the segment; null for dormant',
    runner_up_id INT COMMENT 'Segment with the second nearest centre; null for dormant',
    margin DOUBLE COMMENT '1 - distance / distance of the runner-up: 0: on the border, 1: at the centre; null: dormant',
    is_outlier BOOLEAN COMMENT 'By distance from the centre, or by isolation score; false for dormant',
    model_version STRING COMMENT 'Version of the encoder',
    outlier_reason STRING COMMENT 'Far from the segment, unlike other customers, or both; null: no outlier'
"""
TABLE = Table(
    "segments.assignments",
    "One row per customer and day: the segment a customer belongs to and how clearly.",
    SCHEMA,
    partition="day",
    checks={"has_customer": "customer_id IS NOT NULL", "segment_not_negative": "segment_id >= 0"},
)


def assign_segments(customers: DataFrame, centres: Centres, version: str) -> DataFrame:
    """(customer_id, day, is_active, vector, isolation_score) -> segments.assignments under the model `version`."""
    return find_nearest(customers, centres).withColumn("model_version", F.lit(version)).select(*TABLE.columns)


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Assign the customers of the day to the segments of the day's champion.

    Raises UserError where the champion has no centres or an active customer has no vector; nothing is written then.
    """
    version = _inputs.champion_version(settings, day)
    of_model = ds.field("model_version") == version
    definition_rows, calibration_rows = (
        lake.read_small_table(table, where=of_model) for table in (definitions.TABLE, calibration.TABLE)
    )
    if not definition_rows or not calibration_rows:
        raise UserError(
            f"segment: segments.definitions or segments.calibration lacks model {version}; run again: shoal segment --day {day}"
        )
    customers = _inputs.read_customers(lake, version, day)
    centres = Centres.from_definitions(definition_rows, calibration_rows[0]["outlier_isolation"])
    with user_errors():
        lake.replace_days(TABLE, assign_segments(customers, centres, version), [day])
