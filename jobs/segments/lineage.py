"""One row per segment at a retrain: what became of each previous segment, and where each new one comes from.

Input: the day's customers under the new segments.definitions, and segments.assignments under the previous model. Only
customers active in both count. A new segment was split from a previous one that still exists and held most of its customers. A
previous segment that is gone was merged into the new one that holds most of its customers. The first model of a lake has no
row.
"""

from datetime import date

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.config.settings import Segment, Settings
from jobs.segments import _inputs, _matching, definitions
from jobs.segments._centres import Centres, assign_customers
from jobs.storage.lake import Lake
from jobs.storage.rows import read_rows
from jobs.storage.table import Table
from jobs.traits import DORMANT

SCHEMA = """
    model_version STRING COMMENT 'The new model',
    day DATE COMMENT 'Day of the change',
    from_segment_id INT COMMENT 'Segment under the previous model; null: born',
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


def trace_lineage(shared: _matching.SharedCustomers, version: str, day: date, segment: Segment) -> list[dict]:
    """Return the rows of segments.lineage for `version`, from the customers by pair of previous and new segment."""
    pairs = _matching.select_active_pairs(shared)
    previous_ids = {previous for previous, _ in shared} - {None, DORMANT}
    new_ids = {new for _, new in shared} - {None, DORMANT}
    rows = []
    for segment_id in sorted(previous_ids | new_ids):
        went_to = {new: n for (previous, new), n in pairs.items() if previous == segment_id}
        came_from = {previous: n for (previous, new), n in pairs.items() if new == segment_id}
        if segment_id in previous_ids and segment_id in new_ids:
            n, smaller = went_to.get(segment_id, 0), min(sum(went_to.values()), sum(came_from.values()))
            row = ("kept", segment_id, segment_id, n, n / smaller if smaller else None)
        elif segment_id in new_ids:
            parent = _majority(came_from, segment.moved_share)
            if parent in new_ids:
                row = ("split", parent, segment_id, came_from[parent], came_from[parent] / sum(came_from.values()))
            else:
                row = ("born", None, segment_id, sum(n for pair, n in shared.items() if pair[1] == segment_id), None)
        else:
            heir = _majority(went_to, segment.moved_share)
            if heir is not None:
                row = ("merged", segment_id, heir, went_to[heir], went_to[heir] / sum(went_to.values()))
            else:
                row = ("died", segment_id, None, sum(n for pair, n in shared.items() if pair[0] == segment_id), None)
        rows.append(dict(zip(("kind", "from_segment_id", "to_segment_id", "n_customers", "overlap"), row, strict=True)))
    return [{"model_version": version, "day": day} | row for row in rows]


def _majority(counts: dict[int, int], share: float) -> int | None:
    """Return the segment with most customers, where it has at least this share of them; of two equal ones the lower id.

    >>> _majority({2: 30, 3: 20}, 0.5), _majority({2: 30, 3: 20}, 0.7), _majority({}, 0.5)
    (2, None, None)
    """
    largest = min(counts, key=lambda segment_id: (-counts[segment_id], segment_id), default=None)
    return largest if largest is not None and counts[largest] >= share * sum(counts.values()) else None


def run(lake: Lake, settings: Settings, day: date) -> None:
    """Write what became of the previous segments under the day's new model; a day without a new model adds nothing.

    Runs before segments.assignments, whose rows of the day may still be those of the previous model.
    """
    version = _inputs.champion_version(settings, day)
    of_model = ds.field("model_version") == version
    definition_rows = lake.read_small_table(definitions.TABLE, where=of_model)
    if not definition_rows or definition_rows[0]["fitted_on"] != day or lake.read_small_table(TABLE, where=of_model):
        return
    previous = _matching.read_previous_assignments(lake, version, day)
    if previous is None:
        return
    shared = _matching.count_shared_customers(previous, _assign(lake, version, day, Centres.from_definitions(definition_rows)))
    rows = trace_lineage(shared, version, day, settings.segment)
    lake.replace_where(TABLE, pa.Table.from_pylist(rows, TABLE.arrow_schema), of_model)


def _assign(lake: Lake, version: str, day: date, centres: Centres) -> pa.Table:
    """Return (customer_id, segment_id) of all customers of the day under the new segments."""
    _inputs.require_encoded(lake, version, day)
    tables = {
        "customers": read_rows(lake.root, _inputs.customers_of(day)),
        "encoded": read_rows(lake.root, _inputs.encodings_of(day)),
    }
    return assign_customers(tables, centres, version)["assignments"].select(["customer_id", "segment_id"])
