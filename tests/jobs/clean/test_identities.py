"""clean.identities: whose events a visitor's are, whatever order the days are worked on."""

from datetime import date

import pytest
from pyspark.sql import functions as F

from jobs.clean import identities, visitor_days

EVENTS = [("v", "2024-03-01 09:00", None), ("v", "2024-03-03 10:00", "anna"), ("v", "2024-03-04 10:00", "anna"),
          ("v", "2024-03-05 10:00", "bert"), ("v", "2024-03-06 08:00", None), ("w", "2024-03-06 08:00", None)]  # fmt: skip
WANTED = {
    ("2024-03-01 09:00:00", "2024-03-05 10:00:00", "anna", "back_to_first_event"),
    ("2024-03-05 10:00:00", "None", "bert", "seen"),
}


def frame(spark, rows):
    made = spark.createDataFrame(rows, "visitor_id STRING, at STRING, customer_id STRING")
    return made.select("visitor_id", F.col("at").cast("timestamp").alias("event_at"), F.to_date("at").alias("day"),
                       "customer_id", F.col("customer_id").alias("known_customer_id"))  # fmt: skip


def intervals(found):
    return {(str(r.valid_from), str(r.valid_to), r.customer_id, r.rule) for r in found.collect()}


def test_a_visitor_belongs_to_who_was_seen_last_and_back_to_its_first_event_to_who_was_seen_first(spark):
    found = identities.identities(visitor_days.visitor_days(frame(spark, EVENTS)))
    assert intervals(found) == WANTED
    resolved = identities.resolved(frame(spark, EVENTS), found).orderBy("event_at", "visitor_id").collect()
    assert [(r.customer_id, str(r.identified_on), r.signed_in) for r in resolved] == [
        ("anna", "2024-03-03", False), ("anna", "2024-03-03", True), ("anna", "2024-03-04", True),
        ("bert", "2024-03-05", True), ("bert", "2024-03-06", False), (None, "None", False),
    ]  # fmt: skip


def work_on(lake, rows):
    days = sorted({date.fromisoformat(at[:10]) for _, at, _ in rows})
    change = identities.change(lake, frame(lake.spark, rows), days)
    identities.write(lake, change)
    return [str(day) for day in change.restated]


@pytest.mark.parametrize("order", [(4, 1, 6, 3, 5)])
def test_the_order_in_which_days_are_worked_on_does_not_matter(lake, order):
    for day in order:
        work_on(lake, [e for e in EVENTS if e[1].startswith(f"2024-03-0{day}")])
    assert intervals(lake.read(identities.TABLE)) == WANTED


def test_only_days_whose_events_change_hands_are_restated_and_a_rerun_restates_none(lake):
    work_on(lake, [("v", "2024-03-01 09:00", None), ("w", "2024-03-01 09:00", None)])
    assert work_on(lake, [("v", "2024-03-03 10:00", "anna")]) == ["2024-03-01"]
    assert work_on(lake, [("v", "2024-03-04 10:00", "anna")]) == []
    assert work_on(lake, [("v", "2024-03-03 10:00", "anna")]) == []


def test_a_day_that_no_longer_shows_its_customer_gives_the_events_back(lake):
    work_on(lake, [("v", "2024-03-01 09:00", None)])
    work_on(lake, [("v", "2024-03-03 10:00", "anna")])
    assert work_on(lake, [("v", "2024-03-03 10:00", None)]) == ["2024-03-01"]
    assert intervals(lake.read(identities.TABLE)) == set()
