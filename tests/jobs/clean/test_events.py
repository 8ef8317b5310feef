"""clean.events: every rule as an example, and robots by behaviour and by name."""

import pytest

from jobs.clean import _rows, events
from jobs.settings import Clean
from jobs.source import COLUMNS
from tests.jobs.clean import scenarios


@pytest.fixture(scope="module")
def outcome(spark):
    """(kept rows, refused rows) by case, all cases in one go."""
    raw = scenarios.raw_frame(spark, "events", COLUMNS["events"], "event_at")
    judged = events.judged(raw, "GBP").persist()
    refused = scenarios.by_case(_rows.rejects(judged, raw, events.REJECTS))
    found = scenarios.by_case(judged.where("outcome = 'kept'")), refused
    judged.unpersist()
    return found


@pytest.mark.parametrize("case", scenarios.cases("events"))
def test_events_become_what_the_example_says(outcome, case):
    kept, refused = outcome
    scenarios.assert_rows(kept.get(case, []), scenarios.read("events", case, "expected"))
    scenarios.assert_rows(refused.get(case, []), scenarios.read("events", case, "refused"))


def test_robots_are_flagged_by_their_rule_and_people_are_not(spark):
    """A crawler by its name in any case, a visitor without pauses, one that never stops; a person with many items at once."""
    rows = [("crawler", "2024-03-01 10:00:00", "mozilla headlesschrome/120")]
    rows += [("fast", f"2024-03-01 10:{n // 60:02}:{n % 60:02}", "Firefox") for n in range(12)]
    rows += [("tireless", f"2024-03-01 {n // 60:02}:{n % 60:02}:00", "Firefox") for n in range(25)]
    rows += [("person", "2024-03-01 10:00:00", "Firefox")] * 30
    frame = spark.createDataFrame(rows, "visitor_id STRING, at STRING, user_agent STRING").selectExpr(
        "visitor_id", "CAST(at AS TIMESTAMP) AS event_at", "user_agent", "DATE'2024-03-01' AS day"
    )
    limits = Clean(bot_events_per_day=20, bot_pause_seconds=1.0, bot_pause_events=10)
    flagged = events.with_bots(frame, limits, True).groupBy("visitor_id").agg({"bot_rule": "max"}).collect()
    assert {row[0]: row[1] for row in flagged} == {
        "crawler": "user_agent", "fast": "no_human_pause", "tireless": "rate", "person": None,
    }  # fmt: skip
