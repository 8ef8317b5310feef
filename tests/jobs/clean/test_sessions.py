"""clean.sessions: the rules as examples, and the same sessions in whatever order the days are cleaned."""

from datetime import date

import pytest
from pyspark.sql import functions as F

from jobs.clean import events, sessions
from jobs.clean._session_days import assign_sessions_and_robots, assign_sessions_of_days
from jobs.config.settings import Clean
from jobs.config.source_mapping import COLUMNS
from tests.jobs.clean import scenarios

ONE_HOUR_AT_MOST = Clean(session_max_hours=1)


@pytest.fixture(scope="module")
def kept(spark):
    outcomes = events.classify_events(scenarios.raw_frame(spark, "sessions", COLUMNS["events"], "event_at"), "GBP", 60)
    frame = events.flag_bots(outcomes.where("outcome = 'kept'").drop("rules", "outcome"), Clean(), ())
    frame = frame.localCheckpoint()
    yield frame.withColumn("identified_on", F.lit(None).cast("date"))


@pytest.fixture(scope="module")
def by_case(kept):
    in_sessions = events.assign_sessions(kept, _no_open_sessions(kept), ONE_HOUR_AT_MOST).withColumn("is_bot", F.lit(False))
    return scenarios.by_case(sessions.sessions(in_sessions))


@pytest.mark.parametrize("case", scenarios.cases("sessions"))
def test_sessions_match_the_example(by_case, case):
    scenarios.assert_rows(by_case.get(case, []), scenarios.read("sessions", case, "expected"))


def _no_open_sessions(kept):
    return kept.limit(0).selectExpr("visitor_id", "event_at", "event_at AS active_since", "event_at AS session_started_at")


def test_days_cleaned_in_another_order_have_the_same_sessions(spark, lake):
    """A visitor stays for three days, in sessions of up to two; the day on which it came is cleaned last."""
    limits = Clean(session_max_hours=48)
    days = [date(2024, 3, n) for n in (1, 2, 3)]
    fresh = spark.sql("""
        SELECT 'stays' AS visitor_id, at AS event_at FROM
            (SELECT explode(sequence(TIMESTAMP'2024-03-01 00:10', TIMESTAMP'2024-03-03 02:10', INTERVAL 20 MINUTES)) AS at)
        UNION ALL SELECT 'comes', explode(array(TIMESTAMP'2024-03-01 23:50', TIMESTAMP'2024-03-02 00:10'))""")
    fresh = fresh.selectExpr(
        "*", "to_date(event_at) AS day", "string(event_at) AS event_id", "'view' AS event_type", "false AS signed_in",
        *(f"CAST(NULL AS {kind}) AS {name}" for name, kind in _LEFT_OUT.items()),
    ).localCheckpoint()  # fmt: skip

    def run(lake, days):
        in_sessions, later = assign_sessions_of_days(lake, fresh.where(F.col("day").isin(*days)), days, limits)
        lake.replace_days(events.TABLE, in_sessions.select(*events.TABLE.columns), [*days, *later])
        sessions.run(lake, [*days, *later], limits)
        return later

    assert run(lake, days[1:]) == []
    assert run(lake, days[:1]) == days[1:]
    at_once = assign_sessions_and_robots(fresh, _no_open_sessions(fresh), limits).select(*events.TABLE.columns)
    for table, expected in ((events.TABLE, at_once), (sessions.TABLE, sessions.sessions(at_once))):
        actual = lake.read(table).select(*sorted(table.columns))
        assert sorted(map(str, actual.collect())) == sorted(map(str, expected.select(*actual.columns).collect()))
    stays = lake.read(sessions.TABLE).where("visitor_id = 'stays'").orderBy("started_at").collect()
    assert [(str(s.day), s.n_events, s.was_cut) for s in stays] == [("2024-03-01", 144, False), ("2024-03-03", 7, True)]
    assert assign_sessions_of_days(lake, fresh.where("day = '2024-03-01'"), days[:1], limits)[1] == []


_LEFT_OUT = {
    **dict.fromkeys(("customer_id", "product_id", "category", "currency", "search_term", "page", "device", "country"), "STRING"),
    **{"channel": "STRING", "bot_rule": "STRING", "price": "DECIMAL(18,4)", "identified_on": "DATE"},
    **{"clock_skew_seconds": "DOUBLE", "shared_since": "DATE", "former_customer_id": "STRING"},
}
