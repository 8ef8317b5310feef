"""One row per segment at a retrain: what became of each of the model before, and where each new one comes from.

Input: the day's customers under the new segments.definitions, against segments.assignments under the model before.
Only customers active in both count. A new segment most of whose customers were in one that lives on was split from it; one
that is gone and most of whose customers are in one now was merged into it. The first model of a lake has no row.
"""

from datetime import date

import pyarrow.dataset as ds

from jobs.config.settings import Segment, Settings
from jobs.segments import _centres, _inputs, _matching, definitions
from jobs.storage.lake import Lake
from jobs.storage.table import Table, quote_sql
from jobs.traits import DORMANT

SCHEMA = """
    model_version STRING COMMENT 'The new model',
    day DATE COMMENT 'Day of the change',
    from_segment_id INT COMMENT 'Segment under the model before; null: born',
    to_segment_id INT COMMENT 'Segment under the new model; null: died',
    kind STRING COMMENT 'kept, split, merged, born or died',
    n_customers BIGINT COMMENT 'kept, split, merged: customers in both; born, died: customers in the segment',
    overlap DOUBLE COMMENT 'n_customers over those of the smaller side (kept), the new (split) or the old (merged), 0 to 1'
"""
TABLE = Table(
    "segments.lineage",
    "One row per change at a retrain: what became of each segment, and where each new one comes from.",
    SCHEMA,
    checks={"known_kind": "kind IN ('kept', 'split', 'merged', 'born', 'died')"},
)


def lineage(shared: _matching.Shared, version: str, day: date, segment: Segment) -> list[dict]:
    """Customers by (segment before, segment under `version`), None for not there -> rows of segments.lineage."""
    both = {pair: n for pair, n in shared.items() if None not in pair and DORMANT not in pair}
    before = {old for old, _ in shared} - {None, DORMANT}
    now = {new for _, new in shared} - {None, DORMANT}
    rows = []
    for segment_id in sorted(before | now):
        # Of those active on both sides: whom it held before, and whom it holds now.
        was = {new: n for (old, new), n in both.items() if old == segment_id}
        holds = {old: n for (old, new), n in both.items() if new == segment_id}
        if segment_id in before and segment_id in now:
            n, smaller = was.get(segment_id, 0), min(sum(was.values()), sum(holds.values()))
            row = ("kept", segment_id, segment_id, n, n / smaller if smaller else None)
        elif segment_id in now:
            parent = _main(holds, segment.moved_share)
            if parent in now:
                row = ("split", parent, segment_id, holds[parent], holds[parent] / sum(holds.values()))
            else:
                row = ("born", None, segment_id, sum(n for pair, n in shared.items() if pair[1] == segment_id), None)
        else:
            heir = _main(was, segment.moved_share)
            if heir is not None:
                row = ("merged", segment_id, heir, was[heir], was[heir] / sum(was.values()))
            else:
                row = ("died", segment_id, None, sum(n for pair, n in shared.items() if pair[0] == segment_id), None)
        rows.append(dict(zip(("kind", "from_segment_id", "to_segment_id", "n_customers", "overlap"), row, strict=True)))
    return [{"model_version": version, "day": day} | row for row in rows]


def _main(counts: dict[int, int], share: float) -> int | None:
    """The segment with most customers, where it has at least this share of them; the lower id of equals.

    >>> _main({2: 30, 3: 20}, 0.5), _main({2: 30, 3: 20}, 0.7), _main({}, 0.5)
    (2, None, None)
    """
    largest = min(counts, key=lambda segment_id: (-counts[segment_id], segment_id), default=None)
    return largest if largest is not None and counts[largest] >= share * sum(counts.values()) else None


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Tell what the day's new model made of the segments before; a day without a new model adds nothing.

    Runs before segments.assignments, whose rows of the day may still be those of the model before.
    """
    version = _inputs.champion_version(settings, day)
    of_model = ds.field("model_version") == version
    defined = lake.read_small_table(definitions.TABLE, where=of_model)
    if not defined or defined[0]["fitted_on"] != day or lake.read_small_table(TABLE, where=of_model):
        return
    before = _matching.before(lake, version, day)
    if before is None:
        return
    now = _centres.nearest(_inputs.known_customers(lake, version, day), _centres.from_definitions(defined))
    rows = lineage(_matching.shared_customers(before, now), version, day, settings.segment)
    lake.replace(TABLE, lake.spark.createDataFrame(rows, SCHEMA), f"model_version = {quote_sql(version)}")
