"""clean.sessions: the rules as examples, and the same sessions however the days are cut into runs."""

from datetime import timedelta

import pytest
from pyspark.sql import functions as F

from jobs.clean import events, sessions
from jobs.settings import Clean
from jobs.source import COLUMNS
from tests.jobs.clean import scenarios

ONE_HOUR_AT_MOST = Clean(session_max_hours=1)


@pytest.fixture(scope="module")
def kept(spark):
    judged = events.judged(scenarios.raw_frame(spark, "sessions", COLUMNS["events"], "event_at"), "GBP")
    frame = events.with_bots(judged.where("outcome = 'kept'").drop("rules", "outcome"), Clean(), False)
    frame = frame.localCheckpoint()
    yield frame.withColumn("identified_on", F.lit(None).cast("date"))


@pytest.fixture(scope="module")
def by_case(kept):
    whole = events.with_sessions(kept, _no_tail(kept), ONE_HOUR_AT_MOST)
    return scenarios.by_case(sessions.sessions(whole))


@pytest.mark.parametrize("case", scenarios.cases("sessions"))
def test_sessions_become_what_the_example_says(by_case, case):
    scenarios.assert_rows(by_case.get(case, []), scenarios.read("sessions", case, "expected"))


def test_a_day_that_follows_its_eve_has_the_sessions_of_both_at_once(kept):
    whole = events.with_sessions(kept, _no_tail(kept), ONE_HOUR_AT_MOST)
    eve = events.with_sessions(kept.where("day = '2024-03-01'"), _no_tail(kept), ONE_HOUR_AT_MOST)
    late = eve.where(F.col("event_at") >= F.lit("2024-03-02").cast("timestamp") - F.lit(timedelta(minutes=30)))
    after = events.with_sessions(kept.where("day = '2024-03-02'"), late, ONE_HOUR_AT_MOST)
    ids = [{(r.event_at, r.session_id) for r in frame.collect()} for frame in (whole, eve, after)]
    assert ids[0] == ids[1] | ids[2]
    assert len(ids[2]) == 2


def _no_tail(kept):
    return kept.limit(0).selectExpr("visitor_id", "event_at", "event_at AS active_since", "event_at AS session_started_at")
