"""clean.events_rejects: refused and repeated events, as received."""

from datetime import date

import pyarrow as pa

from jobs.bronze import events as bronze
from jobs.config.settings import Clean
from tests.jobs.clean import kernels


def test_refused_and_repeated_events_are_kept_as_received():
    view = {"event_id": "1", "event_at": "2024-03-01 10:00:00", "visitor_id": "v", "event_type": "view", "day": date(2024, 3, 1)}
    sent = [view, view | {"event_at": "noon", "price": "free"}, view]
    origin = {"_extra": [], "_source": "shop", "_file": "file"}
    rows = [origin | {"_row": n} | row for n, row in enumerate(sent, 1)]
    raw = pa.Table.from_pylist(rows, bronze.TABLE.arrow_schema)

    rejects = kernels.classify(raw, Clean())["rejects"]

    assert [(row["_row"], row["outcome"], row["rules"]) for row in rejects.to_pylist()] == [
        (2, "reject", ["no_time"]), (3, "duplicate", ["same_id"])]  # fmt: skip
    assert rejects.select(raw.column_names).to_pylist() == raw.slice(1).to_pylist()
