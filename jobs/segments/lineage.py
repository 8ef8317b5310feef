"""One row per change at a retrain: which segment of the model before became which of the new one.

Input: the day's customers under the new segments.definitions, against segments.assignments under the model before.
Only customers active in both count. The first model of a lake has no row.
"""

from datetime import date

import pyarrow.dataset as ds

from jobs.lake import Lake, Table, quoted
from jobs.segments import _centres, _inputs, _matching, definitions
from jobs.settings import Settings
from jobs.traits import DORMANT

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


def lineage(shared: _matching.Shared, version: str, day: date) -> list[dict]:
    """Customers by (segment before, segment under `version`), None for not there -> rows of segments.lineage."""
    both = {pair: n for pair, n in shared.items() if None not in pair and DORMANT not in pair}
    before = {old for old, _ in shared} - {None, DORMANT}
    now = {new for _, new in shared} - {None, DORMANT}
    rows = []
    for segment_id in sorted(before | now):
        if segment_id in before and segment_id in now:
            n = both.get((segment_id, segment_id), 0)
            sides = [sum(m for pair, m in both.items() if pair[side] == segment_id) for side in (0, 1)]
            row = ("kept", segment_id, segment_id, n, n / min(sides) if min(sides) else None)
        elif segment_id in now:
            row = ("born", None, segment_id, sum(m for pair, m in shared.items() if pair[1] == segment_id), None)
        else:
            row = ("died", segment_id, None, sum(m for pair, m in shared.items() if pair[0] == segment_id), None)
        rows.append(dict(zip(("kind", "from_segment_id", "to_segment_id", "n_customers", "overlap"), row, strict=True)))
    return [{"model_version": version, "day": day} | row for row in rows]


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Tell what the day's new model made of the segments before; a day without a new model adds nothing.

    Runs before segments.assignments, whose rows of the day may still be those of the model before.
    """
    version = _inputs.champion_version(settings, day)
    of_model = ds.field("model_version") == version
    defined = lake.look_up(definitions.TABLE, where=of_model)
    if not defined or defined[0]["fitted_on"] != day or lake.look_up(TABLE, where=of_model):
        return
    before = _matching.before(lake, version, day)
    if before is None:
        return
    now = _centres.nearest(_inputs.known_customers(lake, version, day), _centres.from_definitions(defined))
    rows = lineage(_matching.shared_customers(before, now), version, day)
    lake.replace(TABLE, lake.spark.createDataFrame(rows, SCHEMA), f"model_version = {quoted(version)}")
