"""One row per customer and day: the segment with the nearest centre; dormant customers get segment 0 by rule.

Input: features.customers, encoded.customers, and the segments.definitions and segments.calibration of the day's champion.
Of two centres equally near, the one with the lower segment_id counts. An outlier keeps its nearest segment and is flagged, with
the reason.
"""

from datetime import date
from functools import partial

import pyarrow.dataset as ds

from jobs.config.settings import Settings
from jobs.engine.runner import count_buckets, open_runner
from jobs.engine.tasks import Write
from jobs.errors import UserError
from jobs.segments import _inputs, calibration, definitions
from jobs.segments._centres import Centres, assign_customers
from jobs.storage.lake import Lake
from jobs.storage.table import Table

SCHEMA = """
    customer_id STRING COMMENT 'Customer',
    day DATE COMMENT 'As of the end of this day, in the business time zone',
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
    _inputs.require_encoded(lake, version, day)
    centres = Centres.from_definitions(definition_rows, calibration_rows[0]["outlier_isolation"])
    n_rows = lake.count_rows("features.customers", [day])
    with open_runner(lake, settings, n_rows) as runner:
        opened = lake.open_for_write(TABLE)
        inputs = {"customers": _inputs.customers_of(day), "encoded": _inputs.encodings_of(day)}
        kernel = partial(assign_customers, centres=centres, version=version)
        assigned = runner.run(kernel, runner.read(inputs, count_buckets(n_rows)), {"assignments": Write(TABLE)})
        opened.commit(assigned.files["assignments"], [day])
