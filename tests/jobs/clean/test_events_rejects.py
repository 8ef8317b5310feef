"""clean.events_rejects: refused and repeated events, as received."""

from datetime import date

from jobs.bronze import events as bronze
from jobs.clean import events, events_rejects
from jobs.config.settings import Clean
from tests.jobs.clean.rejects import landed, read_as_received


def test_refused_and_repeated_events_are_kept_as_received(spark):
    view = {"event_id": "1", "event_at": "2024-03-01 10:00:00", "visitor_id": "v", "event_type": "view", "day": date(2024, 3, 1)}
    raw = landed(spark, bronze.TABLE, view, view | {"event_at": "noon", "price": "free"}, view)
    classified = events.classify_events(raw, "GBP", Clean().clock_skew_seconds)
    assert read_as_received(raw, classified, events_rejects.TABLE) == [
        (2, "reject", ["no_time"]),
        (3, "duplicate", ["same_id"]),
    ]
